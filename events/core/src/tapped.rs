//! A log in memory with somebody in between, for tests of what is built on a log.
//!
//! A [`Tap`] sees what goes through it, holds it up, or answers in the log's place. Each of its methods
//! passes on what it is asked for until a test says otherwise. Several taps may share one log.

use std::{borrow::Borrow, collections::BTreeMap};

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

/// What is asked of a log is on its way.
pub type Asked<'a, T, E> = BoxFuture<'a, Result<T, E>>;

pub trait Tap: Send + Sync + 'static {
    /// Whatever is asked that has no method of its own here, or whose method does not say otherwise.
    /// `ask` asks the log; one that never arrives does not call it.
    fn pass<'a, T: Send + 'a, E: Cut + 'a>(
        &'a self,
        log: &'a MemoryLog,
        ask: impl FnOnce(&'a MemoryLog) -> Asked<'a, T, E>,
    ) -> Asked<'a, T, E> {
        ask(log)
    }

    fn append<'a>(
        &'a self,
        log: &'a MemoryLog,
        append: Append,
    ) -> Asked<'a, Appended, AppendError> {
        self.pass(log, |log| log.append(append))
    }

    fn read<'a>(
        &'a self,
        log: &'a MemoryLog,
        after: u64,
        limit: usize,
    ) -> Asked<'a, Vec<Envelope>, ReadError> {
        self.pass(log, |log| log.read(after, limit))
    }

    fn read_stream<'a>(
        &'a self,
        log: &'a MemoryLog,
        stream: &'a StreamId,
        after_revision: u64,
        limit: usize,
    ) -> Asked<'a, Vec<Envelope>, ReadError> {
        self.pass(log, |log| log.read_stream(stream, after_revision, limit))
    }
}

/// What somebody hears whose way to the log is cut.
pub trait Cut: Send + Sized {
    /// The question did not arrive.
    fn unreached(why: &str) -> Self;

    /// The question arrived, and its answer did not.
    fn unanswered(why: &str) -> Self {
        Self::unreached(why)
    }
}

impl Cut for AppendError {
    fn unreached(why: &str) -> Self {
        Self::Unavailable(why.to_owned())
    }

    fn unanswered(_why: &str) -> Self {
        Self::OutcomeUnknown
    }
}

impl Cut for ReadError {
    fn unreached(why: &str) -> Self {
        Self::Unavailable(why.to_owned())
    }
}

impl Cut for LeaseTableError {
    fn unreached(why: &str) -> Self {
        Self::Unavailable(why.to_owned())
    }
}

impl Cut for BeatTableError {
    fn unreached(why: &str) -> Self {
        Self::Unavailable(why.to_owned())
    }
}

/// A log, or what leads to one.
pub trait Shared: Borrow<MemoryLog> + Send + Sync + 'static {}

impl<L: Borrow<MemoryLog> + Send + Sync + 'static> Shared for L {}

/// The log is its own, or shared: `L` is then an `Arc`.
#[derive(Debug)]
pub struct TappedLog<T, L = MemoryLog> {
    pub log: L,
    pub tap: T,
}

impl<T: Tap, L: Borrow<MemoryLog>> TappedLog<T, L> {
    fn log(&self) -> &MemoryLog {
        self.log.borrow()
    }

    fn pass<'a, R: Send + 'a, E: Cut + 'a>(
        &'a self,
        ask: impl FnOnce(&'a MemoryLog) -> Asked<'a, R, E>,
    ) -> Asked<'a, R, E> {
        self.tap.pass(self.log(), ask)
    }
}

impl<T: Tap, L: Shared> Log for TappedLog<T, L> {
    fn append(&self, append: Append) -> BoxFuture<'_, Result<Appended, AppendError>> {
        self.tap.append(self.log(), append)
    }

    fn read(&self, after: u64, limit: usize) -> BoxFuture<'_, Result<Vec<Envelope>, ReadError>> {
        self.tap.read(self.log(), after, limit)
    }

    fn read_stream<'a>(
        &'a self,
        stream: &'a StreamId,
        after_revision: u64,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<Envelope>, ReadError>> {
        self.tap.read_stream(self.log(), stream, after_revision, limit)
    }

    fn head(&self) -> BoxFuture<'_, Result<u64, ReadError>> {
        self.pass(|log| log.head())
    }

    fn wait_beyond(&self, position: u64) -> BoxFuture<'_, Result<u64, ReadError>> {
        self.pass(|log| log.wait_beyond(position))
    }

    fn command(&self, id: CommandId) -> BoxFuture<'_, Result<Option<StoredCommand>, ReadError>> {
        self.pass(|log| log.command(id))
    }
}

impl<T: Tap, L: Shared> Tree for TappedLog<T, L> {
    fn frontier(&self) -> BoxFuture<'_, Result<Frontier, ReadError>> {
        self.pass(|log| log.frontier())
    }

    fn hashes(
        &self,
        level: u8,
        first: u64,
        count: u16,
    ) -> BoxFuture<'_, Result<Vec<Digest>, ReadError>> {
        self.pass(|log| log.hashes(level, first, count))
    }
}

impl<T: Tap, L: Shared> LeaseTable for TappedLog<T, L> {
    fn renew(&self, renewals: Vec<Renewal>) -> BoxFuture<'_, Result<Renewals, LeaseTableError>> {
        self.pass(|log| log.renew(renewals))
    }

    fn read_leases<'a>(
        &'a self,
        category: &'a str,
        after: Option<Uuid>,
        limit: usize,
    ) -> BoxFuture<'a, Result<LeasePage, LeaseTableError>> {
        self.pass(|log| log.read_leases(category, after, limit))
    }
}

impl<T: Tap, L: Shared> BeatTable for TappedLog<T, L> {
    fn read_ballot(&self) -> BoxFuture<'_, Result<Ballot, BeatTableError>> {
        self.pass(|log| log.read_ballot())
    }

    fn propose(&self, proposal: Proposal) -> BoxFuture<'_, Result<bool, BeatTableError>> {
        self.pass(|log| log.propose(proposal))
    }

    fn vote(
        &self,
        replica: KeyId,
        sequence: u64,
        payload: Digest,
    ) -> BoxFuture<'_, Result<bool, BeatTableError>> {
        self.pass(|log| log.vote(replica, sequence, payload))
    }

    fn sign(
        &self,
        replica: KeyId,
        sequence: u64,
        payload: Digest,
        signature: [u8; 64],
    ) -> BoxFuture<'_, Result<bool, BeatTableError>> {
        self.pass(|log| log.sign(replica, sequence, payload, signature))
    }
}

impl<T: Tap, L: Shared> Heads for TappedLog<T, L> {
    fn seal(
        &self,
        size: u64,
        note: Vec<u8>,
        sealed_at: Timestamp,
    ) -> BoxFuture<'_, Result<(), ReadError>> {
        self.pass(|log| log.seal(size, note, sealed_at))
    }

    fn cosign(
        &self,
        size: u64,
        node: NodeId,
        line: Vec<u8>,
    ) -> BoxFuture<'_, Result<(), ReadError>> {
        self.pass(|log| log.cosign(size, node, line))
    }

    fn heads(
        &self,
        below: Option<u64>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<SealedHead>, ReadError>> {
        self.pass(|log| log.heads(below, limit))
    }
}

impl<T: Tap, L: Shared> SubjectKeys for TappedLog<T, L> {
    fn keys(
        &self,
        subjects: Vec<Uuid>,
    ) -> BoxFuture<'_, Result<BTreeMap<Uuid, Vec<u8>>, ReadError>> {
        self.pass(|log| log.keys(subjects))
    }
}
