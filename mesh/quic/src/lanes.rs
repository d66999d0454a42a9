//! The entry's lane connections: one per egress, organization and lane, kept warm and shared by
//! all flows.

pub(crate) mod answer;
mod carriers;
pub(crate) mod chains;
mod dial;
mod drive;
mod hole;
mod measured;
mod moves;
mod offers;
mod probe;
mod request;
mod resume;
mod socket;
mod stream;
mod way;

use std::{
    sync::{
        Arc, Mutex, Weak,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use quinn::{Connection, ConnectionError, Endpoint};
use rap_mesh_core::{
    View,
    carrier::Carrier,
    ended::{Close, DONE},
    holes,
    lane_path::Standing,
    paths::{Candidate, PathBook},
};
use rap_proto::{Lane, NodeId, OrganizationId, RefusalCode, SessionId};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

pub(crate) use carriers::Metered;
pub use dial::lane_endpoint;
pub use measured::MeasuredFlow;
pub(crate) use moves::{Member, Through};
pub(crate) use request::{Flow, Newest, open_flow};
pub(crate) use way::{Egress, Way, find_way};

use crate::{
    CarrierStatus, LaneStatus, MoveStatus, Path,
    carried::CarriedFlows,
    congestion::Steering,
    mesh::{Mesh, close, code, locked},
    pipe::Store,
    pool::{Pool, Pooled},
    relays::Use,
    watch::until,
};
use drive::PathDriver;
use socket::LaneSocket;

/// The most lane connections of one entry.
const MAX_LANES: usize = 2048;
/// A lane that carried no flow for this long is closed.
const LANE_UNUSED: Duration = Duration::from_secs(600);
/// How often a lane's use is looked at.
const ATTEND_EVERY: Duration = Duration::from_secs(5);
/// How long the far end gets to hear that a lane was closed.
const CLOSE_LINGER: Duration = Duration::from_secs(1);

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
    movers: moves::Movers,
    choices: carriers::Choices,
    store: Arc<Store>,
}

pub(crate) struct LaneConnection {
    key: LaneKey,
    connection: Connection,
    /// The connection's own.
    endpoint: Endpoint,
    socket: Arc<LaneSocket>,
    steering: Steering,
    carried: Mutex<Carried>,
    /// New flows go elsewhere.
    retired: CancellationToken,
    open_flows: AtomicUsize,
    /// Of those flows the ones that can go on elsewhere.
    lasting: Arc<CarriedFlows>,
    /// [`rap_proto::Moment`] in microseconds.
    last_used: AtomicU64,
}

/// What carries a lane at the moment.
#[derive(Debug, Clone, Copy)]
struct Carried {
    candidate: Candidate,
    standing: Standing,
    hole: holes::Standing,
}

impl Carried {
    fn over(candidate: Candidate) -> Self {
        let standing =
            Standing { switches: 0, last_switch: None, recovery: None, not_better: false };
        Self { candidate, standing, hole: holes::Standing::default() }
    }
}

impl Pooled for Arc<LaneConnection> {
    fn is_usable(&self) -> bool {
        !self.retired.is_cancelled() && self.connection.close_reason().is_none()
    }
}

/// Which ways to an egress are tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ways {
    /// Those that did not fail a short while ago, without chains: another egress can be asked.
    Likely,
    All,
}

impl Ways {
    fn of(self, mut order: Vec<Candidate>) -> Vec<Candidate> {
        if self == Self::Likely {
            order.retain(|way| !matches!(way, Candidate::Chain(_)));
        }
        order
    }
}

impl Lanes {
    /// Counts a through flow of a session among those that move to better paths.
    pub(crate) fn join(
        &self,
        mesh: &Arc<Mesh>,
        key: LaneKey,
        (session, flow): (SessionId, Weak<dyn Through>),
        over: Candidate,
    ) -> Member {
        let movable = moves::Movable::Through(flow);
        self.movers.join((mesh, key), (session, movable), over)
    }

