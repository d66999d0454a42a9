//! The appender: one task that stores what queued up while its last commit was under way.
//!
//! The head's lock is held through the commit, so the number of transactions a second is what
//! the disk allows; the number of appends in one is what came in meanwhile. There is no timer:
//! a lone writer waits for nobody. The queue has an end, and whoever finds it full waits.
//!
//! When the connection is lost at the commit, nobody knows whether it happened. The appender
//! asks, under the head's lock: a transaction that is still being committed holds it, so the
//! answer is final. Only when the database stays away too long is the caller told that the
//! outcome is unknown.

use std::{sync::Arc, time::Duration};

use rap_events::log::{Append, AppendError, Appended};
use sqlx::{PgConnection, PgPool, Postgres, pool::PoolConnection};
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::yield_now,
    time::{Instant, sleep, timeout},
};

use crate::{
    batch::Batch,
    failure::{self, Failure},
    publish, statements, tree,
};

/// The most appends that wait for the appender; more wait at its door.
pub const MAX_QUEUED_APPENDS: usize = 1_024;
/// The most appends in one transaction.
pub const MAX_BATCH: usize = 256;
/// A batch takes no further append once its payloads exceed this many bytes.
pub const MAX_BATCH_BYTES: usize = 8 * 1024 * 1024;
/// How often a batch is tried again because another process wrote in between.
const MAX_CONTENDED_TRIES: u32 = 5;
/// How long one transaction may take before its connection is given up.
const BATCH_DEADLINE: Duration = Duration::from_secs(15);
/// How long the appender asks what became of a lost commit.
const SETTLE_DEADLINE: Duration = Duration::from_secs(10);
const SETTLE_DELAY: Duration = Duration::from_millis(100);

#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) append: Append,
    pub(crate) answer: oneshot::Sender<Outcome>,
}

type Outcome = Result<Appended, AppendError>;

/// Why a batch as a whole was not stored, or not known to be.
#[derive(Debug)]
enum StoreError {
    Before(Failure),
    /// Lost at the commit; `outcomes` hold if it happened.
    AtCommit {
        outcomes: Vec<Outcome>,
        head: u64,
    },
}

/// Serves requests until the queue's other end is gone.
pub(crate) async fn run(
    pool: PgPool,
    mut queue: mpsc::Receiver<Request>,
    heads: Arc<watch::Sender<u64>>,
) {
    let mut closing = pool.close_event();
    let mut appender = Appender { pool, heads, connection: None };
    let mut open = true;
    loop {
        let first = tokio::select! {
            biased;
            // A pool waits for every connection that it gave away.
            () = &mut closing, if open => {
                open = false;
                appender.connection = None;
                continue;
            }
            first = queue.recv() => first,
        };
        let Some(first) = first else { return };
        // The writers of the last batch were just answered: let them queue their next.
        yield_now().await;
        let requests = drain(first, &mut queue);
        let appends: Vec<&Append> = requests.iter().map(|request| &request.append).collect();
        let outcomes = appender.serve(&appends).await;
        for (request, outcome) in requests.into_iter().zip(outcomes) {
            // Whoever stopped waiting can look the command up.
            let _ = request.answer.send(outcome);
        }
    }
}

fn drain(first: Request, queue: &mut mpsc::Receiver<Request>) -> Vec<Request> {
    let mut bytes = first.append.size();
    let mut requests = vec![first];
    while requests.len() < MAX_BATCH && bytes < MAX_BATCH_BYTES {
        let Ok(next) = queue.try_recv() else { break };
        bytes += next.append.size();
        requests.push(next);
    }
    requests
}

trait Size {
    fn size(&self) -> usize;
}

impl Size for Append {
    fn size(&self) -> usize {
        let events = self.writes.iter().flat_map(|write| &write.events);
        events.map(|event| event.payload.len()).sum::<usize>() + self.reply.len()
    }
}

struct Appender {
    pool: PgPool,
    heads: Arc<watch::Sender<u64>>,
    /// Kept from one batch to the next: asking the pool would ask the database whether it is alive.
    connection: Option<PoolConnection<Postgres>>,
}

impl Appender {
    /// One outcome for each append, in order.
    async fn serve(&mut self, appends: &[&Append]) -> Vec<Outcome> {
        match self.store_together(appends).await {
            Ok(outcomes) => outcomes,
            Err(Failure::Refused(_)) if appends.len() > 1 => {
                // One of them is at fault; the others must not suffer for it.
                let mut outcomes = Vec::with_capacity(appends.len());
                for append in appends {
                    let alone = self.store_together(&[append]).await;
                    outcomes
                        .extend(alone.unwrap_or_else(|failure| vec![Err(unavailable(failure))]));
                }
                outcomes
            }
            Err(failure) => vec![Err(unavailable(failure)); appends.len()],
        }
    }

    async fn store_together(&mut self, appends: &[&Append]) -> Result<Vec<Outcome>, Failure> {
        let mut tries = 1;
        loop {
            match self.store(appends).await {
                Ok(outcomes) => return Ok(outcomes),
                Err(StoreError::Before(Failure::Contended)) if tries < MAX_CONTENDED_TRIES => {
                    tries += 1;
                }
                Err(StoreError::Before(failure)) => return Err(failure),
                Err(StoreError::AtCommit { outcomes, head }) => {
                    return self.settle(appends, outcomes, head).await;
                }
            }
        }
    }

