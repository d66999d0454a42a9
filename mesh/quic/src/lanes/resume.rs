//! Bringing a lasting flow another connection to its egress, when it lost the one that it was on, or
//! is to leave it.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use rap_mesh_core::{
    carrier::Carrier, ended::Close, moves::Stayed, paths::Candidate,
    refusals::worth_trying_elsewhere,
};
use rap_proto::{
    RefusalCode,
    observation::EndReason,
    wire::{
        self,
        lane::{FlowReply, OpenFlow},
        resume::{FlowId, Resume},
    },
};
use tokio::time::timeout;

use super::{
    LaneKey, Ways,
    dial::dial,
    moves::Link,
    request::{Newest, Place},
    stream,
};
use crate::{
    frames::{CHANNEL_REPLY_TIMEOUT, read_frame},
    mesh::{Mesh, locked},
    pipe::{Inlet, Keeper, Lasting, Leg, Outlet, abandon},
    tcp::Secured,
};

/// The pause before a further attempt.
const PAUSE: Duration = Duration::from_millis(200);
/// How long the answer to a flow that moves may take. It has a connection meanwhile, but is not
/// acknowledged. More than an egress waits for a newer snapshot.
const MOVE_REPLY_TIME: Duration = Duration::from_secs(3);

/// What an egress is asked for, again and again.
pub(super) struct LaneKeeper {
    mesh: Arc<Mesh>,
    key: LaneKey,
    request: OpenFlow,
    newest: Newest,
    flow: FlowId,
    link: Link,
    care: Mutex<Care>,
}

/// Who sees to the flow's connection at the moment: one task at a time.
#[derive(Debug, Default)]
struct Care {
    is_taken: bool,
    /// A connection was lost meanwhile.
    lost: bool,
    /// The generation that the egress was asked for last: each counts once.
    asked: u32,
}

/// A further connection, and what it leads over where that stays the same.
struct Further {
    outlet: Outlet,
    inlet: Inlet,
    over: Option<Candidate>,
    place: Option<Place>,
}

/// Why an attempt came to nothing.
enum Failed {
    Passing,
    /// The egress says no, or has nothing to go on with.
    Final(Option<Close>),
}

/// A connection on which a flow is asked for. The egress may have moved the flow to it when the
/// answer is waited for no longer: then its end is a loss, and must not be an end of the flow.
struct Asking(Option<(Outlet, Inlet)>);

impl Drop for Asking {
    fn drop(&mut self) {
        if let Some((outlet, inlet)) = self.0.take() {
            abandon(outlet, inlet);
        }
    }
}

impl Keeper for LaneKeeper {
    fn lost(self: Arc<Self>, flow: Lasting) {
        if locked(&self.care).lost() {
            self.recover(flow);
        }
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
        link: Link,
    ) -> Self {
        Self { mesh, key, request, newest, flow, link, care: Mutex::default() }
    }

