//! The appender: one task that stores what queued up while its last commit was under way.
//!
//! The head's lock is held through the commit, so the number of transactions a second is what
//! the disk allows; the number of appends in one is what came in meanwhile. There is no timer:
//! a lone writer waits for nobody. The queue has an end, and whoever finds it full waits.
//!
//! While nobody else appends, the head is what the last append left, and one trip is enough: see
//! [`at_once`]. Otherwise the head is locked first and everything that decides is read.
//!
//! When the connection is lost at the commit, nobody knows whether it happened. The appender
//! asks, under the head's lock: a transaction that is still being committed holds it, so the
//! answer is final. Only when the database stays away too long is the caller told that the
//! outcome is unknown.
//!
//! This process's own followers are told when the next batch is taken up, or when there is none: what
//! they do with one batch then goes on beside the trip of the next, and not before it.
//!
//! Other processes hear of what was stored when the callers have their answers: see
//! [`teller`](crate::teller).

mod at_once;
mod trips;

use std::{sync::Arc, time::Duration};

use rap_events::log::{Append, AppendError, Appended};
use sqlx::PgPool;
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::yield_now,
    time::{Instant, sleep, timeout},
};

use crate::{
    batch::Batch,
    connect::ACQUIRE_TIMEOUT,
    failure::{self, Failure},
    head::Head,
    pipeline::Pipeline,
    publish, statements,
    teller::Teller,
    tls::Place,
    tree,
};

pub use trips::Trips;

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

/// Stores what is in the queue until the queue, or the pool, is closed.
pub(crate) struct Appender {
    pool: PgPool,
    place: Place,
    heads: Arc<watch::Sender<u64>>,
    /// The head that the last batch left, until this process is told of it.
    untold: Option<u64>,
    trips: watch::Sender<Trips>,
    writer: Option<Pipeline>,
    /// The head that the last append left, unless somebody else has appended since.
    known: Option<Head>,
    teller: Teller,
}

impl Appender {
    pub(crate) fn new(
        pool: PgPool,
        place: Place,
        heads: Arc<watch::Sender<u64>>,
        trips: watch::Sender<Trips>,
        teller: Teller,
    ) -> Self {
        Self { pool, place, heads, untold: None, trips, writer: None, known: None, teller }
    }

    /// Serves requests; what is queued when the pool is closed is still served.
    pub(crate) async fn run(mut self, mut queue: mpsc::Receiver<Request>) {
        let mut closing = self.pool.close_event();
        let mut open = true;
        loop {
            // The writers of the last batch were just answered: let them queue their next.
            yield_now().await;
            if queue.is_empty() {
                self.tell_here();
            }
            let first = tokio::select! {
                biased;
                () = &mut closing, if open => {
                    open = false;
                    queue.close();
                    continue;
                }
                first = queue.recv() => first,
            };
            let Some(first) = first else { break };
            let requests = drain(first, &mut queue);
            self.tell_here();
            self.answer(requests).await;
        }
        if let Some(writer) = self.writer {
            writer.close().await;
        }
        self.teller.end().await;
    }

    async fn answer(&mut self, requests: Vec<Request>) {
        let appends: Vec<&Append> = requests.iter().map(|request| &request.append).collect();
        let outcomes = self.serve(&appends).await;
        let stored = last_stored(&outcomes);
        for (request, outcome) in requests.into_iter().zip(outcomes) {
            // Whoever stopped waiting can look the command up.
            let _ = request.answer.send(outcome);
        }
        if let Some(position) = stored {
            self.teller.tell(position);
        }
    }

    /// What the next batch goes on from, and what is to be told here.
    fn left(&mut self, head: Head) {
        self.untold = Some(head.position);
        self.known = Some(head);
    }

