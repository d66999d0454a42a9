//! Gives the commands that follow from the state and the time: what is due is decided elsewhere,
//! and giving it twice stores it once.
//!
//! Only the replica that leads gives any. Each append is guarded by the leader's lease: a leader
//! that does not know yet that another took over changes nothing.

use std::{sync::Arc, time::Duration};

use actix::{Actor, AsyncContext as _, Context};
use bytes::Bytes;
use rap_control_core::process::{self, Clock, ProcessCommand, Step};
use rap_events::{Aggregate, cluster, login, session};
use uuid::Uuid;

use crate::{
    app::App,
    clock,
    http::failure::Failure,
    leadership::Term,
    work::{Identity, Work},
};

/// How often it is asked what is due, when no event says so earlier.
const INTERVAL: Duration = Duration::from_secs(5);
/// How long steps that failed are left alone.
const RETRY_DELAY: Duration = Duration::from_millis(500);
/// How long to wait for our own events before asking again.
const FOLD_WAIT: Duration = Duration::from_secs(2);

pub(crate) struct Processes {
    app: Arc<App>,
}

impl Processes {
    pub(crate) fn new(app: Arc<App>) -> Self {
        Self { app }
    }
}

impl Actor for Processes {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        let app = Arc::clone(&self.app);
        ctx.spawn(actix::fut::wrap_future(async move {
            let mut states = app.states();
            let mut standing = app.leadership.changes();
            loop {
                if !give_all(&app).await {
                    tokio::time::sleep(RETRY_DELAY).await;
                }
                let changed = tokio::select! {
                    biased;
                    changed = states.changed() => changed.is_ok(),
                    changed = standing.changed() => changed.is_ok(),
                    () = tokio::time::sleep(INTERVAL) => true,
                };
                if !changed {
                    return;
                }
            }
        }));
    }
}

/// Gives every step that is due, as long as this replica leads; `false` when one of them failed.
async fn give_all(app: &App) -> bool {
    let clock = Clock { now: clock::now(), listening_since: app.listening_since() };
    if app.leadership.term().is_none() {
        return true;
    }
    let steps = process::due(&app.state(), clock);
    let mut all = true;
    let mut last = None;
    for step in steps {
        let Some(term) = app.leadership.term() else { break };
        if step.prolongs_authority() && app.frozen().is_some() {
            continue;
        }
        match give(app, term, step).await {
            Ok(position) => last = Some(position),
            // Somebody else did it, or it is not due any more: the next question tells.
            Err(Failure::Conflict | Failure::KeyGiven) => all = false,
            Err(Failure::LeaseLost) => {
                app.leadership.lost(term.generation);
                app.metrics.count("processes", "lease_lost");
                break;
            }
            Err(Failure::Problem(problem)) => {
                tracing::warn!(%problem, rule = ?problem.rule, "a process' command failed");
                all = false;
            }
        }
    }
    if let Some(position) = last {
        app.wait_for(position, FOLD_WAIT).await;
    }
    all
}

async fn give(app: &App, term: Term, step: Step) -> Result<u64, Failure> {
    let identity = Identity {
        command: step.id,
        request_hash: step.request_hash(),
        actor: step.actor(),
        allowed: None,
        causation: step.causation,
    };
    let prolongs = step.prolongs_authority();
    match step.command {
        ProcessCommand::Cluster(id, command) => {
            run::<cluster::Cluster>(app, term, identity, prolongs, id.uuid(), command).await
        }
        ProcessCommand::Login(id, command) => {
            run::<login::Login>(app, term, identity, prolongs, id.uuid(), command).await
        }
        ProcessCommand::Session(id, command) => {
            run::<session::Session>(app, term, identity, prolongs, id.uuid(), command).await
        }
    }
}

async fn run<A: Aggregate>(
    app: &App,
    term: Term,
    identity: Identity,
    prolongs: bool,
    stream: Uuid,
    command: A::Command,
) -> Result<u64, Failure> {
    let mut work = Work::new(Arc::clone(&app.log), clock::now());
    let mut loaded = work.load::<A>(stream).await?;
    work.decide(&mut loaded, command)?;
    work.guard(term.guard());
    if prolongs {
        app.may_grant()?;
    }
    Ok(work.commit(identity, Bytes::new()).await?.last)
}
