//! Keeps this replica's part in the duties that only one replica does: takes the lease, renews it
//! and gives it back, as the candidate says.

use std::{sync::Arc, time::Duration};

use actix::{Actor, AsyncContext as _, Context};
use bytes::Bytes;
use rap_control_core::leadership::{Candidate, Effect, Input, give_back, lease, take};
use rap_events::{
    Actor as By, keys,
    leadership::Leadership,
    lease::{LeaseRow, LeaseTableError, MAX_LEASE_ROWS, Renewal},
};
use rap_proto::{CommandId, Digest, Duty, Moment, ReplicaId, Timestamp};
use tokio::{
    sync::{Mutex, oneshot},
    time::{sleep, timeout},
};

use crate::{
    app::App,
    clock,
    http::failure::Failure,
    leadership::{Desk, Message, Standing, Term},
    work::{Identity, Work},
};

const DUTY: Duty = Duty::Processes;
const NAME: &str = "leadership";
/// How long one answer is waited for; then it counts as none.
const ANSWER_DEADLINE: Duration = Duration::from_secs(2);

pub(crate) struct LeadershipKeeper {
    app: Arc<App>,
    /// Whoever holds it is the one keeper; a new one waits until the last is gone.
    desk: Arc<Mutex<Desk>>,
}

impl LeadershipKeeper {
    pub(crate) fn new(app: Arc<App>, desk: Arc<Mutex<Desk>>) -> Self {
        Self { app, desk }
    }
}

impl Actor for LeadershipKeeper {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        let (app, desk) = (Arc::clone(&self.app), Arc::clone(&self.desk));
        ctx.spawn(actix::fut::wrap_future(async move {
            keep(&app, &mut *desk.lock().await).await;
        }));
    }
}

/// Drives the candidate until it has resigned.
async fn keep(app: &App, desk: &mut Desk) {
    let mut candidate = Candidate::new(app.replica, clock::moment());
    let mut resigned: Option<oneshot::Sender<()>> = None;
    loop {
        candidate.handle_timeout(clock::moment());
        while let Some(effect) = candidate.poll_effect() {
            publish(desk, app.replica, &candidate);
            let answer = timeout(ANSWER_DEADLINE, perform(app, effect)).await;
            candidate.handle_input(clock::moment(), answer.unwrap_or(Input::Unanswered));
        }
        publish(desk, app.replica, &candidate);
        let Some(next) = candidate.poll_timeout() else {
            // Whoever asked may have stopped waiting.
            let _ = resigned.map(|resigned| resigned.send(()));
            return;
        };
        tokio::select! {
            biased;
            message = desk.messages.recv() => {
                let input = match message {
                    None => return,
                    Some(Message::Lost { generation }) => Input::Lost { generation },
                    Some(Message::Resign(asked)) => {
                        resigned = Some(asked);
                        Input::Resign
                    }
                };
                candidate.handle_input(clock::moment(), input);
            }
            () = sleep(next.since(clock::moment())) => {}
        }
    }
}

fn publish(desk: &Desk, replica: ReplicaId, candidate: &Candidate) {
    let now = clock::moment();
    let term = candidate.leads(now).zip(candidate.deadline());
    let standing = match term {
        Some((generation, deadline)) => Standing::Leading(Term { replica, generation, deadline }),
        None if candidate.is_settled() => Standing::Following,
        None => Standing::Unknown,
    };
    desk.standing.send_if_modified(|told| {
        let (led, leads) = (generation(told), generation(&standing));
        if led != leads {
            tracing::info!(duty = %DUTY, was = ?led, is = ?leads, "leadership changed");
        }
        std::mem::replace(told, standing) != standing
    });
}

fn generation(standing: &Standing) -> Option<u64> {
    match standing {
        Standing::Leading(term) => Some(term.generation),
        Standing::Unknown | Standing::Following => None,
    }
}

async fn perform(app: &App, effect: Effect) -> Input {
    let sent = clock::moment();
    match effect {
        Effect::Look => match look(app).await {
            Ok((row, now)) => Input::Looked { row, now },
            Err(error) => unanswered(&error),
        },
        Effect::Renew { generation } => renew(app, sent, generation).await,
        Effect::Take { row, now } => match take_over(app, row, now).await {
            Ok(generation) => Input::Granted { sent, generation },
            Err(Failure::Conflict | Failure::KeyGiven | Failure::LeaseLost) => Input::Refused,
            Err(Failure::Problem(problem)) => unanswered(&problem),
        },
        Effect::GiveBack { generation } => match resign(app, generation).await {
            // Given back or lost before: either way it is another's to take.
            Ok(()) | Err(Failure::Conflict | Failure::KeyGiven | Failure::LeaseLost) => {
                Input::Refused
            }
            Err(Failure::Problem(problem)) => unanswered(&problem),
        },
    }
}

fn unanswered(reason: &dyn std::fmt::Display) -> Input {
    tracing::warn!(duty = %DUTY, %reason, "the lease of a duty is not known");
    Input::Unanswered
}

async fn look(app: &App) -> Result<(Option<LeaseRow>, Timestamp), LeaseTableError> {
    let lease = lease(DUTY);
    let page = app.leases.read_leases(&lease.category, None, MAX_LEASE_ROWS).await?;
    let row = page.rows.into_iter().find(|(id, _)| *id == lease.id);
    Ok((row.map(|(_, row)| row), page.at.now))
}

async fn renew(app: &App, sent: Moment, generation: u64) -> Input {
    let renewal = Renewal { lease: lease(DUTY), generation, holder: app.replica.uuid() };
    match app.leases.renew(vec![renewal]).await {
        Ok(renewed) => match renewed.outcomes.first() {
            Some(outcome) => Input::Renewed { sent, generation, outcome: *outcome },
            None => Input::Unanswered,
        },
        Err(error) => unanswered(&error),
    }
}

async fn take_over(app: &App, row: Option<LeaseRow>, now: Timestamp) -> Result<u64, Failure> {
    let mut work = Work::new(Arc::clone(&app.log), clock::now());
    let mut loaded = work.load::<Leadership>(keys::leadership_id(DUTY)).await?;
    let taking = take(&loaded.state, DUTY, app.replica, row.as_ref(), now);
    for command in taking.commands {
        work.decide(&mut loaded, command)?;
    }
    work.change_lease(taking.change);
    work.commit(identity(), Bytes::new()).await?;
    Ok(taking.generation)
}

async fn resign(app: &App, generation: u64) -> Result<(), Failure> {
    let unavailable = |error: LeaseTableError| {
        Failure::from(rap_events::AppendError::Unavailable(error.to_string()))
    };
    let (_, now) = look(app).await.map_err(unavailable)?;
    let mut work = Work::new(Arc::clone(&app.log), clock::now());
    let mut loaded = work.load::<Leadership>(keys::leadership_id(DUTY)).await?;
    let (command, change) = give_back(DUTY, generation, now);
    work.decide(&mut loaded, command)?;
    work.change_lease(change);
    work.commit(identity(), Bytes::new()).await.map(|_| ())
}

fn identity() -> Identity {
    let command = CommandId::new(clock::now(), clock::random());
    Identity {
        command,
        request_hash: Digest::of(command.uuid().as_bytes()),
        actor: By::System { process: NAME.to_owned() },
        allowed: None,
        causation: None,
    }
}
