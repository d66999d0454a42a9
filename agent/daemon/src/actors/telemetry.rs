//! Finds out, again and again, what the host can do.

use std::{collections::BTreeSet, time::Duration};

use actix::{Actor, ActorFutureExt as _, AsyncContext as _, Context, WrapFuture as _};
use rap_agent_core::capability::capabilities;

use crate::{actors::Parts, host, shell::MAILBOX};

/// How often the host is looked at.
const LOOK: Duration = Duration::from_secs(60);

pub(crate) struct TelemetryActor {
    parts: Parts,
}

impl TelemetryActor {
    pub(crate) fn new(parts: Parts) -> Self {
        Self { parts }
    }

    fn look(&mut self, ctx: &mut Context<Self>) {
        let options = self.parts.options.clone();
        let listening = self.parts.board.read().mesh.listening.is_some();
        let look = tokio::task::spawn_blocking(move || {
            let addresses = host::advertised(options.listen, &options.advertise);
            let listens = listening || host::can_bind(options.listen);
            let facts = host::facts(&options.state_dir, Some(&options.worker), listens, &addresses);
            capabilities(&facts)
        });
        let look = look.into_actor(self).map(|found, actor, _| match found {
            Ok(found) => actor.found(found),
            Err(error) => tracing::warn!(%error, "the host could not be looked at"),
        });
        ctx.spawn(look);
    }

    fn found(&self, found: BTreeSet<rap_proto::Capability>) {
        self.parts.board.update(|report| {
            if report.capabilities != found {
                let list: Vec<&str> = found.iter().map(|one| one.as_str()).collect();
                tracing::info!(capabilities = list.join(","), "what this host can do");
            }
            report.capabilities = found;
        });
    }
}

impl Actor for TelemetryActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(MAILBOX);
        self.look(ctx);
        ctx.run_interval(LOOK, Self::look);
    }
}
