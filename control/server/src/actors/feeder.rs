//! Fills the window that the event streams are fed from: one reader of the log for all of them.
//!
//! Input: the published states. Output: rendered events, and a wake-up for whoever they concern.
//! INVARIANT: an event is shown only when the projections have folded it.

use std::{sync::Arc, time::Duration};

use actix::{Actor, ActorContext as _, ActorFutureExt as _, AsyncContext as _, Context};
use rap_control_core::{
    State,
    audit::{self, Audience, Shown},
};
use rap_events::{Envelope, aggregate::EventError, log::ReadError};

use crate::{
    actors::words,
    app::App,
    feed::{Fed, pace},
    http::events::message,
};

/// The most events that are rendered between two wake-ups.
const MAX_BATCH: usize = 512;
/// How long to wait after the log could not be read.
const RETRY_DELAY: Duration = Duration::from_millis(500);

pub(crate) struct Feeder {
    app: Arc<App>,
}

#[derive(Debug, thiserror::Error)]
enum FeedError {
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(transparent)]
    Event(#[from] EventError),
}

impl Feeder {
    pub(crate) fn new(app: Arc<App>) -> Self {
        Self { app }
    }
}

impl Actor for Feeder {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        ctx.spawn(actix::fut::wrap_future(words::run(Arc::clone(&self.app))));
        let run = run(Arc::clone(&self.app));
        ctx.spawn(
            actix::fut::wrap_future(run)
                .map(|(), _: &mut Self, ctx: &mut Context<Self>| ctx.stop()),
        );
    }
}

/// Goes on until there are no more states, or an event is not to be understood.
async fn run(app: Arc<App>) {
    let mut states = app.states();
    loop {
        match advance(&app).await {
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
        }
        // What happens meanwhile is published together: one wake-up, however many events.
        tokio::time::sleep(pace(app.feed.followers())).await;
        if states.changed().await.is_err() {
            return;
        }
    }
}

/// Publishes everything that was folded and not yet published.
async fn advance(app: &App) -> Result<(), FeedError> {
    loop {
        let Some(after) = app.feed.next_after(app.state().position()) else { return Ok(()) };
        let events = app.log.read(after, MAX_BATCH).await?;
        // Held for a moment only: a state that is held longer must be copied to be folded further.
        let state = app.state();
        let folded = events.into_iter().filter(|envelope| envelope.position <= state.position());
        let fed = folded.map(|envelope| render(app, &state, envelope));
        let fed = fed.collect::<Result<Vec<_>, _>>()?;
        if fed.is_empty() {
            return Ok(());
        }
        app.feed.publish(fed);
    }
}

fn render(app: &App, state: &State, envelope: Envelope) -> Result<Fed, EventError> {
    let to = |audience| {
        let shown = audit::show_over(state, &envelope, audience)?;
        Ok(shown.map(|event| message(app.custody.cluster, &event)))
    };
    let to_platform = to(Audience::Platform { everything: true })?.unwrap_or_default();
    let to_organization = match envelope.organization {
        Some(id) => to(Audience::Organization(id))?,
        None => None,
    };
    let bytes = to_platform.len() + to_organization.as_ref().map_or(0, |text| text.len());
    let Envelope { position, organization, stream, .. } = envelope;
    Ok(Fed { stream, shown: Shown { position, organization, to_platform, to_organization, bytes } })
}
