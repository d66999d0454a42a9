//! Bringing a lasting flow another connection to its egress, when it lost the one that it was on, or
//! is to leave it.

mod follow;

use std::{
    sync::{Arc, Mutex, OnceLock, Weak},
    time::Duration,
};

use rap_mesh_core::{carrier::Carrier, ended::Close, moves::Stayed, paths::Candidate};
use rap_proto::{
    Moment, SessionId,
    observation::EndReason,
    wire::{
        self,
        lane::OpenFlow,
        resume::{FlowId, Resume},
    },
};
use tokio::time::timeout;

use super::{
    LaneKey, Ways,
    answer::{Failed, received},
    carriers::may_use,
    dial::dial,
    moves::{Member, Movable},
    request::{Newest, Place},
    stream,
};
use crate::{
    frames::{CHANNEL_REPLY_TIMEOUT, read_frame},
    mesh::{Mesh, locked},
    pipe::{Asking, Inlet, Keeper, Lasting, Leg, Outlet},
    tcp::Secured,
};

/// The pause before a further attempt: twice as long each time, as many flows can be without a path
/// at once, up to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(3);
/// How long the first carrier is tried alone.
const HEAD_START: Duration = Duration::from_millis(500);
/// How long the answer may take to a flow that moves, as it has a connection meanwhile but is not
/// acknowledged, and to one that asks on a lane that was there before, as that may carry nothing.
/// More than an egress waits for a newer snapshot.
const REPLY_TIME: Duration = Duration::from_secs(3);

/// What an egress is asked for, again and again.
pub(super) struct LaneKeeper {
    mesh: Arc<Mesh>,
    key: LaneKey,
    request: OpenFlow,
    newest: Newest,
    session: SessionId,
    flow: FlowId,
    /// A flow that began on TCP is counted there for as long as it lives.
    began_on: Carrier,
    /// Once the flow was on TCP, wherever it began: it moves with those of its lane.
    member: OnceLock<Member>,
    care: Mutex<Care>,
}

/// Who sees to the flow's connection at the moment: one task at a time.
#[derive(Debug, Default)]
struct Care {
    is_taken: bool,
    /// A connection was lost meanwhile.
    lost: bool,
    /// A connection on the other carrier is being made.
    is_following: bool,
    /// The generation that the egress was asked for last: each counts once.
    asked: u32,
    /// Of a flow that fell from QUIC to TCP: what its connection there is counted by.
    place: Weak<stream::Place>,
}

/// A further connection, what it leads over where that stays the same, and what it is counted among.
struct Further {
    carrier: Carrier,
    outlet: Outlet,
    inlet: Inlet,
    over: Option<Candidate>,
    place: Option<Counted>,
}

enum Counted {
    OnLane(Place),
    /// The next connection that the flow moves to has it, too.
    OnTcp(Arc<stream::Place>),
}

impl Keeper for LaneKeeper {
    fn lost(self: Arc<Self>, flow: Lasting) {
        if locked(&self.care).lost() {
            self.recover(flow);
        }
    }

    fn leaves(self: Arc<Self>, flow: Lasting, carrier: Carrier) {
        self.follow(flow, carrier.other());
    }
}

impl Care {
    /// Takes the flow in care. False when somebody has it.
    const fn take(&mut self) -> bool {
        !std::mem::replace(&mut self.is_taken, true)
    }

    /// Returns whether the flow is now in the care of whoever says so; otherwise, who has it hears of
    /// it.
    const fn lost(&mut self) -> bool {
        self.lost = self.is_taken;
        self.take()
    }

    /// Gives the flow back. False when a connection was lost meanwhile: then there is more to do.
    const fn give_back(&mut self) -> bool {
        self.is_taken = std::mem::replace(&mut self.lost, false);
        !self.is_taken
    }

    /// Returns whether the flow has to be brought over to the other carrier: false while somebody is at it.
    const fn follow(&mut self) -> bool {
        !std::mem::replace(&mut self.is_following, true)
    }

    const fn followed(&mut self) {
        self.is_following = false;
    }

    const fn next_generation(&mut self) -> u32 {
        self.asked = self.asked.saturating_add(1);
        self.asked
    }
}

impl LaneKeeper {
    /// For a flow that was opened by this request, with this name.
    pub(super) fn new(
        mesh: Arc<Mesh>,
        key: LaneKey,
        (request, newest, flow): (OpenFlow, Newest, FlowId),
        began_on: Carrier,
    ) -> Self {
        let (member, care) = (OnceLock::new(), Mutex::default());
        let session = newest().claims.session;
        Self { mesh, key, request, newest, session, flow, began_on, member, care }
    }

    /// Until when the newest token counts.
    pub(super) fn asks_until(&self) -> Moment {
        let expires_at = (self.newest)().claims.expires_at;
        let clock = self.mesh.clock;
        clock.moment() + expires_at.since(clock.now())
    }

