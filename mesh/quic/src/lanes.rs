//! The entry's lane connections: one per egress, organization and lane, kept warm and shared by
//! all flows.

mod dial;
mod request;
mod stream;

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use quinn::{Connection, ConnectionError};
use rap_mesh_core::{
    View,
    ended::{Close, DONE},
    paths::{Candidate, PathBook},
};
use rap_proto::{
    Lane, NodeId, OrganizationId, RefusalCode, observation::EndReason, wire::hop::FLOW_TTL_MS,
};

use tokio_util::sync::CancellationToken;

pub(crate) use request::{Flow, open_flow};

use crate::{
    LaneStatus, Path,
    hops::RelayedFlow,
    mesh::{Mesh, close, code, locked},
    pool::{Pool, Pooled},
    watch::until,
};

/// The most lane connections of one entry.
const MAX_LANES: usize = 2048;
/// A lane that carried no flow for this long is closed.
const LANE_UNUSED: Duration = Duration::from_secs(600);
/// A relayed flow is refreshed several times in its life.
const ATTEND_EVERY: Duration = Duration::from_millis(FLOW_TTL_MS / 3);

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct LaneKey {
    pub(crate) egress: NodeId,
    /// Tenants share no connection: one's queue is not another's delay.
    pub(crate) organization: OrganizationId,
    pub(crate) lane: Lane,
}

pub(crate) struct Lanes {
    pool: Pool<LaneKey, Arc<LaneConnection>>,
    paths: Mutex<PathBook>,
    streams: stream::Streams,
}

pub(crate) struct LaneConnection {
    key: LaneKey,
    connection: Connection,
    candidate: Candidate,
    relayed: Option<RelayedFlow>,
    /// New flows go elsewhere; running ones stay.
    retired: CancellationToken,
    open_flows: AtomicUsize,
    /// [`rap_proto::Moment`] in microseconds.
    last_used: AtomicU64,
}

impl Pooled for Arc<LaneConnection> {
    fn is_usable(&self) -> bool {
        !self.retired.is_cancelled() && self.connection.close_reason().is_none()
    }
}

impl Default for Lanes {
    fn default() -> Self {
        Self {
            pool: Pool::new(MAX_LANES),
            paths: Mutex::default(),
            streams: stream::Streams::default(),
        }
    }
}

impl Lanes {
    /// What failed may work at other addresses.
    pub(crate) fn apply(&self, before: &View, view: &View) {
        if !before.same_peers(view) {
            locked(&self.paths).clear();
            self.streams.clear();
        }
    }

    /// Whether there is no lane connection, and every way to make one failed a short while ago.
    fn is_unreachable(&self, mesh: &Mesh, key: LaneKey) -> bool {
        let view = mesh.view();
        let Some(peer) = view.peer(key.egress) else { return false };
        let relays = view.relays(key.organization).map(|relay| relay.node);
        let relays = relays.filter(|relay| *relay != view.node);
        let now = mesh.clock.moment();
        let plan = locked(&self.paths).untried(now, view.node, key.egress, &peer.addresses, relays);
        plan.is_empty() && !self.pool.ready().iter().any(|(ready, _)| *ready == key)
    }

    /// Flows on TLS connections of their own.
    pub(crate) fn streams(&self) -> usize {
        self.streams.open()
    }

    pub(crate) fn status(&self) -> Vec<LaneStatus> {
        let lanes = self.pool.ready().into_iter();
        lanes.map(|(_, lane)| lane.status()).collect()
    }
}

impl LaneConnection {
    fn status(&self) -> LaneStatus {
        let LaneKey { egress, organization, lane } = self.key;
        let path = match self.candidate {
            Candidate::Direct(address) => Path::Direct { address },
            Candidate::Relay(relay) => Path::Relayed { relay },
        };
        LaneStatus { egress, organization, lane, path, rtt: self.connection.rtt() }
    }

    fn retire(&self, mesh: &Mesh) {
        self.retired.cancel();
        locked(&mesh.lanes.paths).failed(mesh.clock.moment(), self.key.egress, self.candidate);
    }

    fn is_unused(&self, mesh: &Mesh) -> bool {
        let last = rap_proto::Moment::from_micros(self.last_used.load(Ordering::Relaxed));
        self.open_flows.load(Ordering::Relaxed) == 0
            && mesh.clock.moment().since(last) >= LANE_UNUSED
    }
}

/// Looks after a lane until its connection is gone.
async fn attend(mesh: Arc<Mesh>, lane: Arc<LaneConnection>) {
    let error = tokio::select! {
        error = lane.connection.closed() => error,
        () = leave_when_asked(&mesh, &lane) => lane.connection.closed().await,
        () = distrusted(&mesh, &lane) => lane.connection.closed().await,
        () = keep(&mesh, &lane) => lane.connection.closed().await,
    };
    if matches!(error, ConnectionError::TimedOut | ConnectionError::Reset) {
        tracing::info!(egress = %lane.key.egress, lane = %lane.key.lane, "lane lost");
        lane.retire(&mesh);
    }
    mesh.lanes.pool.remove_if(lane.key, |pooled| Arc::ptr_eq(pooled, &lane));
}

async fn leave_when_asked(mesh: &Mesh, lane: &LaneConnection) {
    mesh.leaving.cancelled().await;
    // Flows first learn why they end; see `entry`.
    while lane.open_flows.load(Ordering::Relaxed) > 0 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    lane.connection.close(code(DONE), b"");
}

/// Ends a lane to a node, or over a relay, that the view no longer trusts.
async fn distrusted(mesh: &Mesh, lane: &LaneConnection) {
    let relay = lane.relayed.as_ref().map(|flow| flow.relay);
    until(mesh, |view, _| {
        let trusted = |node| view.peer(node).is_some();
        (!trusted(lane.key.egress) || !relay.is_none_or(trusted)).then_some(())
    })
    .await;
    close(&lane.connection, Close::Refused(RefusalCode::PeerNotTrusted));
}

/// Refreshes the flow at the relay, retires the lane when the relay is lost, and closes the lane
/// when nobody has used it for long.
async fn keep(mesh: &Mesh, lane: &LaneConnection) {
    let mut ticks = tokio::time::interval(ATTEND_EVERY);
    ticks.tick().await;
    let hop_lost = async {
        match &lane.relayed {
            Some(flow) => flow.hop_lost().await,
            None => std::future::pending().await,
        }
    };
    tokio::pin!(hop_lost);
    let mut hop_is_lost = false;
    loop {
        tokio::select! {
            flow_is_gone = &mut hop_lost, if !hop_is_lost => {
                hop_is_lost = true;
                lane.retire(mesh);
                if flow_is_gone {
                    // Better now than after a long silence.
                    close(&lane.connection, Close::Ended(EndReason::PathLost));
                    return;
                }
            }
            _ = ticks.tick() => {
                if lane.is_unused(mesh) {
                    lane.connection.close(code(DONE), b"");
                    return;
                }
                if let Some(flow) = &lane.relayed && flow.refresh().await.is_err() {
                    lane.retire(mesh);
                }
            }
        }
    }
}
