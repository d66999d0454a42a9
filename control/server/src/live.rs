//! What nodes said of themselves lately. It is not history and not authority: losing it costs a
//! heartbeat's time.

use std::{collections::BTreeMap, sync::Mutex};

use rap_control_core::access::{Live, Liveness};
use rap_proto::{NodeId, Timestamp, api::NodeLive, bus::Heartbeat};

/// The most nodes that are remembered.
pub(crate) const MAX_LIVE_NODES: usize = 100_000;

#[derive(Debug)]
pub(crate) struct LiveNodes {
    limit: usize,
    nodes: Mutex<BTreeMap<NodeId, NodeLive>>,
}

impl LiveNodes {
    /// Remembers at most `limit` nodes; the one that spoke longest ago is forgotten first.
    pub(crate) fn new(limit: usize) -> Self {
        Self { limit, nodes: Mutex::default() }
    }

    pub(crate) fn heard(&self, node: NodeId, heartbeat: &Heartbeat, at: Timestamp) {
        let mut nodes = self.lock();
        if nodes.len() >= self.limit && !nodes.contains_key(&node) {
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

    /// Of one node, as decisions want it.
    pub(crate) fn live(&self, node: NodeId) -> Option<Live> {
        self.lock().get(&node).map(seen)
    }

    /// Of all.
    pub(crate) fn liveness(&self) -> Liveness {
        self.lock().iter().map(|(node, live)| (*node, seen(live))).collect()
    }

    /// How many were heard at or after `since`.
    pub(crate) fn heard_since(&self, since: Timestamp) -> usize {
        self.lock().values().filter(|live| live.last_seen >= since).count()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<NodeId, NodeLive>> {
        self.nodes.lock().expect("no holder of the lock panics")
    }
}

fn seen(live: &NodeLive) -> Live {
    Live {
        seen_at: live.last_seen,
        snapshot_version: live.snapshot_version,
        draining: live.draining,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn so_many_nodes_are_remembered_and_the_quietest_is_forgotten_first() {
        let live = LiveNodes::new(2);
        let at = |seconds: i64| Timestamp::from_unix_millis(seconds * 1000);
        let [first, second, third] = [1, 2, 3].map(NodeId::from_u128);
        let heartbeat = Heartbeat {
            agent_version: String::new(),
            snapshot_version: 1,
            snapshot_digest: None,
            capabilities: BTreeSet::new(),
            open_sessions: 0,
            draining: false,
        };
        live.heard(first, &heartbeat, at(1));
        live.heard(second, &heartbeat, at(2));
        live.heard(first, &heartbeat, at(3));
        assert_eq!(live.heard_since(at(0)), 2, "whoever is known takes no other place");
        live.heard(third, &heartbeat, at(4));
        assert_eq!(live.get(second), None);
        assert_eq!(live.get(first).map(|live| live.last_seen), Some(at(3)));
        assert_eq!(live.liveness().into_keys().collect::<Vec<_>>(), [first, third]);
    }
}
