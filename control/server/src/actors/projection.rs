//! Folds the log's tail into the projections and publishes them.
//!
//! Input: batches of events, in order. Output: the state behind one shared pointer, exchanged as
//! a whole, so that a reader never sees half an append.
//! INVARIANT: positions are folded without gaps; at a gap, an unreadable event, or when what was folded
//! stands in the log no more, nothing more is folded, because everything that would be said afterwards could be wrong. The replica says so,
//! grants nothing more and leaves its duties to others.

use std::{sync::Arc, time::Duration};

use actix::{Actor, AsyncContext as _, Context};
use rap_control_core::{Corrupt, State};
use rap_events::{Envelope, Log, log::ReadError, tree::TreeCheck};

use crate::{
    app::App,
    fold_cache::Folded,
    follow::{Follower, MAX_BATCH, NotFollowed},
    living::Living,
};

/// How long to wait after the log could not be read.
const RETRY_DELAY: Duration = Duration::from_millis(500);

pub(crate) struct Projection {
    app: Arc<App>,
    living: Arc<Living>,
}

impl Projection {
    pub(crate) fn new(app: Arc<App>, living: Arc<Living>) -> Self {
        Self { app, living }
    }
}

impl Actor for Projection {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        let run = run(Arc::clone(&self.app), Arc::clone(&self.living));
        ctx.spawn(actix::fut::wrap_future(run));
    }
}

/// Goes on until an event cannot be folded.
async fn run(app: Arc<App>, living: Arc<Living>) {
    let mut held = living.hold().await;
    held.begin_anew();
    let mut follower = Follower::behind(held.source().seen());
    drop(held);
    let corrupt = loop {
        // The next batch is read only when this one is folded: nothing piles up.
        let batch = match follower.next(app.log.as_ref(), MAX_BATCH).await {
            Ok(batch) => batch,
            Err(NotFollowed::Lost(corrupt)) => break corrupt,
            Err(NotFollowed::Unread(error)) => {
                tracing::error!(%error, "the log's tail cannot be read");
                tokio::time::sleep(RETRY_DELAY).await;
                continue;
            }
        };
        if let Err(corrupt) = living.hold().await.fold(batch) {
            break corrupt;
        }
    };
    app.halt(corrupt);
    app.leadership.resign().await;
}

/// Folds the log on through a position, and its tree beside it.
pub(crate) async fn resume(
    log: &dyn Log,
    through: u64,
    Folded { mut state, mut source }: Folded,
) -> Result<Folded, ReplayError> {
    while state.position() < through {
        for envelope in &page(log, state.position(), through).await? {
            state.fold(envelope)?;
            source.take(envelope);
        }
        // A long log is folded in turns with everything else that this thread does.
        tokio::task::yield_now().await;
    }
    Ok(Folded { state, source })
}

/// The next events, at least one.
async fn page(log: &dyn Log, after: u64, through: u64) -> Result<Vec<Envelope>, ReplayError> {
    let room = usize::try_from(through - after).unwrap_or(MAX_BATCH);
    let events = log.read(after, room.min(MAX_BATCH)).await?;
    if events.is_empty() {
        return Err(ReplayError::Short { through, position: after });
    }
    Ok(events)
}

/// Folds the log on from a state, an empty one for all of it, through a position; `check` is shown
/// every event.
pub(crate) async fn replay(
    mut state: State,
    log: &dyn Log,
    through: u64,
    mut check: Option<&mut TreeCheck>,
) -> Result<State, ReplayError> {
    while state.position() < through {
        let events = page(log, state.position(), through).await?;
        for envelope in &events {
            state.fold(envelope)?;
        }
        if let Some(check) = &mut check {
            check.follow(log, &events).await?;
        }
        // A long log is folded in turns with everything else that this thread does.
        tokio::task::yield_now().await;
    }
    Ok(state)
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum ReplayError {
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(transparent)]
    Corrupt(#[from] Corrupt),
    #[error("the log ends at {position}, before {through}")]
    Short { through: u64, position: u64 },
}
