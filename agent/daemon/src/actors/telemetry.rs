//! Finds out, again and again, what the host can do.

use std::time::Duration;

use actix::{Actor, ActorFutureExt as _, AsyncContext as _, Context, WrapFuture as _};
use rap_agent_core::capability::capabilities;

use crate::{
    RunOptions,
    actors::{Crew, Parts, link::BeatNow},
    board::Board,
    ground::Ground,
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
        let parts = self.parts.clone();
        let (ground, options, board) = (parts.ground, parts.options, parts.board);
        let look = self.parts.offload(move || look(&*ground, &options, &board));
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
pub(crate) fn look(ground: &dyn Ground, options: &RunOptions, board: &Board) -> bool {
    let listens = board.read().mesh.listening.is_some();
    let found = capabilities(&ground.facts(options, listens));
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