    /// The flow is on TCP, over this path: from now on it moves with those of its lane.
    pub(super) fn join(self: &Arc<Self>, flow: &Lasting, over: Candidate) {
        let movable = || Movable::Own { keeper: Arc::downgrade(self), flow: flow.downgrade() };
        let join = || {
            let one = (self.session, movable());
            self.mesh.lanes.movers.join((&self.mesh, self.key), one, over)
        };
        self.member.get_or_init(join);
    }

    /// Brings a flow that is in care a connection for as long as it has none.
    fn recover(self: Arc<Self>, flow: Lasting) {
        let mesh = self.mesh.clone();
        // A lane for keys does not wait for bulk to find its way.
        mesh.tasks_of(self.key.lane).spawn(async move {
            loop {
                if !flow.needs_nothing() {
                    let LaneKey { egress, lane, .. } = self.key;
                    tracing::info!(%egress, %lane, "a flow lost its path");
                    self.tell(Member::lost);
                    let leaving = self.mesh.leaving.clone();
                    tokio::select! {
                        biased;
                        () = leaving.cancelled() => {
                            flow.give_up(Some(Close::Ended(EndReason::NodeLeft)));
                        }
                        () = self.bring(&flow) => {}
                    }
                }
                if locked(&self.care).give_back() {
                    return;
                }
            }
        });
    }

    /// Moves a flow on TCP to this path while the one that it is on still carries it. Whatever comes of it
    /// is told to the lane; when it comes to nothing the flow stays where it is.
    pub(super) async fn go_over(self: Arc<Self>, flow: &Lasting, over: Candidate) {
        let leaving = self.mesh.leaving.clone();
        let secured = tokio::select! {
            biased;
            () = leaving.cancelled() => return,
            secured = self.connect_over(over) => secured,
        };
        let secured = match secured {
            Ok(secured) if locked(&self.care).take() => secured,
            Ok(_) => return self.tell(|member| member.moved(over, Err(Stayed::Flow))),
            Err(why) => return self.tell(|member| member.moved(over, Err(why))),
        };
        let outcome = self.cut_over(flow, secured).await;
        self.tell(|member| member.moved(over, outcome));
        // The old connection's end can be seen before the answer; it matters when none came.
        if !locked(&self.care).give_back() {
            self.recover(flow.clone());
        }
    }

    async fn connect_over(&self, over: Candidate) -> Result<Secured, Stayed> {
        let view = self.mesh.view();
        let peer = view.peer(self.key.egress).ok_or(Stayed::Path)?;
        // The egress would refuse it, and report that.
        if (self.newest)().claims.check_open(self.mesh.clock.now()).is_err() {
            return Err(Stayed::Token);
        }
        let made = stream::try_one(&self.mesh, self.key, peer, over).await;
        made.map(|(secured, _)| secured).map_err(|()| Stayed::Path)
    }

    async fn cut_over(&self, flow: &Lasting, secured: Secured) -> Result<(), Stayed> {
        // Held before the flow is looked at, so that it is not given back meanwhile.
        let place = locked(&self.care).place.upgrade();
        let is_counted = self.began_on == Carrier::Tcp || place.is_some();
        // While this connection was made it may have gone over to QUIC, and is to stay there.
        if !flow.is_carried_on(Carrier::Tcp) || !is_counted {
            return Err(Stayed::Flow);
        }
        let generation = locked(&self.care).next_generation();
        let received = flow.offer(generation).map_err(|_| Stayed::Flow)?;
        let resume = Resume { flow: self.flow, generation, received };
        let asking = self.ask(secured.outlet, secured.inlet, resume);
        let outcome = match timeout(REPLY_TIME, asking).await {
            Ok(Ok((leg, came))) => {
                let attached = flow.attach(leg.in_place(place), generation, came);
                attached.map_err(|_| Stayed::Flow)
            }
            Ok(Err(failed)) => Err(failed.stayed()),
            Err(_) => Err(Stayed::Path),
        };
        if outcome.is_err() {
            flow.withdraw(generation);
        }
        outcome
    }

    /// Tells the lane that this flow moves with.
    fn tell(&self, what: impl FnOnce(&Member)) {
        if let Some(member) = self.member.get() {
            what(member);
        }
    }

    /// The flow has another connection: on TCP over this path, or on its lane.
    fn went_on(self: &Arc<Self>, flow: &Lasting, over: Option<Candidate>) {
        match (self.member.get(), over) {
            (Some(member), over) => member.went_on(over),
            (None, Some(over)) => self.join(flow, over),
            (None, None) => {}
        }
    }

    /// Tries until the flow has a connection, or is over.
    async fn bring(self: &Arc<Self>, flow: &Lasting) {
        let (mut order, mut pause) = (Carrier::order(self.key.lane), FIRST_PAUSE);
        while !flow.needs_nothing() && !flow.expire() {
            match self.attempt(flow, order).await {
                Ok(over) => return self.went_on(flow, over),
                Err(Failed::Final(close)) => return flow.give_up(close),
                Err(Failed::Path | Failed::ForNow) => {
                    tokio::time::sleep(pause).await;
                    pause = LONGEST_PAUSE.min(2 * pause);
                    // One that connects and then says nothing, or no, is not all that is tried.
                    order.reverse();
                }
            }
        }
    }

