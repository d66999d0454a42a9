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

/// What an egress is asked for, again and again.
pub(super) struct LaneKeeper {
    pub(super) mesh: Arc<Mesh>,
    pub(super) key: LaneKey,
    pub(super) request: OpenFlow,
    pub(super) newest: Newest,
    pub(super) flow: FlowId,
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
        let mut outcome = Err(Failed::Passing);
        for carrier in [Carrier::Tcp, Carrier::Quic] {
            if self.mesh.carrier.is_some_and(|only| only != carrier) {
                continue;
            }
            let received = flow.detach();
            let asking = async {
                let (outlet, inlet, place) = self.connect(carrier).await?;
                let resume = Resume { flow: self.flow, generation, received };
                let (leg, came) = self.ask(outlet, inlet, resume).await?;
                Ok::<_, Failed>((leg.in_place(place), came))
            };
            let asked = timeout(CHANNEL_REPLY_TIMEOUT, asking).await;
            outcome = match asked.unwrap_or(Err(Failed::Passing)) {
                Ok((leg, came)) => flow
                    .attach(leg, generation, came)
                    .map_err(|_| Failed::Final(None))
                    .inspect(|()| tracing::info!(%carrier, generation, "a flow goes on")),
                Err(failed) => Err(failed),
            };
            if !matches!(outcome, Err(Failed::Passing)) {
                return outcome;
            }
        }
        outcome
    }

    /// The directions of a connection to the egress, and a place on its lane if it is one of those.
    async fn connect(&self, carrier: Carrier) -> Result<(Outlet, Inlet, Option<Place>), Failed> {
        let Self { mesh, key, .. } = self;
        match carrier {
            Carrier::Tcp => {
                let secured = stream::dial(mesh, (*key, Ways::All), true)
                    .await
                    .map_err(|_| Failed::Passing)?;
                Ok((secured.outlet, secured.inlet, None))
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
                Ok((Outlet::Quic(stream.0), Inlet::Quic(stream.1), Some(place)))
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
