//! Tells the NATS servers which nodes' bus keys are void, so that a revoked node is cut off from
//! the bus too. Only with NATS, and only by the replica that leads: two could tell an older list
//! over a newer one.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use actix::{
    Actor, ActorContext as _, ActorFutureExt as _, AsyncContext as _, Context, StreamHandler,
};
use rap_bus::nats_authority::{MAX_REVOCATIONS, Revocations};
use rap_control_core::{State, state::NodeStanding};
use tokio_stream::wrappers::WatchStream;

use crate::{app::App, clock};

/// How often a refused or unreachable server is asked again.
const RETRY_INTERVAL: Duration = Duration::from_secs(5);

pub(crate) struct RevocationKeeper {
    app: Arc<App>,
    wanted: Revocations,
    /// What the servers know, as far as they said.
    told: Option<Revocations>,
    telling: bool,
}

impl RevocationKeeper {
    pub(crate) fn new(app: Arc<App>) -> Self {
        Self { app, wanted: BTreeMap::new(), told: None, telling: false }
    }

    fn tell(&mut self, ctx: &mut Context<Self>) {
        if self.app.leadership.term().is_none() {
            // Another replica tells now; what the servers know by then is not known here.
            self.told = None;
            return;
        }
        if self.telling || self.told.as_ref() == Some(&self.wanted) {
            return;
        }
        let Some(issuer) = &self.app.bus_issuer else { return };
        self.telling = true;
        let wanted = self.wanted.clone();
        let update = issuer.tell_revoked(&wanted, clock::now());
        let done = actix::fut::wrap_future(update).map(
            |outcome: Result<(), rap_bus::AccountUpdateError>, keeper: &mut Self, _: &mut _| {
                keeper.telling = false;
                match outcome {
                    Ok(()) => keeper.told = Some(wanted),
                    Err(error) => {
                        tracing::warn!(%error, "the bus does not know yet who is revoked")
                    }
                }
            },
        );
        ctx.spawn(done);
    }
}

impl Actor for RevocationKeeper {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        if self.app.bus_issuer.is_none() {
            return;
        }
        ctx.add_stream(WatchStream::new(self.app.states()));
        ctx.run_interval(RETRY_INTERVAL, Self::tell);
    }
}

impl StreamHandler<Arc<State>> for RevocationKeeper {
    fn handle(&mut self, state: Arc<State>, ctx: &mut Context<Self>) {
        // The newest ones: an older node's token has expired by now.
        let mut revoked: Vec<_> = state
            .nodes()
            .iter()
            .filter(|node| node.standing == NodeStanding::Revoked)
            .map(|node| (node.stamp.changed_at, node.bus_key.clone()))
            .collect();
        revoked.sort_unstable();
        self.wanted =
            revoked.into_iter().rev().take(MAX_REVOCATIONS).map(|(at, key)| (key, at)).collect();
        self.tell(ctx);
    }

    fn finished(&mut self, ctx: &mut Context<Self>) {
        ctx.stop();
    }
}
