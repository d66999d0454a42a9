//! The relay: flows of other nodes' datagrams, and streams of their bytes, set up over
//! authenticated hops and forwarded blind.

mod asker;
mod batch;
mod forward;
mod heartbeats;
mod looks;
mod onward;
mod place;
mod reachable;
mod socket;
mod stream;
mod turns;

use std::{
    collections::BTreeMap,
    io,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex},
    time::Duration,
};

use quinn::{Connection, ConnectionError};
use rap_mesh_core::{
    Caller, View,
    admission::{admit_set_up, flow_may_continue, may_stay_connected},
    bounds,
    busy::{Busy, MachineTimes, SAMPLE_EVERY, most_for_one},
    carrier::Carrier,
    ended::Close,
    flows::{FlowTable, Limits},
    refusals::refusal,
};
use rap_proto::{
    Lane, NodeId, RefusalCode,
    observation::EndReason,
    wire::hop::{Reply, Request},
};
use tokio::{sync::mpsc, task::JoinSet};
use tokio_util::task::AbortOnDropHandle;

use crate::{
    clock::Clock,
    frames::{HELLO_TIMEOUT, read_frame_within, say_last},
    hops::HOP_REPLY_TIMEOUT,
    mesh::{Mesh, close, locked},
    pipe::{Inlet, Outlet},
    status::RelayedStatus,
    tcp::{Secured, refuse},
    tls::caller,
    transport::adjust_accepted_hop,
    watch::{catch_up, until},
};
use asker::{Asker, decide};
use forward::Forwarding;
pub(crate) use heartbeats::NEXT_HEARTBEAT_WITHIN;
pub(crate) use looks::Looks;
use place::Place;
use reachable::CALL_WAIT;
pub(crate) use reachable::Reachable;
use socket::FlowSocket;
use stream::Tickets;
pub(crate) use stream::join;
pub(crate) use turns::drive;
use turns::{Carried, Turns};

/// How often flows are looked at for their end.
const SWEEP_EVERY: Duration = SAMPLE_EVERY;
/// How long a set-up waits for a newer snapshot.
const CATCH_UP_WAIT: Duration = Duration::from_millis(500);
/// What is left of the asker's patience for everything but waiting.
const ANSWER_MARGIN: Duration = Duration::from_millis(400);
const _: () = assert!(
    CATCH_UP_WAIT.as_millis() + CALL_WAIT.as_millis() + ANSWER_MARGIN.as_millis()
        < HOP_REPLY_TIMEOUT.as_millis(),
    "who asks would give up before it is answered"
);

/// INVARIANT: every flow that runs, and every stream that a ticket waits for, is in the table; what
/// the table drops is stopped at once.
pub(crate) struct Relay {
    state: Mutex<State>,
    turns: Arc<Turns>,
}

struct State {
    table: FlowTable,
    running: BTreeMap<u64, Running>,
    tickets: Tickets,
    busy: Busy,
}

struct Running {
    /// `None` is a stream.
    forwarding: Option<Arc<Forwarding>>,
    // Stops the forwarding when dropped.
    _task: AbortOnDropHandle<()>,
}

impl Relay {
    pub(crate) fn new(limits: bounds::Limits, clock: Clock) -> Self {
        let table = FlowTable::new(Limits::RELAY);
        Self {
            state: Mutex::new(State {
                table,
                running: BTreeMap::new(),
                tickets: Tickets::default(),
                busy: Busy::default(),
            }),
            turns: Arc::new(Turns::new(limits, clock)),
        }
    }

    /// What was forwarded, dropped and held back since the start.
    pub(crate) fn forwarded(&self) -> RelayedStatus {
        self.turns.status()
    }

    pub(crate) fn flows(&self) -> usize {
        locked(&self.state).running.len()
    }

    pub(crate) fn know_machine(&self, times: MachineTimes) {
        locked(&self.state).busy.sample_machine(times);
    }

    /// Ends the flows that a view does not allow, and forwards no more than it lets the node pass.
    pub(crate) fn apply(&self, mesh: &Mesh, view: &View) {
        self.turns.apply(view.bandwidth.node);
        let now = mesh.clock.now();
        let mut state = locked(&self.state);
        let over = state.table.retain(|flow| flow_may_continue(view, flow, now));
        state.stop(&over);
    }

