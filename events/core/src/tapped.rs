//! A log in memory with somebody in between, for tests of what is built on a log.
//!
//! A [`Tap`] sees what goes through it, holds it up, or answers in the log's place. Each of its methods
//! passes on what it is asked for until a test says otherwise. What no test has tapped yet goes straight
//! through.

use std::collections::BTreeMap;

use futures_util::future::BoxFuture;
use rap_proto::{CommandId, Digest, KeyId, NodeId, Timestamp};
use rap_tlog::Frontier;
use uuid::Uuid;

use crate::{
    beat::{Ballot, BeatTable, BeatTableError, Proposal},
    heads::{Heads, SealedHead},
    lease::{LeasePage, LeaseTable, LeaseTableError, Renewal, Renewals},
    log::{Append, AppendError, Appended, Envelope, Log, ReadError, StoredCommand, StreamId},
    memory::MemoryLog,
    personal::SubjectKeys,
    tree::Tree,
};

pub trait Tap: Send + Sync + 'static {
    fn append<'a>(
        &'a self,
        log: &'a MemoryLog,
        append: Append,
    ) -> BoxFuture<'a, Result<Appended, AppendError>> {
        log.append(append)
    }

    fn read<'a>(
        &'a self,
        log: &'a MemoryLog,
        after: u64,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<Envelope>, ReadError>> {
        log.read(after, limit)
    }

    fn read_stream<'a>(
        &'a self,
        log: &'a MemoryLog,
        stream: &'a StreamId,
        after_revision: u64,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<Envelope>, ReadError>> {
        log.read_stream(stream, after_revision, limit)
    }
}

#[derive(Debug)]
pub struct TappedLog<T> {
    pub log: MemoryLog,
    pub tap: T,
}

impl<T: Tap> Log for TappedLog<T> {
    fn append(&self, append: Append) -> BoxFuture<'_, Result<Appended, AppendError>> {
        self.tap.append(&self.log, append)
    }

    fn read(&self, after: u64, limit: usize) -> BoxFuture<'_, Result<Vec<Envelope>, ReadError>> {
        self.tap.read(&self.log, after, limit)
    }

    fn read_stream<'a>(
        &'a self,
        stream: &'a StreamId,
        after_revision: u64,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<Envelope>, ReadError>> {
        self.tap.read_stream(&self.log, stream, after_revision, limit)
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

impl<T: Tap> Tree for TappedLog<T> {
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

impl<T: Tap> LeaseTable for TappedLog<T> {
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

impl<T: Tap> BeatTable for TappedLog<T> {
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

impl<T: Tap> Heads for TappedLog<T> {
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

impl<T: Tap> SubjectKeys for TappedLog<T> {
    fn keys(
        &self,
        subjects: Vec<Uuid>,
    ) -> BoxFuture<'_, Result<BTreeMap<Uuid, Vec<u8>>, ReadError>> {
        self.log.keys(subjects)
    }
}
