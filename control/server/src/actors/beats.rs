//! Keeps this replica's part in the authority beat: reads the ballot, votes, signs and publishes
//! what a quorum signed, as the voter says. Rings the nodes when a beat is worth hearing at once.

use std::{sync::Arc, time::Duration};

use actix::{Actor, AsyncContext as _, Context};
use rap_control_core::beat::{Charter, Effect, Input, Reading, Voter};
use rap_events::beat::BeatTableError;
use rap_proto::{Digest, KeyId, Signer, beat::Beat, bus::ControlBody, key::LocalKey, signed};
use tokio::{
    sync::Mutex,
    time::{sleep, timeout},
};

use crate::{app::App, beat::BeatSender, clock};

/// How long one answer is waited for; then it counts as none.
const ANSWER_DEADLINE: Duration = Duration::from_secs(2);

pub(crate) struct BeatKeeper {
    app: Arc<App>,
    /// Whoever holds it is the one keeper; a new one waits until the last is gone.
    publish: Arc<Mutex<BeatSender>>,
}

impl BeatKeeper {
    pub(crate) fn new(app: Arc<App>, publish: Arc<Mutex<BeatSender>>) -> Self {
        Self { app, publish }
    }
}

impl Actor for BeatKeeper {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        let (app, publish) = (Arc::clone(&self.app), Arc::clone(&self.publish));
        ctx.spawn(actix::fut::wrap_future(async move {
            keep(&app, &*publish.lock().await).await;
        }));
    }
}

/// Drives the voter for as long as the server runs.
async fn keep(app: &App, publish: &BeatSender) {
    let (own, control) = (app.custody.replica.public_key(), app.custody.control.public_key());
    let mut voter = Voter::new(own, control, app.limits.beat, clock::moment());
    let mut leading = app.leadership.changes();
    let mut charters = Charters::default();
    loop {
        voter.handle_timeout(clock::moment());
        while let Some(effect) = voter.poll_effect() {
            let performed = perform(app, &mut charters, effect);
            let answer = timeout(ANSWER_DEADLINE, performed).await;
            voter.handle_input(clock::moment(), answer.unwrap_or(Input::Unanswered));
            tell(app, publish, &voter).await;
        }
        let next = voter.poll_timeout().unwrap_or(clock::moment() + ANSWER_DEADLINE);
        tokio::select! {
            biased;
            changed = leading.changed() => match changed {
                Ok(()) => voter.handle_input(clock::moment(), Input::Woken),
                Err(_) => return,
            },
            () = sleep(next.since(clock::moment())) => {}
        }
    }
}

/// The charter of the last statement: signing and hashing it once is enough.
#[derive(Default)]
struct Charters(Option<(u64, Arc<Charter>)>);

impl Charters {
    fn present(&mut self, app: &App) -> Arc<Charter> {
        let state = app.state();
        let revision = state.authority().revision;
        if let Some((known, charter)) = &self.0
            && *known == revision
        {
            return Arc::clone(charter);
        }
        let charter = Charter::of(&state, app.custody.cluster, &app.custody.control);
        let charter = Arc::new(charter);
        self.0 = Some((revision, Arc::clone(&charter)));
        charter
    }
}

async fn perform(app: &App, charters: &mut Charters, effect: Effect) -> Input {
    let done = match effect {
        Effect::Read => read(app, charters).await,
        Effect::Propose(proposal) => {
            app.beats.propose(proposal).await.map(|stored| Input::Proposed { stored })
        }
        Effect::Vote { key, sequence, payload } => {
            let voted = app.beats.vote(key, sequence, payload).await;
            voted.map(|stored| Input::Voted { stored })
        }
        Effect::Sign { key, sequence, payload } => sign(app, key, sequence, &payload).await,
    };
    done.unwrap_or_else(|error| {
        tracing::warn!(%error, "the beats of the others are not known");
        Input::Unanswered
    })
}

async fn read(app: &App, charters: &mut Charters) -> Result<Input, BeatTableError> {
    let sent = clock::moment();
    // Before the ballot: what was folded must not be ahead of the head that is read.
    let (position, deny_version) = {
        let state = app.state();
        (state.position(), state.authority().deny_version)
    };
    let charter = charters.present(app);
    let ballot = app.beats.read_ballot().await?;
    let leads = app.leadership.term().is_some();
    let reading = Reading { sent, ballot, charter, position, deny_version, leads };
    Ok(Input::Read(Box::new(reading)))
}

async fn sign(
    app: &App,
    key: KeyId,
    sequence: u64,
    payload: &[u8],
) -> Result<Input, BeatTableError> {
    let keys: [&LocalKey; 2] = [&app.custody.replica, &app.custody.control];
    let Some(signer) = keys.into_iter().find(|held| held.public_key().id() == key) else {
        return Ok(Input::Unanswered);
    };
    let signature = signed::sign::<Beat>(payload, signer);
    let stored = app.beats.sign(key, sequence, Digest::of(payload), signature).await?;
    Ok(if stored { Input::Signed } else { Input::Unanswered })
}

/// Publishes a newer beat, and rings when it says more than that everything is as before.
async fn tell(app: &App, publish: &BeatSender, voter: &Voter) {
    let Some(held) = voter.held(clock::moment()) else { return };
    let before = app.beat.last();
    let known = before.as_ref().map(|before| (before.beat.sequence, before.until));
    if known == Some((held.beat.sequence, held.until)) {
        return;
    }
    let missed = app.beat.held().is_none();
    if missed {
        tracing::info!(sequence = held.beat.sequence, "the replicas have a beat");
    }
    let news = held.is_news(before.as_deref(), missed);
    publish.send_replace(Some(Arc::new(held.clone())));
    if news && app.leadership.term().is_some() {
        ring(app, held.beat.sequence).await;
    }
}

async fn ring(app: &App, sequence: u64) {
    let now = clock::now();
    let state = app.state();
    let nodes: Vec<_> = state.nodes().approved().map(|node| node.id).collect();
    drop(state);
    for node in nodes {
        let (subject, payload) = app.say(node, ControlBody::BeatAvailable { sequence }, now);
        let outcome = if app.bus.publish(subject, payload).await.is_ok() { "rung" } else { "lost" };
        app.metrics.count("doorbells", outcome);
    }
}
