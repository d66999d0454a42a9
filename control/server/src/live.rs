//! What nodes said of themselves lately. It is not history and not authority: losing it costs a
//! heartbeat's time.

use std::{collections::BTreeMap, sync::Mutex};

use rap_control_core::access::{Live, Liveness};
use rap_proto::{NodeId, Timestamp, api::NodeLive, bus::Heartbeat};

/// The most nodes that are remembered.
pub(crate) const MAX_LIVE_NODES: usize = 100_000;

#[derive(Debug, Default)]
pub(crate) struct LiveNodes(Mutex<BTreeMap<NodeId, NodeLive>>);

impl LiveNodes {
    pub(crate) fn heard(&self, node: NodeId, heartbeat: &Heartbeat, at: Timestamp) {
        let mut nodes = self.lock();
        if nodes.len() >= MAX_LIVE_NODES && !nodes.contains_key(&node) {
            let oldest = nodes.iter().min_by_key(|(_, live)| live.last_seen).map(|(id, _)| *id);
            oldest.and_then(|id| nodes.remove(&id));
        }
        let live = NodeLive {
            last_seen: at,
            snapshot_version: heartbeat.snapshot_version,
            open_sessions: heartbeat.open_sessions,
            draining: heartbeat.draining,
        };
        nodes.insert(node, live);
    }

    pub(crate) fn get(&self, node: NodeId) -> Option<NodeLive> {
        self.lock().get(&node).cloned()
    }

    /// As the access decision wants it.
    pub(crate) fn liveness(&self) -> Liveness {
        let seen = |live: &NodeLive| Live {
            seen_at: live.last_seen,
            snapshot_version: live.snapshot_version,
            draining: live.draining,
        };
        self.lock().iter().map(|(node, live)| (*node, seen(live))).collect()
    }

    /// How many were heard at or after `since`.
    pub(crate) fn heard_since(&self, since: Timestamp) -> usize {
        self.lock().values().filter(|live| live.last_seen >= since).count()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<NodeId, NodeLive>> {
        self.0.lock().expect("no holder of the lock panics")
    }
}
