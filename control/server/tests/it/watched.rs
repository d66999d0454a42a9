//! A log in memory that says what is read from it.

use std::collections::BTreeMap;

use futures_util::future::BoxFuture;
use rap_events::{
    Append, AppendError, Appended, BeatTable, Envelope, Heads, LeaseTable, Log, MemoryLog,
    StreamId, Tree,
    beat::{Ballot, BeatTableError, Proposal},
    heads::SealedHead,
    lease::{LeasePage, LeaseTableError, Renewal, Renewals},
    log::{ReadError, StoredCommand},
    personal::SubjectKeys,
};
use rap_proto::{CommandId, Digest, KeyId, NodeId, Timestamp};
use rap_tlog::Frontier;
use uuid::Uuid;

/// Sees each read by position: behind which one, and what came of it.
type Look = Box<dyn Fn(u64, &[Envelope]) + Send + Sync>;

/// A log in memory, and somebody who looks at what is read from it.
pub(crate) struct WatchedLog {
    log: MemoryLog,
    look: Look,
}

impl WatchedLog {
    pub(crate) fn new(look: impl Fn(u64, &[Envelope]) + Send + Sync + 'static) -> Self {
        Self { log: MemoryLog::with_clock(rap_control::now), look: Box::new(look) }
    }
}

impl Tree for WatchedLog {
    fn frontier(&self) -> BoxFuture<'_, Result<Frontier, ReadError>> {
        self.log.frontier()
    }

    fn hashes(
        &self,
        level: u8,
        first: u64,
        count: u16,
    ) -> BoxFuture<'_, Result<Vec<Digest>, ReadError>> {
        self.log.hashes(level, first, count)
    }
}

impl LeaseTable for WatchedLog {
    fn renew(&self, renewals: Vec<Renewal>) -> BoxFuture<'_, Result<Renewals, LeaseTableError>> {
        self.log.renew(renewals)
    }

    fn read_leases<'a>(
        &'a self,
        category: &'a str,
        after: Option<Uuid>,
        limit: usize,
    ) -> BoxFuture<'a, Result<LeasePage, LeaseTableError>> {
        self.log.read_leases(category, after, limit)
    }
}

impl BeatTable for WatchedLog {
    fn read_ballot(&self) -> BoxFuture<'_, Result<Ballot, BeatTableError>> {
        self.log.read_ballot()
    }

    fn propose(&self, proposal: Proposal) -> BoxFuture<'_, Result<bool, BeatTableError>> {
        self.log.propose(proposal)
    }

    fn vote(
        &self,
        replica: KeyId,
        sequence: u64,
        payload: Digest,
    ) -> BoxFuture<'_, Result<bool, BeatTableError>> {
        self.log.vote(replica, sequence, payload)
    }

    fn sign(
        &self,
        replica: KeyId,
        sequence: u64,
        payload: Digest,
        signature: [u8; 64],
    ) -> BoxFuture<'_, Result<bool, BeatTableError>> {
        self.log.sign(replica, sequence, payload, signature)
    }
}

impl Heads for WatchedLog {
    fn seal(
        &self,
        size: u64,
        note: Vec<u8>,
        sealed_at: Timestamp,
    ) -> BoxFuture<'_, Result<(), ReadError>> {
        self.log.seal(size, note, sealed_at)
    }

    fn cosign(
        &self,
        size: u64,
        node: NodeId,
        line: Vec<u8>,
    ) -> BoxFuture<'_, Result<(), ReadError>> {
        self.log.cosign(size, node, line)
    }

    fn heads(
        &self,
        below: Option<u64>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<SealedHead>, ReadError>> {
        self.log.heads(below, limit)
    }
}

impl SubjectKeys for WatchedLog {
    fn keys(
        &self,
        subjects: Vec<Uuid>,
    ) -> BoxFuture<'_, Result<BTreeMap<Uuid, Vec<u8>>, ReadError>> {
        self.log.keys(subjects)
    }
}

impl Log for WatchedLog {
    fn append(&self, append: Append) -> BoxFuture<'_, Result<Appended, AppendError>> {
        self.log.append(append)
    }

    fn read(&self, after: u64, limit: usize) -> BoxFuture<'_, Result<Vec<Envelope>, ReadError>> {
        Box::pin(async move {
            let events = self.log.read(after, limit).await?;
            (self.look)(after, &events);
            Ok(events)
        })
    }

    fn read_stream<'a>(
        &'a self,
        stream: &'a StreamId,
        after_revision: u64,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<Envelope>, ReadError>> {
        self.log.read_stream(stream, after_revision, limit)
    }

    fn head(&self) -> BoxFuture<'_, Result<u64, ReadError>> {
        self.log.head()
    }

    fn wait_beyond(&self, position: u64) -> BoxFuture<'_, Result<u64, ReadError>> {
        self.log.wait_beyond(position)
    }

    fn command(&self, id: CommandId) -> BoxFuture<'_, Result<Option<StoredCommand>, ReadError>> {
        self.log.command(id)
    }
}