    /// Ends the flows of a node that has left: it is not there to close them one by one, and they
    /// would be held, and refreshed behind this relay, until their time is over.
    fn leave_off(&self, asker: NodeId) {
        let mut state = locked(&self.state);
        let over = state.table.retain(|flow| flow.asker != asker);
        state.stop(&over);
    }

    pub(crate) fn clear(&self) {
        let mut state = locked(&self.state);
        let over = state.table.retain(|_| false);
        state.stop(&over);
    }

    fn sweep(&self, mesh: &Mesh) {
        let forwarded = self.forwarded().bytes;
        let mut state = locked(&self.state);
        let now = mesh.clock.moment();
        let State { table, running, tickets, busy } = &mut *state;
        busy.sample(now, forwarded);
        for (id, flow) in running.iter() {
            match &flow.forwarding {
                Some(forwarding) => table.used(forwarding.last_used(), *id),
                None => table.keep(now, *id),
            }
        }
        for id in tickets.expire(now) {
            table.remove(id);
        }
        let over = table.expire(now);
        state.stop(&over);
    }
}

impl State {
    /// The turns of a flow that has its place, and what it counts for.
    fn carry(&self, turns: &Arc<Turns>, flow: u64) -> Result<Carried, RefusalCode> {
        let found = self.table.flow(flow).ok_or(RefusalCode::PathUnavailable)?;
        turns.begin(flow, found.lane, found.whose()).map_err(|_| RefusalCode::LimitReached)
    }

    fn stop(&mut self, over: &[u64]) {
        for id in over {
            tracing::debug!(flow = id, "relayed flow ended");
            self.running.remove(id);
            self.tickets.forget(*id);
        }
    }
}

/// Ends flows whose time is over, for as long as the node runs.
pub(crate) async fn sweep(mesh: Arc<Mesh>) {
    let mut ticks = tokio::time::interval(SWEEP_EVERY);
    loop {
        tokio::select! {
            biased;
            () = mesh.leaving.cancelled() => return,
            _ = ticks.tick() => {
                mesh.relay.sweep(&mesh);
                mesh.relay.apply(&mesh, &mesh.view());
            }
        }
    }
}

/// Serves one hop connection until it is gone or its node is no longer trusted.
pub(crate) async fn serve(mesh: Arc<Mesh>, connection: Connection) {
    adjust_accepted_hop(&connection);
    let Some(caller) = caller(&connection) else {
        mesh.refused(RefusalCode::PeerNotTrusted, None);
        return close(&connection, Close::Refused(RefusalCode::PeerNotTrusted));
    };
    let distrusted = until(&mesh, |view, _| (!may_stay_connected(view, &caller)).then_some(()));
    tokio::pin!(distrusted);
    let mut requests = JoinSet::new();
    let proven = connection.remote_address().ip().to_canonical();
    loop {
        tokio::select! {
            biased;
            () = &mut distrusted => {
                mesh.refused(RefusalCode::PeerNotTrusted, None);
                return close(&connection, Close::Refused(RefusalCode::PeerNotTrusted));
            }
            () = mesh.leaving.cancelled() => return,
            Some(_) = requests.join_next() => {}
            stream = connection.accept_bi() => match stream {
                Ok((send, recv)) => {
                    let (send, recv) = (Outlet::Quic(send), Inlet::Quic(recv));
                    let origin = Origin::of(&connection, proven);
                    requests.spawn(answer(mesh.clone(), caller, origin, send, recv));
                }
                Err(ended) => {
                    if left(&ended) {
                        mesh.relay.leave_off(caller.node);
                    }
                    return;
                }
            },
        }
    }
}

/// Whether the other side said that its node leaves, or wants nothing of this one any more. A connection
/// that is merely lost is made again.
fn left(ended: &ConnectionError) -> bool {
    let ConnectionError::ApplicationClosed(close) = ended else { return false };
    matches!(
        Close::from_code(close.error_code.into_inner()),
        Some(Close::Ended(EndReason::NodeLeft) | Close::Refused(RefusalCode::PeerNotTrusted))
    )
}

