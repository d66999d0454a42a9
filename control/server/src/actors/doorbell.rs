//! Tells a node over the bus that its configuration changed. Losing a ring costs the time until
//! the node's next poll, nothing else.

use std::{collections::BTreeMap, sync::Arc};

use actix::{Actor, ActorContext as _, AsyncContext as _, Context, StreamHandler};
use rap_control_core::State;
use rap_proto::{NodeId, bus::ControlBody};
use tokio_stream::wrappers::WatchStream;

use crate::{app::App, clock};

pub(crate) struct Doorbell {
    app: Arc<App>,
    rung: BTreeMap<NodeId, u64>,
}

impl Doorbell {
    pub(crate) fn new(app: Arc<App>) -> Self {
        Self { app, rung: BTreeMap::new() }
    }

    /// The nodes whose version rose since they were rung for.
    fn due(&mut self, state: &State) -> Vec<(NodeId, u64)> {
        let versions: BTreeMap<NodeId, u64> =
            state.nodes().approved().map(|node| (node.id, node.version)).collect();
        let due = versions
            .iter()
            .filter(|(node, version)| self.rung.get(node).is_none_or(|rung| rung < version))
            .map(|(node, version)| (*node, *version))
            .collect();
        self.rung = versions;
        due
    }
}

impl Actor for Doorbell {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        ctx.add_stream(WatchStream::new(self.app.states()));
    }
}

impl StreamHandler<Arc<State>> for Doorbell {
    fn handle(&mut self, state: Arc<State>, ctx: &mut Context<Self>) {
        let now = clock::now();
        let rings: Vec<_> = self
            .due(&state)
            .into_iter()
            .map(|(node, version)| {
                self.app.say(node, ControlBody::SnapshotAvailable { version }, now)
            })
            .collect();
        let app = Arc::clone(&self.app);
        let ring = async move {
            for (subject, payload) in rings {
                match app.bus.publish(subject, payload).await {
                    Ok(()) => app.metrics.count("doorbells", "rung"),
                    Err(error) => {
                        app.metrics.count("doorbells", "lost");
                        tracing::debug!(%error, "a doorbell was not rung; the node polls");
                    }
                }
            }
        };
        ctx.spawn(actix::fut::wrap_future(ring));
    }

    fn finished(&mut self, ctx: &mut Context<Self>) {
        ctx.stop();
    }
}
