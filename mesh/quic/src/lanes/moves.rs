//! Flows on TCP connections of their own that move to better paths: performs what [`LaneMoves`] asks
//! for, in one task for each lane that has such flows.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex, Weak,
        atomic::{AtomicU64, Ordering},
    },
};

use futures_util::future::BoxFuture;
use rap_mesh_core::{
    View,
    carrier::Carrier,
    moves::{Allowed, Effect, Input, LaneMoves, Stayed},
    path_audit::Part,
    paths::Candidate,
    view::peer_has_role,
};
use rap_proto::{Moment, NodeId, NodeRole, SessionId, snapshot::Peer};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::{LaneKey, resume::LaneKeeper, stream};
use crate::{
    MoveStatus,
    mesh::{Mesh, locked},
    pipe::WeakLasting,
    relays::Use,
};

/// The lanes that have flows on TCP.
#[derive(Default)]
pub(super) struct Movers {
    /// INVARIANT: each has a flow, and a task. It is locked before a mover's machine.
    lanes: Mutex<BTreeMap<LaneKey, Arc<Mover>>>,
    /// Every flow of each session, with the lane that moves it: a client shows another token often, and
    /// that is about its own flows alone. Nothing else is locked while it is.
    sessions: Mutex<BTreeMap<(SessionId, u64), Arc<Mover>>>,
    counts: Counts,
}

#[derive(Default)]
struct Counts {
    last_flow: AtomicU64,
    moved: AtomicU64,
    stayed: AtomicU64,
    trials: AtomicU64,
}

struct Mover {
    key: LaneKey,
    machine: Mutex<LaneMoves>,
    flows: Mutex<BTreeMap<u64, Movable>>,
    /// Something changed that the task has to look at.
    changed: Notify,
    over: CancellationToken,
}

/// What a flow is moved by, for as long as there is one.
#[derive(Clone)]
pub(super) enum Movable {
    Own { keeper: Weak<LaneKeeper>, flow: WeakLasting },
    Through(Weak<dyn Through>),
}

/// A through flow, which its client moves.
pub(crate) trait Through: Send + Sync {
    /// Until when its client's token counts.
    fn asks_until(&self) -> Moment;

    /// Takes its way from it.
    fn cut(&self);

    /// Has the client leave its way for one over this path, and waits for what comes of it.
    fn leave(self: Arc<Self>, over: Candidate) -> BoxFuture<'static, Result<(), Stayed>>;
}

/// A flow's place among those of its lane, from when it is first on TCP until it is over. By it the
/// flow tells its lane what becomes of it.
pub(crate) struct Member {
    mesh: Arc<Mesh>,
    mover: Arc<Mover>,
    session: SessionId,
    flow: u64,
}

impl Movers {
    /// Counts a flow that is on TCP from now on, over this path.
    pub(super) fn join(
        &self,
        (mesh, key): (&Arc<Mesh>, LaneKey),
        (session, movable): (SessionId, Movable),
        over: Candidate,
    ) -> Member {
        let flow = self.counts.last_flow.fetch_add(1, Ordering::Relaxed);
        let mover = {
            let mut lanes = locked(&self.lanes);
            let begin = || Mover::begin(mesh.clone(), key);
            let mover = lanes.entry(key).or_insert_with(begin).clone();
            locked(&mover.flows).insert(flow, movable.clone());
            locked(&self.sessions).insert((session, flow), mover.clone());
            // A token that comes meanwhile is told to a flow that has begun.
            let mut machine = locked(&mover.machine);
            let asks_until = movable.asks_until().unwrap_or(mesh.clock.moment());
            let began = Input::Began { flow, over, asks_until };
            machine.handle_input(mesh.clock.moment(), began);
            audit(mesh, key, &mut machine);
            drop(machine);
            mover
        };
        // What paths are allowed may have changed since its own was chosen.
        mover.changed.notify_one();
        Member { mesh: mesh.clone(), mover, session, flow }
    }

    /// The client of this session showed another token.
    pub(super) fn refreshed(&self, mesh: &Mesh, session: SessionId) {
        let theirs: Vec<(u64, Arc<Mover>)> = {
            let sessions = locked(&self.sessions);
            let theirs = sessions.range((session, 0)..=(session, u64::MAX));
            theirs.map(|((_, flow), mover)| (*flow, mover.clone())).collect()
        };
        theirs.iter().for_each(|(flow, mover)| mover.refreshed(mesh, *flow));
    }