    /// Tells this process how far the log has come.
    fn tell_here(&mut self) {
        if let Some(position) = self.untold.take() {
            publish(&self.heads, position);
        }
    }

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
        match self.store_at_once(appends).await? {
            AtOnceEnd::Stored(outcomes) => Ok(outcomes),
            AtOnceEnd::NotStored => self.store_locked(appends, 1).await,
            AtOnceEnd::Contended => self.store_locked(appends, 2).await,
        }
    }

    /// The first try is the one of this number.
    async fn store_locked(
        &mut self,
        appends: &[&Append],
        mut tries: u32,
    ) -> Result<Vec<Outcome>, Failure> {
        loop {
            self.known = None;
            trips::count(&self.trips, |trips| &mut trips.locked);
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
        if let Some(kept) = self.writer.take() {
            match self.store_with(kept, appends).await {
                // It may have died since the last batch. Nothing was stored: a fresh one tells.
                Err(StoreError::Before(Failure::Unavailable(_))) => {}
                stored => return stored,
            }
        }
        let fresh = self.connect().await.map_err(StoreError::Before)?;
        self.store_with(fresh, appends).await
    }

    /// The client's own limit ends with the socket's connection: a server that says nothing on it
    /// would be waited for without end.
    async fn connect(&mut self) -> Result<Pipeline, Failure> {
        match timeout(ACQUIRE_TIMEOUT, Pipeline::connect(&self.place.writer, &self.place)).await {
            Ok(connected) => connected.map_err(|error| failure::classify(&error)),
            Err(_) => Err(Failure::Unavailable("no connection could be had in time".to_owned())),
        }
    }

    async fn store_with(
        &mut self,
        writer: Pipeline,
        appends: &[&Append],
    ) -> Result<Vec<Outcome>, StoreError> {
        // Whatever fails, the next batch starts on a connection without a past.
        let (stored, writer) = store_on(writer, appends).await?;
        self.writer = writer;
        let (outcomes, head) = match stored {
            Stored::Batch { outcomes, head } => (outcomes, head),
            Stored::TreeIsBehind => {
                let completed = tree::complete(&self.pool).await;
                completed.map_err(|error| StoreError::Before(failure::classify(&error)))?;
                return Err(StoreError::Before(Failure::Contended));
            }
        };
        self.left(head);
        Ok(outcomes)
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
                Ok(Err(failure)) => {
                    tracing::warn!(?failure, "no answer yet");
                    sleep(SETTLE_DELAY).await;
                }
                Err(_) => {}
            }
        }
        Ok(vec![Err(AppendError::OutcomeUnknown); appends.len()])
    }

    /// Whether the batch was stored. It was as a whole or not at all, so any command that it
    /// was to store answers for all.
    async fn stored(&mut self, appends: &[&Append], outcomes: &[Outcome]) -> Result<bool, Failure> {
        let is_new = |outcome: &Outcome| matches!(outcome, Ok(appended) if !appended.replayed);
        let new = appends.iter().zip(outcomes).filter(|(_, outcome)| is_new(outcome));
        let new: Vec<&Append> = new.map(|(append, _)| *append).collect();
        let mut writer = self.connect().await?;
        let found = statements::begin(&mut writer, &new).await?;
        // It changes nothing of what was found, and ends with the connection otherwise.
        let _ = statements::roll_back(&mut writer).await;
        Ok(!found.commands.is_empty())
    }
}

/// What became of a try to store a batch in one trip.
enum AtOnceEnd {
    Stored(Vec<Outcome>),
    /// It was not tried, or the head had moved.
    NotStored,
    /// The transaction failed, and will do so once more if it was not somebody else's doing.
    Contended,
}

/// What became of a transaction that did not fail.
enum Stored {
    /// It left `head`; without anything new nothing was written.
    Batch { outcomes: Vec<Outcome>, head: Head },
    /// A process of an earlier release appended: its events need their leaves first.
    TreeIsBehind,
}

/// Stores a batch in one transaction. Returns the connection too, if it can be used again.
async fn store_on(
    mut writer: Pipeline,
    appends: &[&Append],
) -> Result<(Stored, Option<Pipeline>), StoreError> {
    let begun = within(statements::begin(&mut writer, appends)).await;
    let found = begun.unwrap_or_else(|| Err(too_slow())).map_err(StoreError::Before)?;
    if !found.head.is_complete() {
        return Ok((Stored::TreeIsBehind, roll_back(writer).await));
    }
    let mut batch = Batch::new(found);
    let outcomes: Vec<Outcome> = appends.iter().map(|append| batch.admit(append)).collect();
    if batch.commands.is_empty() {
        // Repetitions and conflicts only: there is nothing to commit.
        let stored = Stored::Batch { outcomes, head: batch.head().clone() };
        return Ok((stored, roll_back(writer).await));
    }
    let head = batch.head().position;
    match within(statements::commit(&mut writer, &batch)).await {
        Some(Ok(())) => Ok((Stored::Batch { outcomes, head: batch.head().clone() }, Some(writer))),
        Some(Err(failed)) if failure::certainly_aborted(&failed.error, failed.at_last) => {
            Err(StoreError::Before(failure::classify(&failed.error)))
        }
        Some(Err(_)) | None => Err(StoreError::AtCommit { outcomes, head }),
    }
}

/// Ends a transaction that wrote nothing. When that fails, what was found in it stays true: only
/// the connection is given up.
async fn roll_back(mut writer: Pipeline) -> Option<Pipeline> {
    let ended = within(statements::roll_back(&mut writer)).await;
    matches!(ended, Some(Ok(()))).then_some(writer)
}

async fn within<T>(trip: impl Future<Output = T>) -> Option<T> {
    timeout(BATCH_DEADLINE, trip).await.ok()
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

/// The last event that these appends stored. Who stored one that was there already tells of it.
fn last_stored(outcomes: &[Outcome]) -> Option<u64> {
    let appended = outcomes.iter().flatten();
    let stored = appended.filter(|done| !done.replayed && done.first <= done.last);
    stored.map(|done| done.last).max()
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