    async fn attempt(
        &self,
        flow: &Lasting,
        order: [Carrier; 2],
    ) -> Result<Option<Candidate>, Failed> {
        let received = flow.detach();
        let generation = locked(&self.care).next_generation();
        let asking = async {
            let Further { carrier, outlet, inlet, over, place } = self.reach(order).await?;
            if let Some(Counted::OnTcp(place)) = &place {
                locked(&self.care).place = Arc::downgrade(place);
            }
            let resume = Resume { flow: self.flow, generation, received };
            let asking = self.ask(outlet, inlet, resume);
            let Some(Counted::OnLane(on_lane)) = &place else {
                let (leg, came) = asking.await?;
                return Ok((carrier, over, leg.in_place(place), came, None));
            };
            let (tag, retired) = (on_lane.tag(), on_lane.lane_retired());
            let (leg, came) = tokio::select! {
                biased;
                asked = timeout(REPLY_TIME, asking) => asked.map_err(|_| Failed::Path)??,
                () = retired.cancelled() => return Err(Failed::Path),
            };
            Ok((carrier, over, leg.in_place(place), came, Some(tag)))
        };
        let asked = timeout(CHANNEL_REPLY_TIMEOUT, asking).await;
        let (carrier, over, leg, came, tag) = asked.unwrap_or(Err(Failed::Path))?;
        flow.attach(leg, generation, came).map_err(|_| Failed::Final(None))?;
        tag.into_iter().for_each(|tag| tag.by(flow, generation));
        tracing::info!(%carrier, generation, "a flow goes on");
        Ok(over)
    }

    /// Connects on the first carrier, or on the other when that one takes its time.
    /// Only one of them may ask: the egress gives the flow to whoever asked last.
    async fn reach(&self, order: [Carrier; 2]) -> Result<Further, Failed> {
        let [first, other] = order.map(|carrier| self.connect(carrier));
        tokio::pin!(first, other);
        match timeout(HEAD_START, &mut first).await {
            Ok(Ok(further)) => Ok(further),
            Ok(Err(_)) => other.await,
            Err(_) => tokio::select! {
                biased;
                Ok(further) = &mut first => Ok(further),
                Ok(further) = &mut other => Ok(further),
                else => Err(Failed::Path),
            },
        }
    }

    async fn connect(&self, carrier: Carrier) -> Result<Further, Failed> {
        let Self { mesh, key, .. } = self;
        if !may_use(mesh, *key, carrier) {
            return Err(Failed::Path);
        }
        match carrier {
            Carrier::Tcp => {
                let place = match self.began_on {
                    Carrier::Tcp => None,
                    Carrier::Quic => {
                        let place = stream::Place::take(mesh).ok_or(Failed::Path)?;
                        Some(Counted::OnTcp(Arc::new(place)))
                    }
                };
                let (secured, over) =
                    stream::dial(mesh, (*key, Ways::All), true).await.map_err(|_| Failed::Path)?;
                let Secured { outlet, inlet, .. } = secured;
                Ok(Further { carrier, outlet, inlet, over: Some(over), place })
            }
            Carrier::Quic => {
                let pick = mesh
                    .lanes
                    .pool
                    .get(mesh.tasks_of(key.lane), *key, || dial(mesh.clone(), *key, Ways::All));
                let lane = pick.await.map_err(|_| Failed::Path)?.value;
                // A lane that carries a flow is in use.
                let place = Place::take(mesh, &lane).ok_or(Failed::Path)?;
                let (send, recv) = lane.connection.open_bi().await.map_err(|_| Failed::Path)?;
                let (outlet, inlet) = (Outlet::Quic(send), Inlet::Quic(recv));
                let place = Some(Counted::OnLane(place));
                Ok(Further { carrier, outlet, inlet, over: None, place })
            }
        }
    }

    async fn ask(
        &self,
        outlet: Outlet,
        inlet: Inlet,
        resume: Resume,
    ) -> Result<(Leg, u64), Failed> {
        let mut asking = Asking(Some((outlet, inlet)));
        let (outlet, inlet) = asking.0.as_mut().ok_or(Failed::Path)?;
        let admitted = (self.newest)();
        let request = OpenFlow {
            token: admitted.token.clone(),
            proof: admitted.proof.clone(),
            resume: Some(resume),
            ..self.request.clone()
        };
        outlet.write_all(&wire::frame(&request)).await.map_err(|_| Failed::Path)?;
        let came = received(read_frame(inlet).await)?;
        let (outlet, inlet) = asking.0.take().ok_or(Failed::Path)?;
        let leg = Leg::new(outlet, inlet).ok_or(Failed::Path)?;
        Ok((leg, came))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_task_brings_a_flow_over_at_a_time_beside_whoever_has_it_in_care() {
        let mut care = Care::default();
        assert!(care.follow(), "nobody is at it");
        assert!(!care.follow(), "its other connection is being made");
        assert!(care.take(), "meanwhile it can lose the one that it has");
        assert!(care.give_back());
        assert!(!care.follow());
        care.followed();
        assert!(care.follow(), "it came to something or not");
    }
}
