//! Writes the fold cache while the server runs, so that one that was killed starts soon as well.

use std::{sync::Arc, time::Duration};

use actix::{Actor, AsyncContext as _, Context};
use rap_control_core::State;
use rap_events::tree;

use crate::{
    app::App,
    fold_cache::{Generation, Shelf},
};

/// The cache is written when so many events were folded since it was.
const EVERY_EVENTS: u64 = 10_000;
/// The least time between two that are written: each is all of the state.
const INTERVAL: Duration = Duration::from_secs(60);

pub(crate) struct FoldKeeper {
    app: Arc<App>,
    shelf: Arc<Shelf>,
}

impl FoldKeeper {
    pub(crate) fn new(app: Arc<App>, shelf: Arc<Shelf>) -> Self {
        Self { app, shelf }
    }
}

impl Actor for FoldKeeper {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        let (app, shelf) = (Arc::clone(&self.app), Arc::clone(&self.shelf));
        ctx.spawn(actix::fut::wrap_future(async move {
            let mut states = app.states();
            let mut kept = app.state().position();
            loop {
                let is_due = |state: &Arc<State>| state.position() >= kept + EVERY_EVENTS;
                // What it returns holds up whoever publishes the next state: it is let go at once.
                if states.wait_for(is_due).await.is_err() {
                    return;
                }
                // In this order: an exchange in between makes it a state that is not kept.
                let (generation, state) = (shelf.generation(), app.state());
                kept = state.position();
                keep(&app, &shelf, generation, state).await;
                tokio::time::sleep(INTERVAL).await;
            }
        }));
    }
}

async fn keep(app: &App, shelf: &Arc<Shelf>, generation: Generation, state: Arc<State>) {
    if app.refuted().is_some() {
        return;
    }
    let frontier = match tree::frontier_at(app.log.as_ref(), state.position()).await {
        Ok(frontier) => frontier,
        Err(error) => {
            tracing::warn!(%error, "the fold cache is not written");
            return;
        }
    };
    let shelf = Arc::clone(shelf);
    let written =
        tokio::task::spawn_blocking(move || shelf.store(generation, &state, &frontier)).await;
    if let Err(error) = written {
        tracing::error!(%error, "the fold cache is not written");
    }
}