/// Serves one request that came on TCP, or the heartbeats that follow one another there.
pub(crate) async fn serve_tcp(mesh: Arc<Mesh>, secured: Secured) {
    let trusted = secured.caller.filter(|caller| may_stay_connected(&mesh.view(), caller));
    let Some(caller) = trusted else {
        mesh.refused(RefusalCode::PeerNotTrusted, None);
        return refuse(secured, RefusalCode::PeerNotTrusted);
    };
    let asker = canonical(secured.remote);
    let origin = Origin { asker, proven: asker.ip(), own: None, carrier: Carrier::Tcp };
    answer(mesh, caller, origin, secured.outlet, secured.inlet).await;
}

/// Where an asker's connection comes from, on what, and which of our addresses it reached.
#[derive(Clone, Copy)]
struct Origin {
    asker: SocketAddr,
    /// Where the handshake came from. A packet of a connection that moves can name any address
    /// before the new path is validated (RFC 9000, section 9.3).
    proven: IpAddr,
    own: Option<IpAddr>,
    carrier: Carrier,
}

impl Origin {
    fn of(connection: &Connection, proven: IpAddr) -> Self {
        let asker = canonical(connection.remote_address());
        let own = connection.local_ip().map(|own| own.to_canonical());
        Self { asker, proven, own, carrier: Carrier::Quic }
    }
}

async fn answer(
    mesh: Arc<Mesh>,
    caller: Caller,
    origin: Origin,
    mut send: Outlet,
    mut recv: Inlet,
) {
    let Ok(request) = read_frame_within::<Request>(&mut recv, HELLO_TIMEOUT).await else { return };
    if matches!(request, Request::KeepReachable {}) {
        return reachable::serve(&mesh, caller, origin, (send, recv)).await;
    }
    if matches!(request, Request::SeeMe {}) {
        return looks::serve(&mesh, caller, origin, send).await;
    }
    if matches!((&request, origin.carrier), (Request::Heartbeat {}, Carrier::Tcp)) {
        return heartbeats::serve(&mesh, caller, (send, recv)).await;
    }
    let version = mesh.view().version;
    let mut decided = decide(&mesh, caller, origin, &request, &mut send).await;
    if matches!(decided, Some(Err(code)) if may_be_outdated(code))
        && catch_up(&mesh, version, CATCH_UP_WAIT).await
    {
        decided = decide(&mesh, caller, origin, &request, &mut send).await;
    }
    let reply = match decided {
        None => return,
        Some(Ok(reply)) => reply,
        Some(Err(code)) => {
            // A heartbeat of an earlier release is a refresh that is refused.
            if !matches!(request, Request::RefreshFlow { .. } | Request::CloseFlow { .. }) {
                mesh.refused(code, None);
            }
            Reply::Refused(refusal(code))
        }
    };
    // One request, one reply.
    let taken = say_last(&mut send, &reply).await;
    if let (false, Reply::FlowReady { flow, .. }) = (taken, reply) {
        // Who asked has given it up.
        close_flow(&mesh, caller, flow);
    }
}

/// A node that was assigned a moment ago is not known here yet.
fn may_be_outdated(code: RefusalCode) -> bool {
    use RefusalCode::{LaneNotRelayed, PeerNotTrusted, RoleNotAssigned};
    matches!(code, PeerNotTrusted | RoleNotAssigned | LaneNotRelayed)
}

async fn handle(
    mesh: &Arc<Mesh>,
    caller: Caller,
    origin: Origin,
    request: &Request,
    tell: mpsc::Sender<Reply>,
) -> Result<Reply, RefusalCode> {
    let asker =
        |from_port, hop_port| Asker { node: caller.node, origin, from_port, hop_port, tell };
    match request {
        Request::SetUpFlow { target, lane, from_port, hop_port } => {
            let asker = asker(*from_port, *hop_port);
            let (here, target, lane) = (mesh.clone(), *target, *lane);
            let set_up = async move { set_up(&here, caller, asker, target, lane).await };
            where_it_runs(mesh, lane, set_up).await
        }
        Request::RefreshFlow { flow } => refresh(mesh, caller, *flow),
        Request::CloseFlow { flow } => Ok(close_flow(mesh, caller, *flow)),
        Request::Heartbeat {} => Ok(here(mesh)),
        Request::SetUpStream { target, lane } => {
            stream::set_up(mesh, caller, origin.asker.ip(), *target, *lane)
        }
        Request::SetUpFlowOnward { onward, from_port, hop_port } => {
            let asker = asker(*from_port, *hop_port);
            let (here, leg) = (mesh.clone(), onward.clone());
            let set_up = async move { onward::set_up(&here, caller, asker, &leg).await };
            where_it_runs(mesh, onward.lane, set_up).await
        }
        Request::SetUpStreamOnward { onward } => {
            onward::set_up_stream(mesh, caller, origin, onward).await
        }
        // They have their streams to themselves.
        Request::KeepReachable {} | Request::SeeMe {} => Err(RefusalCode::Malformed),
    }
}