    pub(super) fn status(&self) -> MoveStatus {
        let lanes = locked(&self.lanes);
        let count = |count: &AtomicU64| count.load(Ordering::Relaxed);
        MoveStatus {
            relayed: lanes.values().map(|mover| locked(&mover.machine).relayed()).sum(),
            moved: count(&self.counts.moved),
            stayed: count(&self.counts.stayed),
            trials: count(&self.counts.trials),
        }
    }
}

impl Member {
    pub(crate) fn lost(&self) {
        self.mover.tell(&self.mesh, Input::Lost { flow: self.flow });
    }

    pub(crate) fn went_on(&self, over: Option<Candidate>) {
        self.mover.tell(&self.mesh, Input::WentOn { flow: self.flow, over });
    }

    /// What a move came to.
    pub(super) fn moved(&self, over: Candidate, outcome: Result<(), Stayed>) {
        self.mover.moved(&self.mesh, (self.flow, over), outcome);
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        let Self { mesh, mover, session, flow } = self;
        locked(&mesh.lanes.movers.sessions).remove(&(*session, *flow));
        locked(&mover.flows).remove(flow);
        let mut lanes = locked(&mesh.lanes.movers.lanes);
        let mut machine = locked(&mover.machine);
        let frees_a_place = machine.is_moving(*flow);
        machine.handle_input(mesh.clock.moment(), Input::Ended { flow: *flow });
        audit(mesh, mover.key, &mut machine);
        if frees_a_place {
            mover.changed.notify_one();
        }
        if machine.is_idle() {
            lanes.remove(&mover.key);
            mover.over.cancel();
        }
    }
}

impl Mover {
    fn begin(mesh: Arc<Mesh>, key: LaneKey) -> Arc<Self> {
        let allowed = allowed(&mesh, &mesh.view(), key);
        let machine = Mutex::new(LaneMoves::new(mesh.network.seed(), allowed));
        let (flows, changed, over) = (Mutex::default(), Notify::new(), CancellationToken::new());
        let mover = Arc::new(Self { key, machine, flows, changed, over });
        let task = mover.clone().run(mesh.clone());
        mesh.bulk.spawn(task);
        mover
    }

    fn tell(&self, mesh: &Mesh, input: Input) {
        let machine = &mut *locked(&self.machine);
        machine.handle_input(mesh.clock.moment(), input);
        audit(mesh, self.key, machine);
        self.changed.notify_one();
    }

    fn refreshed(&self, mesh: &Mesh, flow: u64) {
        // The register is let go first: a flow that is over by then takes itself out of it.
        let movable = locked(&self.flows).get(&flow).cloned();
        if let Some(until) = movable.and_then(|movable| movable.asks_until()) {
            self.tell(mesh, Input::MayAsk { flow, until });
        }
    }

    async fn run(self: Arc<Self>, mesh: Arc<Mesh>) {
        let mut views = mesh.views.subscribe();
        let mut view = views.borrow_and_update().clone();
        // It may have changed since this lane began.
        self.take_view(&mesh, &view);
        loop {
            self.perform(&mesh);
            let timeout = locked(&self.machine).poll_timeout();
            tokio::select! {
                biased;
                () = mesh.leaving.cancelled() => return,
                () = self.over.cancelled() => return,
                Ok(()) = views.changed() => {
                    let before = std::mem::replace(&mut view, views.borrow_and_update().clone());
                    if !before.same_peers(&view) {
                        self.tell(&mesh, Input::Renewed);
                    }
                    self.take_view(&mesh, &view);
                }
                () = self.changed.notified() => {}
                () = mesh.clock.until(timeout) => {
                    let machine = &mut *locked(&self.machine);
                    machine.handle_timeout(mesh.clock.moment());
                    audit(&mesh, self.key, machine);
                }
            }
        }
    }

    fn take_view(&self, mesh: &Mesh, view: &Arc<View>) {
        self.tell(mesh, Input::Ways(allowed(mesh, view, self.key)));
    }

    fn perform(self: &Arc<Self>, mesh: &Arc<Mesh>) {
        loop {
            // The machine is not locked while this goes on.
            let effect = locked(&self.machine).poll_effect();
            match effect {
                Some(Effect::Try(candidate)) => self.try_path(mesh, candidate),
                Some(Effect::Move { flow, over }) => self.move_flow(mesh, flow, over),
                Some(Effect::Leave { flow }) => self.leave(flow),
                None => return,
            }
        }
    }

    fn try_path(self: &Arc<Self>, mesh: &Arc<Mesh>, candidate: Candidate) {
        mesh.lanes.movers.counts.trials.fetch_add(1, Ordering::Relaxed);
        let (mover, over_mesh) = (self.clone(), mesh.clone());
        mesh.bulk.spawn(async move {
            let mesh = &over_mesh;
            let round_trip = match mesh.view().peer(mover.key.egress) {
                Some(peer) => stream::measure(mesh, mover.key, peer, candidate).await,
                None => None,
            };
            mover.tell(mesh, Input::Tried { candidate, round_trip });
        });
    }

