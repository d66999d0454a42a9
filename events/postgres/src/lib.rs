//! The event log on PostgreSQL.
//!
//! One database holds one log. Any number of processes may append to it and read it: the one
//! row of `log_head` orders them, and its lock is held through the commit, so positions have no
//! gaps and what a reader sees at a position never changes. A lock held through the commit would
//! allow one commit at a time, so each process appends in
//! batches, of whatever queued up during its last commit.
//!
//! Nothing here rests on sequences, advisory locks or stored procedures, and failures are told
//! apart by SQLSTATE and constraint, never by a message's text.

mod appender;
mod at_once;
pub mod backup;
mod batch;
mod beats;
mod connect;
mod engine;
mod failure;
mod head;
mod heads;
mod leases;
mod pipeline;
pub mod private;
mod read;
mod reader;
mod roles;
mod schema;
mod statements;
mod subjects;
mod tail;
mod teller;
mod tls;
mod tree;

use std::{collections::BTreeMap, sync::Arc};

use futures_util::future::BoxFuture;
use rap_events::{
    beat::{Ballot, BeatTable, BeatTableError, Proposal},
    heads::{Heads, SealedHead},
    lease::{LeasePage, LeaseTable, LeaseTableError, Renewal, Renewals},
    log::{Append, AppendError, Appended, Envelope, Log, ReadError, StoredCommand, StreamId},
    personal::SubjectKeys,
    tree::Tree,
};
use rap_proto::{CommandId, Digest, KeyId, NodeId, OrganizationId, Timestamp};
use rap_tlog::Frontier;
use sqlx::PgPool;
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::JoinHandle,
};

use uuid::Uuid;

use crate::{appender::Appender, reader::Reader, teller::Teller};

pub use appender::{MAX_BATCH, MAX_BATCH_BYTES, MAX_QUEUED_APPENDS, Trips};
pub use connect::{ConnectError, MAX_CONNECTIONS, check};
pub use roles::PRIVILEGES;
pub use schema::migrate;

/// The log of one cluster. While the database is away, calls answer `Unavailable`; when it is
/// back they work again.
#[derive(Debug)]
pub struct PostgresLog {
    pool: PgPool,
    reader: Reader,
    queue: mpsc::Sender<appender::Request>,
    head: watch::Receiver<u64>,
    trips: watch::Receiver<Trips>,
    may_rewrite: bool,
    tail: JoinHandle<()>,
    /// Ends with the appender.
    appender: watch::Receiver<()>,
}

impl PostgresLog {
    /// Connects to `url` (`postgres://user@host/database`; a Unix socket's folder stands
    /// percent-encoded in the host's place; another machine has to prove itself by
    /// `sslmode=verify-full` and `sslrootcert`), brings the schema up to date if its role may
    /// ([`migrate`] says who else does) and starts the appender, the teller and the tail on the
    /// current tokio runtime.
    pub async fn connect(url: &str) -> Result<Self, ConnectError> {
        let (pool, place) = connect::open(url).await?;
        let may_rewrite =
            roles::may_rewrite(&pool).await.map_err(|error| connect::unusable(&error))?;
        if may_rewrite {
            tracing::warn!(
                "the database lets this server rewrite the log: see `rap-control migrate`"
            );
        }
        let known = read::head(&pool).await.map_err(|error| match error {
            ReadError::Unavailable(reason) => ConnectError::Unavailable(reason),
            ReadError::Corrupt { detail, .. } => ConnectError::Schema(detail),
        })?;
        let (publish, head) = watch::channel(known);
        let publish = Arc::new(publish);
        let (queue, requests) = mpsc::channel(MAX_QUEUED_APPENDS);
        let (alive, appender) = watch::channel(());
        let (counted, trips) = watch::channel(Trips::default());
        let heads = Arc::clone(&publish);
        let teller = Teller::start(place.clone());
        let running = Appender::new(pool.clone(), place.clone(), heads, counted, teller);
        tokio::spawn(async move {
            running.run(requests).await;
            drop(alive);
        });
        let reader = Reader::new(pool.clone(), place.clone());
        let tail = tokio::spawn(tail::run(place, publish));
        Ok(Self { pool, reader, queue, head, trips, may_rewrite, tail, appender })
    }

    /// How often a batch went to the database in each way.
    pub fn trips(&self) -> Trips {
        *self.trips.borrow()
    }

    /// Whether the role that this connected as could change or remove what is stored, or become one
    /// that can.
    pub const fn may_rewrite(&self) -> bool {
        self.may_rewrite
    }

    /// Lets what was begun finish, and closes every connection. Later calls answer `Unavailable`.
    pub async fn close(&self) {
        self.tail.abort();
        self.pool.close().await;
        self.reader.close().await;
        // Fails when the appender is gone, which is what is waited for.
        let _ = self.appender.clone().changed().await;
    }

    async fn enqueue(&self, append: Append) -> Result<Appended, AppendError> {
        append.check()?;
        let (answer, outcome) = oneshot::channel();
        let stopped = || AppendError::Unavailable("the log was closed".to_owned());
        self.queue.send(appender::Request { append, answer }).await.map_err(|_| stopped())?;
        // The appender answers every request that it took; it only vanishes with its runtime.
        outcome.await.map_err(|_| AppendError::OutcomeUnknown)?
    }
}

