//! Folds the log's tail into the projections and publishes them.
//!
//! Input: batches of events, in order. Output: the state behind one shared pointer, exchanged as
//! a whole, so that a reader never sees half an append.
//! INVARIANT: positions are folded without gaps; at a gap or an unreadable event nothing more is
//! folded, because everything that would be said afterwards could be wrong. The replica says so,
//! grants nothing more and leaves its duties to others.

use std::{sync::Arc, time::Duration};

use actix::{Actor, AsyncContext as _, Context, Handler, Message};
use rap_control_core::{Corrupt, State};
use rap_events::{Envelope, Log, entry, log::ReadError, tree::TreeCheck};
use tokio::sync::watch;

use crate::{app::App, fold_cache::Folded};

/// The most events that are folded between two publications.
pub(crate) const MAX_BATCH: usize = 512;
/// How long to wait after the log could not be read.
const RETRY_DELAY: Duration = Duration::from_millis(500);

pub(crate) struct Projection {
    app: Arc<App>,
    twins: Twins,
    states: Arc<watch::Sender<Arc<State>>>,
}

/// Two states that take turns: one is read while the other folds. Each event is folded twice,
/// which is cheaper than copying everything for each batch.
pub(crate) struct Twins {
    published: Arc<State>,
    spare: Arc<State>,
    /// What the spare one has not folded yet.
    behind: Vec<Envelope>,
}

impl Twins {
    pub(crate) fn new(state: State) -> Self {
        let state = Arc::new(state);
        Self { published: Arc::clone(&state), spare: state, behind: Vec::new() }
    }

    /// Folds `batch` and returns the state to publish.
    pub(crate) fn fold(&mut self, batch: Vec<Envelope>) -> Result<Arc<State>, Corrupt> {
        // Copies only when some reader has held the spare since before the last exchange.
        let state = Arc::make_mut(&mut self.spare);
        for envelope in self.behind.drain(..).chain(batch.iter().cloned()) {
            state.fold(&envelope)?;
        }
        std::mem::swap(&mut self.published, &mut self.spare);
        self.behind = batch;
        Ok(Arc::clone(&self.published))
    }
}

/// The next events of the log.
#[derive(Message)]
#[rtype(result = "bool")]
struct Batch(Vec<Envelope>);

impl Projection {
    /// Goes on from what `states` publishes.
    pub(crate) fn new(app: Arc<App>, states: Arc<watch::Sender<Arc<State>>>) -> Self {
        let state = State::clone(&states.borrow());
        Self { app, twins: Twins::new(state), states }
    }
}

impl Actor for Projection {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        let (log, own) = (Arc::clone(&self.app.log), ctx.address());
        let mut position = self.twins.published.position();
        actix_rt::spawn(async move {
            loop {
                let batch = match next_batch(log.as_ref(), position).await {
                    Ok(batch) => batch,
                    Err(error) => {
                        tracing::error!(%error, "the log's tail cannot be read");
                        tokio::time::sleep(RETRY_DELAY).await;
                        continue;
                    }
                };
                position = batch.last().map_or(position, |last| last.position);
                // The next batch is read only when this one is folded: nothing piles up.
                if !matches!(own.send(Batch(batch)).await, Ok(true)) {
                    return;
                }
            }
        });
    }
}

impl Handler<Batch> for Projection {
    type Result = bool;

    fn handle(&mut self, Batch(events): Batch, _: &mut Context<Self>) -> bool {
        match self.twins.fold(events) {
            Ok(state) => {
                self.states.send_replace(state);
                true
            }
            Err(corrupt) => {
                self.app.halt(corrupt);
                // In the background: what waits for the keeper must not hold up the mailbox.
                let app = Arc::clone(&self.app);
                actix_rt::spawn(async move { app.leadership.resign().await });
                false
            }
        }
    }
}

async fn next_batch(log: &dyn Log, after: u64) -> Result<Vec<Envelope>, ReadError> {
    loop {
        let events = log.read(after, MAX_BATCH).await?;
        if !events.is_empty() {
            return Ok(events);
        }
        log.wait_beyond(after).await?;
    }
}

/// Folds the log on through a position, and its tree beside it.
pub(crate) async fn resume(
    log: &dyn Log,
    through: u64,
    Folded { mut state, mut frontier }: Folded,
) -> Result<Folded, ReplayError> {
    while state.position() < through {
        for envelope in &page(log, state.position(), through).await? {
            state.fold(envelope)?;
            frontier.push(entry::leaf(envelope));
        }
        // A long log is folded in turns with everything else that this thread does.
        tokio::task::yield_now().await;
    }
    Ok(Folded { state, frontier })
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

/// Folds the log from the beginning through a position; `check` is shown every event.
pub(crate) async fn replay(
    log: &dyn Log,
    through: u64,
    mut check: Option<&mut TreeCheck>,
) -> Result<State, ReplayError> {
    let mut state = State::default();
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
