//! Drives the rebuild of the projections: reads the log beside those who are served, and exchanges
//! what came of it for the living state.
//!
//! What takes long of a large state, copying and comparing it, is done on a thread of its own. When
//! this actor dies its rebuild is over, and the living state is whole in any case.

use std::{future::Future, sync::Arc, time::Duration};

use actix::{Actor, AsyncContext as _, Context};
use rap_control_core::{
    State,
    rebuild::{COPIES, Effect, Input, Outcome, Rebuild},
};
use rap_events::{Envelope, log::ReadError, tree::TreeCheck};
use tokio::task::spawn_blocking;

use crate::{
    app::App,
    clock,
    fold_cache::{Generation, Shelf},
    living::{Held, Living, Twins},
    source::Source,
};

pub(crate) struct Rebuilder {
    app: Arc<App>,
    living: Arc<Living>,
    shelf: Arc<Shelf>,
}

impl Rebuilder {
    pub(crate) fn new(app: Arc<App>, living: Arc<Living>, shelf: Arc<Shelf>) -> Self {
        Self { app, living, shelf }
    }
}

impl Actor for Rebuilder {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        let Self { app, living, shelf } = self;
        let (app, living, shelf) = (Arc::clone(app), Arc::clone(living), Arc::clone(shelf));
        // Asked now: what is begun from here on is this one's.
        let is_interrupted = app.rebuilds.is_under_way();
        ctx.spawn(actix::fut::wrap_future(async move {
            if is_interrupted {
                give_up(&shelf).await;
                end(&app, Outcome::Interrupted);
            }
            loop {
                app.rebuilds.asked().await;
                let outcome = rebuild(&app, &living, &shelf).await;
                end(&app, outcome);
            }
        }));
    }
}

/// One rebuild, to its end.
async fn rebuild(app: &App, living: &Living, shelf: &Arc<Shelf>) -> Outcome {
    tracing::info!("the projections are rebuilt");
    let mut rebuild = Rebuild::new(clock::moment(), app.state().position());
    let (mut check, mut source) = (TreeCheck::default(), Source::default());
    let mut held: Option<Held<'_>> = None;
    let mut replaced: Option<Twins> = None;
    let mut generation = shelf.generation();
    loop {
        app.rebuilds.tell(rebuild.progress());
        if let Some(outcome) = rebuild.outcome() {
            return outcome.clone();
        }
        let input = match rebuild.poll_effect() {
            None => {
                let due = rebuild.poll_timeout().unwrap_or_else(clock::moment);
                tokio::time::sleep(due.since(clock::moment())).await;
                rebuild.handle_timeout(clock::moment());
                continue;
            }
            Some(Effect::LetGo) => {
                held = None;
                continue;
            }
            Some(Effect::Read { after, limit, patience }) => {
                let input = read(app, &mut check, (after, limit), patience).await;
                if let Input::Read { events, .. } = &input {
                    events.iter().for_each(|envelope| source.take(envelope));
                }
                input
            }
            Some(Effect::Copy(state)) => Input::Copied(apart(|| copies(*state)).await),
            Some(Effect::Hold) => {
                let now = living.hold().await;
                let living = held.insert(now).position();
                if app.refuted().is_some() { Input::Refuted } else { Input::Held { living } }
            }
            Some(Effect::Exchange { published, spare }) => {
                let (held, source) = (held.take(), source.clone());
                replaced = held.map(|held| held.exchange(*published, *spare, source));
                generation = shelf.begin_generation();
                app.forget_compiled();
                // Not only when the rebuilt one is kept: who is killed before that goes on from it.
                give_up(shelf).await;
                Input::Exchanged
            }
            Some(Effect::Compare(state)) => {
                let differing =
                    compare(app, (shelf, generation), replaced.take(), (state, &source)).await;
                Input::Compared { differing }
            }
        };
        rebuild.handle_input(clock::moment(), input);
    }
}

/// Reads events, and whether the log's tree commits to them.
async fn read(
    app: &App,
    check: &mut TreeCheck,
    (after, limit): (u64, usize),
    patience: Duration,
) -> Input {
    // One that fails half-way has followed half of the events: it is not kept.
    let mut next = check.clone();
    let reading = async {
        let events = app.log.read(after, limit).await?;
        next.follow(app.log.as_ref(), &events).await?;
        Ok::<Vec<Envelope>, ReadError>(events)
    };
    match tokio::time::timeout(patience, reading).await {
        Ok(Ok(events)) => {
            let altered = next.altered();
            *check = next;
            Input::Read { events, altered, living: app.state().position() }
        }
        Ok(Err(error)) => {
            tracing::warn!(%error, "the log cannot be read for a rebuild");
            Input::Unread
        }
        Err(_) => {
            tracing::warn!(?patience, "the log does not answer in time for a rebuild");
            Input::Unread
        }
    }
}

fn copies(state: State) -> Box<[State; COPIES]> {
    Box::new([state.clone(), state.clone(), state])
}

/// Names the projections in which the replaced state was another one, and leaves the rebuilt one for
/// the next start: what was left before may have the same fault.
async fn compare(
    app: &App,
    (shelf, generation): (&Arc<Shelf>, Generation),
    replaced: Option<Twins>,
    (state, source): (Box<State>, &Source),
) -> Vec<&'static str> {
    let (shelf, frontier) = (Arc::clone(shelf), source.frontier().clone());
    let may_keep = app.may_keep();
    let differing = apart(move || {
        if may_keep {
            shelf.store(generation, &state, &frontier);
        }
        replaced.map_or_else(Vec::new, |replaced| replaced.published().differing(&state))
    });
    let differing = differing.await;
    if !differing.is_empty() {
        // Whoever asked during the exchange may have compiled from the replaced one after it.
        app.forget_compiled();
    }
    differing
}

/// What was kept before may have the fault of the state that was replaced.
async fn give_up(shelf: &Arc<Shelf>) {
    let shelf = Arc::clone(shelf);
    apart(move || shelf.give_up()).await;
}

/// Works where nobody waits for it.
fn apart<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> impl Future<Output = T> {
    let working = spawn_blocking(work);
    async { working.await.expect("nothing that works apart panics or is ended") }
}

fn end(app: &App, outcome: Outcome) {
    app.metrics.count("rebuilds", outcome.as_str());
    match &outcome {
        Outcome::Same { position } => {
            tracing::info!(position, "the living projections are what the log says");
        }
        Outcome::Differed { position, projections } => tracing::error!(
            position,
            ?projections,
            "the living projections were not what the log says; the rebuilt ones took their place"
        ),
        Outcome::Altered { position } => tracing::error!(
            position,
            "the log is not what its tree commits to; the rebuilt projections are not taken"
        ),
        Outcome::Corrupt(corrupt) => {
            tracing::error!(%corrupt, "the log cannot be folded; the living projections stay");
        }
        Outcome::Unread | Outcome::Refuted | Outcome::Interrupted => {
            let outcome = outcome.as_str();
            tracing::warn!(outcome, "the projections were not rebuilt");
        }
    }
    app.rebuilds.end(clock::now(), outcome);
}
