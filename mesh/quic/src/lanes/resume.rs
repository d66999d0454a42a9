//! Bringing a lasting flow another connection to its egress, when it lost the one that it was on.

use std::{sync::Arc, time::Duration};

use rap_mesh_core::{carrier::Carrier, ended::Close, refusals::worth_trying_elsewhere};
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
    request::{Newest, Place},
    stream,
};
use crate::{
    frames::{CHANNEL_REPLY_TIMEOUT, read_frame},
    mesh::Mesh,
    pipe::{Inlet, Keeper, Lasting, Leg, Outlet},
};

/// The pause before a further attempt.
const PAUSE: Duration = Duration::from_millis(200);
/// How long the carrier that suits the lane is tried alone.
const HEAD_START: Duration = Duration::from_millis(500);

/// What an egress is asked for, again and again.
pub(super) struct LaneKeeper {
    pub(super) mesh: Arc<Mesh>,
    pub(super) key: LaneKey,
    pub(super) request: OpenFlow,
    pub(super) newest: Newest,
    pub(super) flow: FlowId,
    /// What it began on. One that began on TCP is counted there for as long as it lives.
    pub(super) born: Carrier,
}

/// A connection to the egress, and what it is counted among.
struct Reached {
    carrier: Carrier,
    outlet: Outlet,
    inlet: Inlet,
    place: Option<Counted>,
}

enum Counted {
    OnLane(Place),
    OnTcp { _place: stream::Place },
}

/// Why an attempt came to nothing.
enum Failed {
    Passing,
    /// The egress says no, or has nothing to go on with.
    Final(Option<Close>),
}

impl Keeper for LaneKeeper {
    fn lost(self: Arc<Self>, flow: Lasting) {
        let mesh = self.mesh.clone();
        mesh.bulk.spawn(async move {
            tracing::info!(egress = %self.key.egress, lane = %self.key.lane, "a flow lost its path");
            let leaving = self.mesh.leaving.clone();
            tokio::select! {
                () = leaving.cancelled() => flow.give_up(Some(Close::Ended(EndReason::NodeLeft))),
                () = self.bring(&flow) => {}
            }
        });
    }
}

impl LaneKeeper {
    /// Tries until the flow has a connection, or is over.
    async fn bring(&self, flow: &Lasting) {
        let mut generation = flow.generation();
        while !flow.needs_nothing() && !flow.expire() {
            generation = generation.saturating_add(1);
            match self.attempt(flow, generation).await {
                Ok(()) => return,
                Err(Failed::Final(close)) => return flow.give_up(close),
                Err(Failed::Passing) => tokio::time::sleep(PAUSE).await,
            }
        }
    }

    async fn attempt(&self, flow: &Lasting, generation: u32) -> Result<(), Failed> {
        let received = flow.detach();
        let asking = async {
            let Reached { carrier, outlet, inlet, place } = self.reach().await?;
            let resume = Resume { flow: self.flow, generation, received };
            let (leg, came) = self.ask(outlet, inlet, resume).await?;
            if let Some(Counted::OnLane(place)) = &place {
                place.carried().by(flow);
            }
            Ok::<_, Failed>((carrier, leg.in_place(place), came))
        };
        let asked = timeout(CHANNEL_REPLY_TIMEOUT, asking).await;
        let (carrier, leg, came) = asked.unwrap_or(Err(Failed::Passing))?;
        flow.attach(leg, generation, came).map_err(|_| Failed::Final(None))?;
        tracing::info!(%carrier, generation, "a flow goes on");
        Ok(())
    }

    /// Connects on the carrier that suits the lane, or on the other when that one takes its time.
    /// Only one of them may ask: the egress gives the flow to whoever asked last.
    async fn reach(&self) -> Result<Reached, Failed> {
        let [first, other] = Carrier::order(self.key.lane).map(|carrier| self.connect(carrier));
        tokio::pin!(first, other);
        match timeout(HEAD_START, &mut first).await {
            Ok(Ok(reached)) => Ok(reached),
            Ok(Err(_)) => other.await,
            Err(_) => tokio::select! {
                biased;
                Ok(reached) = &mut first => Ok(reached),
                Ok(reached) = &mut other => Ok(reached),
                else => Err(Failed::Passing),
            },
        }
    }

    async fn connect(&self, carrier: Carrier) -> Result<Reached, Failed> {
        let Self { mesh, key, .. } = self;
        if mesh.carrier.is_some_and(|only| only != carrier) {
            return Err(Failed::Passing);
        }
        match carrier {
            Carrier::Tcp => {
                let place = match self.born {
                    Carrier::Tcp => None,
                    Carrier::Quic => {
                        let _place = stream::Place::take(mesh).ok_or(Failed::Passing)?;
                        Some(Counted::OnTcp { _place })
                    }
                };
                let secured = stream::dial(mesh, (*key, Ways::All), true)
                    .await
                    .map_err(|_| Failed::Passing)?;
                let (outlet, inlet) = (secured.outlet, secured.inlet);
                Ok(Reached { carrier, outlet, inlet, place })
            }
            Carrier::Quic => {
                let pick = mesh
                    .lanes
                    .pool
                    .get(mesh.tasks_of(key.lane), *key, || dial(mesh.clone(), *key, Ways::All));
                let lane = pick.await.map_err(|_| Failed::Passing)?.value;
                // A lane that carries a flow is in use.
                let place = Place::take(mesh, &lane).ok_or(Failed::Passing)?;
                let (send, recv) = lane.connection.open_bi().await.map_err(|_| Failed::Passing)?;
                let (outlet, inlet) = (Outlet::Quic(send), Inlet::Quic(recv));
                let place = Some(Counted::OnLane(place));
                Ok(Reached { carrier, outlet, inlet, place })
            }
        }
    }

    async fn ask(
        &self,
        mut outlet: Outlet,
        mut inlet: Inlet,
        resume: Resume,
    ) -> Result<(Leg, u64), Failed> {
        let admitted = (self.newest)();
        let request = OpenFlow {
            token: admitted.token.clone(),
            proof: admitted.proof.clone(),
            resume: Some(resume),
            ..self.request.clone()
        };
        outlet.write_all(&wire::frame(&request)).await.map_err(|_| Failed::Passing)?;
        match read_frame(&mut inlet).await.map_err(|_| Failed::Passing)? {
            FlowReply::Attached { received } => {
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