/// Sets a flow up where its lane's bytes run: its sockets stay where they were made.
async fn where_it_runs(
    mesh: &Mesh,
    lane: Lane,
    set_up: impl Future<Output = Result<Reply, RefusalCode>> + Send + 'static,
) -> Result<Reply, RefusalCode> {
    let task = AbortOnDropHandle::new(mesh.tasks_of(lane).spawn(set_up));
    task.await.unwrap_or(Err(RefusalCode::PathUnavailable))
}

fn refresh(mesh: &Mesh, caller: Caller, flow: u64) -> Result<Reply, RefusalCode> {
    let mut state = locked(&mesh.relay.state);
    state.table.refresh(mesh.clock.moment(), caller.node, flow)?;
    Ok(Reply::Done)
}

/// How busy this node is, for whoever may be connected to it.
fn here(mesh: &Mesh) -> Reply {
    let cap = mesh.view().bandwidth.node;
    let state = locked(&mesh.relay.state);
    let load = state.busy.load((state.table.len(), Limits::RELAY.flows), cap);
    let kbps = most_for_one(cap).bits_per_second() / 1_000;
    Reply::Here { load, bandwidth_kbps: u32::try_from(kbps).unwrap_or(u32::MAX) }
}

fn close_flow(mesh: &Mesh, caller: Caller, flow: u64) -> Reply {
    let mut state = locked(&mesh.relay.state);
    if state.table.close(caller.node, flow) {
        state.stop(&[flow]);
    }
    Reply::Done
}

async fn set_up(
    mesh: &Arc<Mesh>,
    caller: Caller,
    asker: Asker,
    target: NodeId,
    lane: Lane,
) -> Result<Reply, RefusalCode> {
    if asker.from_port == 0 {
        return Err(RefusalCode::Malformed);
    }
    let view = mesh.view();
    let peer = admit_set_up(&view, &caller, (target, lane), mesh.clock.now())?;
    let flow =
        locked(&mesh.relay.state).table.set_up(mesh.clock.moment(), caller.node, target, lane)?;
    let place = Place::new(mesh, lane, flow);
    let far = towards(mesh, lane, caller.node, (target, &peer.addresses));
    let (near, far) = tokio::try_join!(asker.socket(mesh, lane), far)?;
    let (forwarding, port) = forwarding(mesh, near, far)?;
    place.keep_running(forwarding, None)?;
    tracing::debug!(flow, asker = %caller.node, %target, %lane, "relayed flow set up");
    Ok(Reply::FlowReady { flow, port })
}

/// Joins the two sockets of a flow. The port is where the asker sends to.
fn forwarding(
    mesh: &Mesh,
    near: FlowSocket,
    far: FlowSocket,
) -> Result<(Arc<Forwarding>, u16), RefusalCode> {
    let port = near.local_port().map_err(no_sockets)?;
    Ok((Arc::new(Forwarding::between(near, far, mesh.clock)), port))
}

fn no_sockets(error: io::Error) -> RefusalCode {
    tracing::warn!(%error, "no sockets for a relayed flow");
    RefusalCode::PathUnavailable
}

/// A socket towards the end of a path: where its node knocks from, if it keeps itself reachable
/// here, and otherwise the first of its addresses that has a route.
async fn towards(
    mesh: &Mesh,
    lane: Lane,
    asker: NodeId,
    (node, addresses): (NodeId, &[SocketAddr]),
) -> Result<FlowSocket, RefusalCode> {
    match reachable::knocked(mesh, lane, asker, node).await {
        Some(socket) => Ok(socket),
        None => FlowSocket::to_first(&*mesh.network, lane, addresses).map_err(no_sockets),
    }
}

/// As plain as its family allows.
const fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}
