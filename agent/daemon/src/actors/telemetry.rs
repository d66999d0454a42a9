//! Finds out, again and again, what the host can do.

use std::time::Duration;

use actix::{Actor, ActorFutureExt as _, AsyncContext as _, Context, WrapFuture as _};
use rap_agent_core::capability::capabilities;

use crate::{
    RunOptions,
    actors::{Crew, Parts, link::BeatNow},
    board::Board,
    host,
    shell::MAILBOX,
};

/// How often the host is looked at.
const LOOK: Duration = Duration::from_secs(60);

pub(crate) struct TelemetryActor {
    parts: Parts,
    crew: Crew,
}

impl TelemetryActor {
    pub(crate) fn new(parts: Parts, crew: Crew) -> Self {
        Self { parts, crew }
    }

    fn look(&mut self, ctx: &mut Context<Self>) {
        let (options, board) = (self.parts.options.clone(), self.parts.board.clone());
        let look = tokio::task::spawn_blocking(move || look(&options, &board));
        let look = look.into_actor(self).map(|outcome, actor, _| match outcome {
            // Control should know before it sends anybody here, or nobody any more.
            Ok(true) => actor.crew.link.tell(BeatNow),
            Ok(false) => {}
            Err(error) => tracing::warn!(%error, "the host could not be looked at"),
        });
        ctx.spawn(look);
    }
}

/// Looks at the host, and says whether it can do other things than before.
pub(crate) fn look(options: &RunOptions, board: &Board) -> bool {
    let addresses = host::advertised(options.listen, &options.advertise);
    let listens = board.read().mesh.listening.is_some() || host::can_bind(options.listen);
    let facts = host::facts(&options.state_dir, Some(&options.worker), listens, &addresses);
    let found = capabilities(&facts);
    let changed = board.read().capabilities != found;
    if changed {
        let list: Vec<&str> = found.iter().map(|one| one.as_str()).collect();
        tracing::info!(capabilities = list.join(","), "what this host can do");
        board.update(|report| report.capabilities = found);
    }
    changed
}

impl Actor for TelemetryActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(MAILBOX);
        ctx.run_interval(LOOK, Self::look);
    }
}
