//! Puts on record that passwords are being guessed: one event in a while, whatever is guessed.
//!
//! Nobody waits for it, and it is the same whether the names that were tried are anybody's or not,
//! so that neither an answer nor its time nor the log's position tells a guesser who exists.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use actix::{Actor, AsyncContext as _, Context};
use bytes::Bytes;
use rap_control_core::State;
use rap_events::{
    Actor as By,
    guessing::{Guessing, GuessingCommand},
};
use rap_proto::{CommandId, Digest, Timestamp, UserId};

use crate::{
    app::App,
    clock,
    http::failure::Failure,
    throttle::Guesses,
    work::{Identity, Work},
};

/// How long to wait before a record that failed is tried again.
const RETRY_DELAY: Duration = Duration::from_secs(1);

pub(crate) struct GuessRecorder {
    app: Arc<App>,
}

impl GuessRecorder {
    pub(crate) fn new(app: Arc<App>) -> Self {
        Self { app }
    }
}

impl Actor for GuessRecorder {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        ctx.spawn(actix::fut::wrap_future(watch(Arc::clone(&self.app))));
    }
}

async fn watch(app: Arc<App>) {
    loop {
        let guesses = app.throttle.noticed().await;
        let wait = match record(&app, &guesses).await {
            Ok(None) => continue,
            // It is too early for another event: they are counted on.
            Ok(Some(next)) => next.since(clock::now()),
            Err(failure) => {
                tracing::warn!(?failure, "guessed passwords are not on record yet");
                RETRY_DELAY
            }
        };
        app.throttle.give_back(guesses, clock::now());
        tokio::time::sleep(wait).await;
    }
}

/// Appends the event, or says when there may be one again.
async fn record(app: &App, guesses: &Guesses) -> Result<Option<Timestamp>, Failure> {
    let now = clock::now();
    let mut work = Work::new(Arc::clone(&app.log), now);
    let mut loaded = work.load::<Guessing>(app.custody.cluster.uuid()).await?;
    if work.decide(&mut loaded, notice(&app.state(), guesses))?.is_empty() {
        return Ok(loaded.state.next_at());
    }
    let command = CommandId::new(now, clock::random());
    let identity = Identity {
        command,
        request_hash: Digest::of(command.uuid().as_bytes()),
        actor: By::System { process: "logins".to_owned() },
        allowed: None,
        causation: None,
    };
    work.commit(identity, Bytes::new()).await?;
    Ok(None)
}

fn notice(state: &State, guesses: &Guesses) -> GuessingCommand {
    let mut accounts: BTreeMap<UserId, u32> = BTreeMap::new();
    let mut unnamed = guesses.forgotten;
    for (name, wrong) in &guesses.names {
        if let Some(user) = state.users().named(name) {
            accounts.insert(user.id, *wrong);
        } else {
            unnamed = unnamed.saturating_add(*wrong);
        }
    }
    GuessingCommand::Notice { accounts, unnamed }
}