impl Log for PostgresLog {
    fn append(&self, append: Append) -> BoxFuture<'_, Result<Appended, AppendError>> {
        Box::pin(self.enqueue(append))
    }

    fn read(&self, after: u64, limit: usize) -> BoxFuture<'_, Result<Vec<Envelope>, ReadError>> {
        Box::pin(self.reader.page(after, limit))
    }

    fn read_within(
        &self,
        organization: OrganizationId,
        after: u64,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<Envelope>, ReadError>> {
        Box::pin(read::within(&self.pool, organization, after, limit))
    }

    fn read_stream<'a>(
        &'a self,
        stream: &'a StreamId,
        after_revision: u64,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<Envelope>, ReadError>> {
        Box::pin(read::stream(&self.pool, stream, after_revision, limit))
    }

    fn head(&self) -> BoxFuture<'_, Result<u64, ReadError>> {
        Box::pin(read::head(&self.pool))
    }

    fn wait_beyond(&self, position: u64) -> BoxFuture<'_, Result<u64, ReadError>> {
        let mut head = self.head.clone();
        Box::pin(async move {
            let reached = head.wait_for(|head| *head > position).await;
            reached
                .map(|head| *head)
                .map_err(|_| ReadError::Unavailable("the log was closed".to_owned()))
        })
    }

    fn command(&self, id: CommandId) -> BoxFuture<'_, Result<Option<StoredCommand>, ReadError>> {
        Box::pin(read::command(&self.pool, id))
    }
}

impl Tree for PostgresLog {
    fn frontier(&self) -> BoxFuture<'_, Result<Frontier, ReadError>> {
        Box::pin(tree::read_frontier(&self.pool))
    }

    fn hashes(
        &self,
        level: u8,
        first: u64,
        count: u16,
    ) -> BoxFuture<'_, Result<Vec<Digest>, ReadError>> {
        Box::pin(tree::read_hashes(&self.pool, level, first, count))
    }
}

impl LeaseTable for PostgresLog {
    fn renew(&self, renewals: Vec<Renewal>) -> BoxFuture<'_, Result<Renewals, LeaseTableError>> {
        Box::pin(leases::renew(&self.pool, renewals))
    }

    fn read_leases<'a>(
        &'a self,
        category: &'a str,
        after: Option<Uuid>,
        limit: usize,
    ) -> BoxFuture<'a, Result<LeasePage, LeaseTableError>> {
        Box::pin(leases::read(&self.pool, category, after, limit))
    }
}

impl BeatTable for PostgresLog {
    fn read_ballot(&self) -> BoxFuture<'_, Result<Ballot, BeatTableError>> {
        Box::pin(beats::read(&self.pool))
    }

    fn propose(&self, proposal: Proposal) -> BoxFuture<'_, Result<bool, BeatTableError>> {
        Box::pin(beats::propose(&self.pool, proposal))
    }

    fn vote(
        &self,
        replica: KeyId,
        sequence: u64,
        payload: Digest,
    ) -> BoxFuture<'_, Result<bool, BeatTableError>> {
        Box::pin(beats::vote(&self.pool, replica, sequence, payload))
    }

    fn sign(
        &self,
        replica: KeyId,
        sequence: u64,
        payload: Digest,
        signature: [u8; 64],
    ) -> BoxFuture<'_, Result<bool, BeatTableError>> {
        Box::pin(beats::sign(&self.pool, replica, sequence, payload, signature))
    }
}

impl Heads for PostgresLog {
    fn seal(
        &self,
        size: u64,
        note: Vec<u8>,
        sealed_at: Timestamp,
    ) -> BoxFuture<'_, Result<(), ReadError>> {
        Box::pin(heads::seal(&self.pool, size, note, sealed_at))
    }

    fn cosign(
        &self,
        size: u64,
        node: NodeId,
        line: Vec<u8>,
    ) -> BoxFuture<'_, Result<(), ReadError>> {
        Box::pin(heads::cosign(&self.pool, size, node, line))
    }

    fn heads(
        &self,
        below: Option<u64>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<SealedHead>, ReadError>> {
        Box::pin(heads::read(&self.pool, below, limit))
    }
}

impl SubjectKeys for PostgresLog {
    fn keys(
        &self,
        subjects: Vec<Uuid>,
    ) -> BoxFuture<'_, Result<BTreeMap<Uuid, Vec<u8>>, ReadError>> {
        Box::pin(subjects::find(&self.pool, subjects))
    }
}

impl Drop for PostgresLog {
    fn drop(&mut self) {
        self.tail.abort();
    }
}

/// Tells everyone who waits how far the log has come. Heads arrive from the appender and from
/// the tail in any order; only a greater one counts. Only the tail's own look at the log takes one
/// back that was false.
fn publish(heads: &watch::Sender<u64>, head: u64) {
    heads.send_if_modified(|known| {
        let rises = head > *known;
        if rises {
            *known = head;
        }
        rises
    });
}
