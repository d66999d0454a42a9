//! Writes the fold cache while the server runs, so that one that was killed starts soon as well.

use std::{sync::Arc, time::Duration};

use actix::{Actor, AsyncContext as _, Context};
use rap_control_core::State;

use crate::{app::App, fold_cache::Shelf, living::Living};

/// The cache is written when so many events were folded since it was.
const EVERY_EVENTS: u64 = 10_000;
/// The least time between two that are written: each is all of the state.
const INTERVAL: Duration = Duration::from_secs(60);

pub(crate) struct FoldKeeper {
    app: Arc<App>,
    living: Arc<Living>,
    shelf: Arc<Shelf>,
}

impl FoldKeeper {
    pub(crate) fn new(app: Arc<App>, living: Arc<Living>, shelf: Arc<Shelf>) -> Self {
        Self { app, living, shelf }
    }
}

impl Actor for FoldKeeper {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        let Self { app, living, shelf } = self;
        let (app, living, shelf) = (Arc::clone(app), Arc::clone(living), Arc::clone(shelf));
        ctx.spawn(actix::fut::wrap_future(async move {
            let mut states = app.states();
            let mut kept = app.state().position();
            loop {
                let is_due = |state: &Arc<State>| state.position() >= kept + EVERY_EVENTS;
                // What it returns holds up whoever publishes the next state: it is let go at once.
                if states.wait_for(is_due).await.is_err() {
                    return;
                }
                kept = keep(&app, &living, &shelf).await.unwrap_or(kept);
                tokio::time::sleep(INTERVAL).await;
            }
        }));
    }
}

/// Leaves the state for the next start, unless it may be of another log. Returns the position.
pub(crate) async fn keep(app: &App, living: &Living, shelf: &Arc<Shelf>) -> Option<u64> {
    if !app.may_keep() {
        return None;
    }
    Some(leave(living, shelf).await)
}

/// Leaves the state with the tree that it was folded from, and not with what stands in the log by
/// now: that may have lost events which this state has, and nobody noticed yet.
pub(crate) async fn leave(living: &Living, shelf: &Arc<Shelf>) -> u64 {
    // In this order: an exchange in between makes it a state that is not kept.
    let generation = shelf.generation();
    let held = living.hold().await;
    let (state, source) = (Arc::clone(held.state()), held.source().clone());
    drop(held);
    let position = state.position();
    let shelf = Arc::clone(shelf);
    let writing = move || shelf.store(generation, &state, source.frontier());
    if let Err(error) = tokio::task::spawn_blocking(writing).await {
        tracing::error!(%error, "the fold cache is not written");
    }
    position
}