    /// Brings a flow that is in care a connection for as long as it has none.
    fn recover(self: Arc<Self>, flow: Lasting) {
        let mesh = self.mesh.clone();
        mesh.bulk.spawn(async move {
            loop {
                if !flow.needs_nothing() {
                    let LaneKey { egress, lane, .. } = self.key;
                    tracing::info!(%egress, %lane, "a flow lost its path");
                    self.link.lost(&self.mesh);
                    let leaving = self.mesh.leaving.clone();
                    tokio::select! {
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

    /// Moves a flow to this path while the one that it is on still carries it. Whatever comes of it
    /// is told to the lane; when it comes to nothing the flow stays where it is.
    pub(super) async fn go_over(self: Arc<Self>, flow: &Lasting, over: Candidate) {
        let mesh = &self.mesh;
        let leaving = mesh.leaving.clone();
        let secured = tokio::select! {
            biased;
            () = leaving.cancelled() => return,
            secured = self.connect_over(over) => secured,
        };
        let secured = match secured {
            Ok(secured) if locked(&self.care).take() => secured,
            Ok(_) => return self.link.moved(mesh, over, Err(Stayed::Flow)),
            Err(why) => return self.link.moved(mesh, over, Err(why)),
        };
        let outcome = self.cut_over(flow, secured).await;
        self.link.moved(mesh, over, outcome);
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
            return Err(Stayed::Flow);
        }
        let made = stream::try_one(&self.mesh, self.key, peer, over).await;
        made.map(|(secured, _)| secured).map_err(|()| Stayed::Path)
    }

    async fn cut_over(&self, flow: &Lasting, secured: Secured) -> Result<(), Stayed> {
        if !flow.is_carried() {
            return Err(Stayed::Flow);
        }
        let received = flow.offer();
        let generation = locked(&self.care).next_generation();
        let resume = Resume { flow: self.flow, generation, received };
        let asking = self.ask(secured.outlet, secured.inlet, resume);
        let outcome = match timeout(MOVE_REPLY_TIME, asking).await {
            Ok(Ok((leg, came))) => flow.attach(leg, generation, came).map_err(|_| Stayed::Flow),
            Ok(Err(Failed::Final(_))) => Err(Stayed::Flow),
            Ok(Err(Failed::Passing)) | Err(_) => Err(Stayed::Path),
        };
        if outcome.is_err() {
            flow.withdraw();
        }
        outcome
    }

    /// Tries until the flow has a connection, or is over.
    async fn bring(&self, flow: &Lasting) {
        while !flow.needs_nothing() && !flow.expire() {
            match self.attempt(flow).await {
                Ok(over) => return self.link.went_on(&self.mesh, over),
                Err(Failed::Final(close)) => return flow.give_up(close),
                Err(Failed::Passing) => tokio::time::sleep(PAUSE).await,
            }
        }
    }

    async fn attempt(&self, flow: &Lasting) -> Result<Option<Candidate>, Failed> {
        let mut outcome = Err(Failed::Passing);
        for carrier in [Carrier::Tcp, Carrier::Quic] {
            if self.mesh.carrier.is_some_and(|only| only != carrier) {
                continue;
            }
            let received = flow.detach();
            let generation = locked(&self.care).next_generation();
            let asking = async {
                let Further { outlet, inlet, over, place } = self.connect(carrier).await?;
                let resume = Resume { flow: self.flow, generation, received };
                let (leg, came) = self.ask(outlet, inlet, resume).await?;
                Ok::<_, Failed>((leg.in_place(place), came, over))
            };
            let asked = timeout(CHANNEL_REPLY_TIMEOUT, asking).await;
            outcome = match asked.unwrap_or(Err(Failed::Passing)) {
                Ok((leg, came, over)) => flow
                    .attach(leg, generation, came)
                    .map_err(|_| Failed::Final(None))
                    .inspect(|()| tracing::info!(%carrier, generation, "a flow goes on"))
                    .map(|()| over),
                Err(failed) => Err(failed),
            };
            if !matches!(outcome, Err(Failed::Passing)) {
                return outcome;
            }
        }
        outcome
    }

    /// A connection to the egress, and a place on its lane if it is one of those.
    async fn connect(&self, carrier: Carrier) -> Result<Further, Failed> {
        let Self { mesh, key, .. } = self;
        match carrier {
            Carrier::Tcp => {
                let (secured, over) = stream::dial(mesh, (*key, Ways::All), true)
                    .await
                    .map_err(|_| Failed::Passing)?;
                let Secured { outlet, inlet, .. } = secured;
                Ok(Further { outlet, inlet, over: Some(over), place: None })
            }
            Carrier::Quic => {
                let pick = mesh
                    .lanes
                    .pool
                    .get(mesh.tasks_of(key.lane), *key, || dial(mesh.clone(), *key, Ways::All));
                let lane = pick.await.map_err(|_| Failed::Passing)?.value;
                // A lane that carries a flow is in use.
                let place = Place::take(mesh, &lane).ok_or(Failed::Passing)?;
                let stream = lane.connection.open_bi().await.map_err(|_| Failed::Passing)?;
                let (outlet, inlet) = (Outlet::Quic(stream.0), Inlet::Quic(stream.1));
                Ok(Further { outlet, inlet, over: None, place: Some(place) })
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
        let (outlet, inlet) = asking.0.as_mut().ok_or(Failed::Passing)?;
        let admitted = (self.newest)();
        let request = OpenFlow {
            token: admitted.token.clone(),
            proof: admitted.proof.clone(),
            resume: Some(resume),
            ..self.request.clone()
        };
        outlet.write_all(&wire::frame(&request)).await.map_err(|_| Failed::Passing)?;
        match read_frame(inlet).await.map_err(|_| Failed::Passing)? {
            FlowReply::Attached { received } => {
                let (outlet, inlet) = asking.0.take().ok_or(Failed::Passing)?;
                let leg = Leg::new(outlet, inlet).ok_or(Failed::Passing)?;
                Ok((leg, received))
            }
            FlowReply::Refused(refused) if worth_trying_elsewhere(refused.code) => {
                Err(Failed::Passing)
            }
            FlowReply::Refused(refused) => Err(Failed::Final(Some(ended_by(refused.code)))),
            // An egress that started again, or never knew of such flows.
            FlowReply::Gone | FlowReply::Opened => Err(Failed::Final(None)),
        }
    }
}

/// What a refusal means for a flow that runs.
fn ended_by(code: RefusalCode) -> Close {
    match code {
        RefusalCode::SessionTerminated | RefusalCode::AccessDenied => {
            Close::Ended(EndReason::Terminated)
        }
        RefusalCode::LeaseSuperseded => Close::Ended(EndReason::LeaseLost),
        _ => Close::Ended(EndReason::PathLost),
    }
}
