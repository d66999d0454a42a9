//! Fills the window that the event streams are fed from: one reader of the log for all of them.
//!
//! Input: the published states. Output: rendered events, and a wake-up for whoever they concern.
//! INVARIANT: an event is shown only when the projections have folded it, and only of a log in which
//! what was shown before still stands: otherwise the streams end, and the replica halts.

use std::{sync::Arc, time::Duration};

use actix::{Actor, ActorContext as _, ActorFutureExt as _, AsyncContext as _, Context};
use rap_control_core::{
    Corrupt, State,
    audit::{self, Audience, Seen, Shown},
};
use rap_events::{Envelope, Log, aggregate::EventError, entry, log::ReadError};

use crate::{
    actors::words,
    app::App,
    feed::{Fed, Feed, pace},
    follow::{self, MAX_BATCH, NotFollowed},
    http::events::message,
    living::Living,
    source::Source,
};

/// How long to wait after the log could not be read.
const RETRY_DELAY: Duration = Duration::from_millis(500);

pub(crate) struct Feeder {
    app: Arc<App>,
    living: Arc<Living>,
}

#[derive(Debug, thiserror::Error)]
enum FeedError {
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(transparent)]
    Event(#[from] EventError),
    #[error(transparent)]
    Lost(#[from] Corrupt),
}

impl From<NotFollowed> for FeedError {
    fn from(stopped: NotFollowed) -> Self {
        match stopped {
            NotFollowed::Unread(error) => Self::Read(error),
            NotFollowed::Lost(corrupt) => Self::Lost(corrupt),
        }
    }
}

impl Feeder {
    pub(crate) fn new(app: Arc<App>, living: Arc<Living>) -> Self {
        Self { app, living }
    }
}

impl Actor for Feeder {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        ctx.spawn(actix::fut::wrap_future(words::run(Arc::clone(&self.app))));
        let run = run(Arc::clone(&self.app), Arc::clone(&self.living));
        ctx.spawn(actix::fut::wrap_future(run).map(
            |(), feeder: &mut Self, ctx: &mut Context<Self>| {
                // Of a replica that halted nothing is fed any more, and nobody starts it again.
                if feeder.app.halted().is_none() {
                    ctx.stop();
                }
            },
        ));
    }
}

/// Goes on until there are no more states, an event is not to be understood, or the log went back.
async fn run(app: Arc<App>, living: Arc<Living>) {
    let mut states = app.states();
    loop {
        match advance(&app, &living).await {
            Ok(()) => {}
            Err(FeedError::Read(error)) => {
                tracing::error!(%error, "the event streams are not fed");
                tokio::time::sleep(RETRY_DELAY).await;
                continue;
            }
            Err(FeedError::Event(error)) => {
                tracing::error!(%error, "a stored event cannot be shown");
                return;
            }
            Err(FeedError::Lost(corrupt)) => {
                app.halt(corrupt);
                app.leadership.resign().await;
                return;
            }
        }
        // What happens meanwhile is published together: one wake-up, however many events.
        tokio::time::sleep(pace(app.feed.followers())).await;
        if states.changed().await.is_err() {
            return;
        }
    }
}

/// Publishes everything that was folded and not yet published.
async fn advance(app: &App, living: &Living) -> Result<(), FeedError> {
    let log = app.log.as_ref();
    while let Some(events) = next(&app.feed, log, &folded(living).await).await? {
        // Held for a moment only: a state that is held longer must be copied to be folded further.
        let state = app.state();
        let fed = events.into_iter().map(|envelope| render(app, &state, envelope));
        app.feed.publish(fed.collect::<Result<Vec<_>, _>>()?);
    }
    Ok(())
}

/// What the projections have folded. Nothing is folded while it is asked for, and no longer.
async fn folded(living: &Living) -> Source {
    living.hold().await.source().clone()
}

/// The next events for the window, of a log in which what was folded of it still stands; `None` when
/// everything that was folded was published, or nobody is there.
async fn next(
    feed: &Feed,
    log: &dyn Log,
    folded: &Source,
) -> Result<Option<Vec<Envelope>>, NotFollowed> {
    let Some(after) = feed.next_after(folded.seen()) else { return Ok(None) };
    let through = folded.next_step(after.position);
    follow::between(log, after, through, MAX_BATCH).await.map(Some)
}

fn render(app: &App, state: &State, envelope: Envelope) -> Result<Fed, EventError> {
    let leaf = entry::leaf(&envelope);
    let id = app.event_id(Seen { position: envelope.position, leaf: Some(leaf) });
    let to = |audience| {
        let shown = audit::show_over(state, &envelope, audience)?;
        Ok(shown.map(|event| message(&id, &event)))
    };
    let to_platform = to(Audience::Platform { everything: true })?.unwrap_or_default();
    let to_organization = match envelope.organization {
        Some(id) => to(Audience::Organization(id))?,
        None => None,
    };
    let bytes = to_platform.len() + to_organization.as_ref().map_or(0, |text| text.len());
    let Envelope { position, organization, stream, .. } = envelope;
    let shown = Shown { position, leaf, organization, to_platform, to_organization, bytes };
    Ok(Fed { stream, shown })
}

#[cfg(test)]
mod tests;