    async fn store(&mut self, appends: &[&Append]) -> Result<Vec<Outcome>, StoreError> {
        if let Some(kept) = self.connection.take() {
            match self.store_with(kept, appends).await {
                // It may have died since the last batch. Nothing was stored: a fresh one tells.
                Err(StoreError::Before(Failure::Unavailable(_))) => {}
                stored => return stored,
            }
        }
        let fresh = self.pool.acquire().await.map_err(|error| before(&error))?;
        self.store_with(fresh, appends).await
    }

    async fn store_with(
        &mut self,
        mut connection: PoolConnection<Postgres>,
        appends: &[&Append],
    ) -> Result<Vec<Outcome>, StoreError> {
        let stored = store_on(&mut connection, appends).await;
        match stored {
            Ok((outcomes, head)) => {
                publish(&self.heads, head);
                self.connection = Some(connection);
                Ok(outcomes)
            }
            Err(error) => {
                // Whatever it was, the next batch starts on a connection without a past.
                drop(connection.detach());
                Err(error)
            }
        }
    }

    /// Finds out whether a lost commit happened.
    async fn settle(
        &mut self,
        appends: &[&Append],
        outcomes: Vec<Outcome>,
        head: u64,
    ) -> Result<Vec<Outcome>, Failure> {
        tracing::warn!(appends = appends.len(), "the connection was lost at a commit; asking");
        let deadline = Instant::now() + SETTLE_DEADLINE;
        while Instant::now() < deadline {
            match timeout(SETTLE_DEADLINE, self.stored(appends, &outcomes)).await {
                Ok(Ok(true)) => {
                    publish(&self.heads, head);
                    return Ok(outcomes);
                }
                Ok(Ok(false)) => {
                    let reason = "the connection was lost before the commit".to_owned();
                    return Err(Failure::Unavailable(reason));
                }
                Ok(Err(error)) => {
                    tracing::warn!(error = failure::describe(&error), "no answer yet");
                    sleep(SETTLE_DELAY).await;
                }
                Err(_) => {}
            }
        }
        Ok(vec![Err(AppendError::OutcomeUnknown); appends.len()])
    }

    /// Whether the batch was stored. It was as a whole or not at all, so any command that it
    /// was to store answers for all.
    async fn stored(&mut self, appends: &[&Append], outcomes: &[Outcome]) -> sqlx::Result<bool> {
        let is_new = |outcome: &Outcome| matches!(outcome, Ok(appended) if !appended.replayed);
        let new = appends.iter().zip(outcomes).filter(|(_, outcome)| is_new(outcome));
        let commands: Vec<_> = new.map(|(append, _)| append.command).collect();
        let mut transaction = self.pool.begin().await?;
        statements::lock_head(&mut transaction).await?;
        let found = statements::find_commands(&mut transaction, commands.into_iter()).await?;
        transaction.rollback().await?;
        Ok(!found.is_empty())
    }
}

/// Whether the transaction is over before it comes to the commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ended {
    RolledBack,
    NotYet,
}

/// Stores a batch in one transaction; returns the outcomes and the head that it left.
async fn store_on(
    connection: &mut PgConnection,
    appends: &[&Append],
) -> Result<(Vec<Outcome>, u64), StoreError> {
    let prepared = async {
        let mut head = statements::begin(connection).await?;
        tree::catch_up(connection, &mut head).await?;
        let position = head.position;
        let found = statements::find(connection, head, appends).await?;
        let mut batch = Batch::new(found);
        let outcomes: Vec<Outcome> = appends.iter().map(|append| batch.admit(append)).collect();
        if batch.commands.is_empty() {
            // Repetitions and conflicts only: there is nothing to commit.
            statements::roll_back(connection).await?;
            return Ok((outcomes, position, Ended::RolledBack));
        }
        statements::write(connection, &batch).await?;
        Ok((outcomes, batch.head().position, Ended::NotYet))
    };
    let (outcomes, head, ended) = match timeout(BATCH_DEADLINE, prepared).await {
        Ok(prepared) => prepared.map_err(|error| before(&error))?,
        Err(_) => return Err(StoreError::Before(too_slow())),
    };
    if ended == Ended::RolledBack {
        return Ok((outcomes, head));
    }
    match timeout(BATCH_DEADLINE, statements::commit(connection)).await {
        Ok(Ok(())) => Ok((outcomes, head)),
        Ok(Err(error)) if failure::certainly_aborted(&error) => Err(before(&error)),
        Ok(Err(_)) | Err(_) => Err(StoreError::AtCommit { outcomes, head }),
    }
}

fn before(error: &sqlx::Error) -> StoreError {
    StoreError::Before(failure::classify(error))
}

fn too_slow() -> Failure {
    Failure::Unavailable(format!("no answer within {} s", BATCH_DEADLINE.as_secs()))
}

fn unavailable(failure: Failure) -> AppendError {
    AppendError::Unavailable(match failure {
        Failure::Contended => "too many writers at once".to_owned(),
        Failure::Unavailable(reason) => reason,
        Failure::Refused(reason) => format!("the database refused the append: {reason}"),
    })
}