    pub(crate) fn new(store: Store) -> Self {
        Self {
            pool: Pool::new(MAX_LANES),
            paths: Mutex::default(),
            streams: stream::Streams::default(),
            movers: moves::Movers::default(),
            choices: carriers::Choices::default(),
            store: Arc::new(store),
        }
    }

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
        if view.peer(key.egress).is_none() {
            return false;
        }
        let relays = view.relays(key.organization).map(|(relay, _)| relay);
        let relays = relays.filter(|relay| *relay != view.node).map(Candidate::Relay);
        let order = mesh.relays.order(&view, Use::New, key, mesh.clock.now());
        let chains = order.into_iter().filter(|way| matches!(way, Candidate::Chain(_)));
        let (now, ways) = (mesh.clock.moment(), relays.chain(chains));
        let plan = locked(&self.paths).untried(now, key.egress, view.direct_to(key.egress), ways);
        plan.is_empty() && !self.pool.ready().iter().any(|(ready, _)| *ready == key)
    }

    /// Flows on TLS connections of their own.
    pub(crate) fn streams(&self) -> usize {
        self.streams.open()
    }

    /// How flows on TCP connections of their own moved to other paths.
    pub(crate) fn moves(&self) -> MoveStatus {
        self.movers.status()
    }

    /// Which carriers flows take, and why.
    pub(crate) fn carriers(&self, mesh: &Mesh) -> Vec<CarrierStatus> {
        self.choices.status(mesh)
    }

    /// The client of this session showed another token: its flows may ask egresses again.
    pub(crate) fn refreshed(&self, mesh: &Mesh, session: SessionId) {
        self.movers.refreshed(mesh, session);
    }

    /// Closes every lane at once, whoever uses it.
    pub(crate) fn close(&self, why: Close) {
        for (_, lane) in self.pool.ready() {
            close(&lane.connection, why);
        }
    }

    pub(crate) fn status(&self) -> Vec<LaneStatus> {
        let lanes = self.pool.ready().into_iter();
        lanes.map(|(_, lane)| lane.status()).collect()
    }
}

impl LaneConnection {
    fn status(&self) -> LaneStatus {
        let LaneKey { egress, organization, lane } = self.key;
        let Carried { candidate, standing, hole } = self.carried();
        let path = match candidate {
            Candidate::Direct(address) => Path::Direct { address },
            Candidate::Relay(relay) => Path::Relayed { relay },
            Candidate::Chain(chain) => Path::Chained { chain },
        };
        LaneStatus {
            egress,
            organization,
            lane,
            path,
            rtt: self.connection.rtt(),
            switches: standing.switches,
            last_switch: standing.last_switch,
            recovery: standing.recovery,
            refused_datagrams: self.socket.refused(),
            hole,
        }
    }

    fn carried(&self) -> Carried {
        *locked(&self.carried)
    }

    fn carry(&self, change: impl FnOnce(&mut Carried)) {
        change(&mut locked(&self.carried));
    }

    /// Sends new flows elsewhere, and of the running ones those that can go.
    fn retire(&self, mesh: &Mesh) {
        self.retired.cancel();
        self.lasting.lose();
        let candidate = self.carried().candidate;
        locked(&mesh.lanes.paths).failed(mesh.clock.moment(), self.key.egress, candidate);
    }

    fn is_unused(&self, mesh: &Mesh) -> bool {
        let last = rap_proto::Moment::from_micros(self.last_used.load(Ordering::Relaxed));
        self.open_flows.load(Ordering::Relaxed) == 0
            && mesh.clock.moment().since(last) >= LANE_UNUSED
    }
}

/// Looks after a lane until its connection is gone.
async fn attend(mesh: Arc<Mesh>, lane: Arc<LaneConnection>, driver: PathDriver) {
    let error = tokio::select! {
        biased;
        error = lane.connection.closed() => error,
        () = leave_when_asked(&mesh, &lane) => lane.connection.closed().await,
        () = distrusted(&mesh, &lane) => lane.connection.closed().await,
        () = unused(&mesh, &lane) => lane.connection.closed().await,
        never = driver.run() => match never {},
    };
    if matches!(error, ConnectionError::TimedOut | ConnectionError::Reset) {
        tracing::info!(egress = %lane.key.egress, lane = %lane.key.lane, "lane lost");
        lane.retire(&mesh);
    }
    mesh.lanes.pool.remove_if(lane.key, |pooled| Arc::ptr_eq(pooled, &lane));
    let over = lane.carried().candidate;
    mesh.path_changed(moves::part(lane.key, Carrier::Quic), (Some(over), None));
    // The endpoint goes with the lane, and with it whatever it has not sent.
    let _ = timeout(CLOSE_LINGER, lane.endpoint.wait_idle()).await;
}

async fn leave_when_asked(mesh: &Mesh, lane: &LaneConnection) {
    mesh.leaving.cancelled().await;
    // Flows first learn why they end; see `entry`.
    while lane.open_flows.load(Ordering::Relaxed) > 0 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    lane.connection.close(code(DONE), b"");
}

/// Ends a lane to a node that the view no longer trusts.
async fn distrusted(mesh: &Mesh, lane: &LaneConnection) {
    until(mesh, |view, _| view.peer(lane.key.egress).is_none().then_some(())).await;
    close(&lane.connection, Close::Refused(RefusalCode::PeerNotTrusted));
}

/// Closes the lane when nobody has used it for long.
async fn unused(mesh: &Mesh, lane: &LaneConnection) {
    let mut ticks = tokio::time::interval(ATTEND_EVERY);
    while !lane.is_unused(mesh) {
        ticks.tick().await;
    }
    lane.connection.close(code(DONE), b"");
}
