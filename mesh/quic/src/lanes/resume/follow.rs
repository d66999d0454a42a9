//! A flow that goes over to the other carrier while the one that it is on still carries it.

use std::sync::Arc;

use rap_mesh_core::{carrier::Carrier, paths::Candidate};
use rap_proto::wire::resume::Resume;
use tokio::time::timeout;

use super::{Counted, Failed, Further, LaneKeeper, REPLY_TIME};
use crate::{frames::CHANNEL_REPLY_TIMEOUT, lanes::LaneKey, mesh::locked, pipe::Lasting};

impl LaneKeeper {
    /// In a task of its own, one for each flow. When it comes to nothing the flow stays where it is.
    pub(super) fn follow(self: Arc<Self>, flow: Lasting, to: Carrier) {
        if !locked(&self.care).follow() {
            return;
        }
        let mesh = self.mesh.clone();
        mesh.tasks_of(self.key.lane).spawn(async move {
            self.clone().go_to(flow, to).await;
            locked(&self.care).followed();
        });
    }

    async fn go_to(self: Arc<Self>, flow: Lasting, to: Carrier) {
        let leaving = self.mesh.leaving.clone();
        let further = tokio::select! {
            biased;
            () = leaving.cancelled() => return,
            further = timeout(CHANNEL_REPLY_TIMEOUT, self.connect(to)) => further,
        };
        let LaneKey { egress, lane, .. } = self.key;
        let Ok(Ok(further)) = further else {
            tracing::info!(%egress, %lane, carrier = %to, "a flow does not reach its egress there");
            return;
        };
        // Somebody else sees to it at the moment.
        if !locked(&self.care).take() {
            return;
        }
        match self.cut_over_to(&flow, further).await {
            Ok(over) => {
                tracing::info!(%egress, %lane, carrier = %to, "a flow follows the better carrier");
                self.went_on(&flow, over);
            }
            Err(failed) => {
                tracing::info!(%egress, %lane, carrier = %to, ?failed, "a flow stays on its carrier");
            }
        }
        // The old connection's end can be seen before the answer.
        if !locked(&self.care).give_back() {
            self.recover(flow);
        }
    }

    async fn cut_over_to(
        &self,
        flow: &Lasting,
        further: Further,
    ) -> Result<Option<Candidate>, Failed> {
        // The egress would refuse it, and report that.
        let expired = (self.newest)().claims.check_open(self.mesh.clock.now()).is_err();
        if expired || !flow.is_carried_on(further.carrier.other()) {
            return Err(Failed::ForNow);
        }
        let generation = locked(&self.care).next_generation();
        let received = flow.offer(generation).map_err(|_| Failed::ForNow)?;
        let resume = Resume { flow: self.flow, generation, received };
        let outcome = self.attach_to(flow, further, resume).await;
        if outcome.is_err() {
            flow.withdraw(generation);
        }
        outcome
    }

    async fn attach_to(
        &self,
        flow: &Lasting,
        Further { outlet, inlet, over, place, .. }: Further,
        resume: Resume,
    ) -> Result<Option<Candidate>, Failed> {
        let asking = self.ask(outlet, inlet, resume);
        let (leg, came) = timeout(REPLY_TIME, asking).await.map_err(|_| Failed::Path)??;
        let generation = resume.generation;
        let (tag, on_tcp) = match &place {
            Some(Counted::OnLane(on_lane)) => (Some(on_lane.tag()), None),
            Some(Counted::OnTcp(on_tcp)) => (None, Some(Arc::downgrade(on_tcp))),
            None => (None, None),
        };
        let attached = flow.attach(leg.in_place(place), generation, came);
        attached.map_err(|_| Failed::ForNow)?;
        // Not before: where that is refused the flow keeps the place that it has on TCP.
        on_tcp.into_iter().for_each(|place| locked(&self.care).place = place);
        tag.into_iter().for_each(|tag| tag.by(flow, generation));
        Ok(over)
    }
}