    /// The flow's keeper, or its client, hears of it as of any loss. One that went over to QUIC meanwhile
    /// left the relay by that.
    fn leave(&self, flow: u64) {
        let movable = locked(&self.flows).get(&flow).cloned();
        let LaneKey { egress, lane, .. } = self.key;
        tracing::info!(%egress, %lane, "a flow leaves a relay that is none any more");
        match movable {
            Some(Movable::Own { flow, .. }) => {
                flow.upgrade().into_iter().for_each(|flow| flow.detach_from(Carrier::Tcp));
            }
            Some(Movable::Through(flow)) => {
                flow.upgrade().into_iter().for_each(|flow| flow.cut());
            }
            None => {}
        }
    }

    /// In a task of its own: a flow is not left halfway when its lane has no other.
    fn move_flow(self: &Arc<Self>, mesh: &Arc<Mesh>, flow: u64, over: Candidate) {
        let movable = locked(&self.flows).get(&flow).cloned();
        let stayed = || self.tell(mesh, Input::Stayed { flow, why: Stayed::Flow });
        match movable {
            // The flow has its keeper, so whoever has the flow has both.
            Some(Movable::Own { keeper, flow: lasting }) => {
                let both = lasting.upgrade().and_then(|flow| Some((keeper.upgrade()?, flow)));
                let Some((keeper, lasting)) = both else { return stayed() };
                mesh.bulk.spawn(async move { keeper.go_over(&lasting, over).await });
            }
            Some(Movable::Through(through)) => {
                let Some(through) = through.upgrade() else { return stayed() };
                let (mover, mesh_of, leaving) = (self.clone(), mesh.clone(), through.leave(over));
                mesh.bulk.spawn(async move {
                    let outcome = leaving.await;
                    mover.moved(&mesh_of, (flow, over), outcome);
                });
            }
            None => stayed(),
        }
    }

    /// What a move came to.
    fn moved(&self, mesh: &Mesh, (flow, over): (u64, Candidate), outcome: Result<(), Stayed>) {
        let (key, counts) = (self.key, &mesh.lanes.movers.counts);
        let (count, input) = match outcome {
            Ok(()) => (&counts.moved, Input::Moved { flow }),
            Err(why) => (&counts.stayed, Input::Stayed { flow, why }),
        };
        if outcome == Err(Stayed::Token) {
            // Nothing was tried, and nothing is until there is another token.
            return self.tell(mesh, input);
        }
        count.fetch_add(1, Ordering::Relaxed);
        tracing::info!(egress = %key.egress, lane = %key.lane, path = ?over, ?outcome, "a flow moves");
        self.tell(mesh, input);
    }
}

impl Movable {
    /// `None` when the flow is over.
    fn asks_until(&self) -> Option<Moment> {
        match self {
            Self::Own { keeper, .. } => keeper.upgrade().map(|keeper| keeper.asks_until()),
            Self::Through(flow) => flow.upgrade().map(|flow| flow.asks_until()),
        }
    }
}

fn allowed(mesh: &Mesh, view: &Arc<View>, key: LaneKey) -> Allowed {
    let relays: BTreeSet<NodeId> = view.relays(key.organization).map(|(relay, _)| relay).collect();
    let draining = relays.iter().copied().filter(|relay| view.is_draining(*relay)).collect();
    let rule = view.direct_rule();
    let serves = |peer: &&Peer| peer_has_role(peer, NodeRole::StreamWorker, key.organization);
    let peer = view.peer(key.egress).filter(serves);
    let Some(peer) = peer.filter(|_| !view.must_stop(mesh.clock.now())) else {
        return Allowed { ways: Vec::new(), relays, draining, direct: rule };
    };
    let direct = view.direct_to(peer.node).iter().copied().map(Candidate::Direct);
    let relayed = mesh.relays.order(view, Use::New, key, mesh.clock.now());
    Allowed { ways: direct.chain(relayed).collect(), relays, draining, direct: rule }
}

/// Passes on which paths the lane's flows took and left.
fn audit(mesh: &Mesh, key: LaneKey, machine: &mut LaneMoves) {
    for change in machine.take_changes() {
        mesh.path_changed(part(key, Carrier::Tcp), change);
    }
}

pub(super) const fn part(key: LaneKey, carrier: Carrier) -> Part {
    let LaneKey { egress, organization, lane } = key;
    Part { egress, organization, lane, carrier }
}
