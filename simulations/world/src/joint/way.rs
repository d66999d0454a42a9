//! How one replica reaches the log: over a connection that a partition may cut, in one direction too.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use futures_util::future::{BoxFuture, ready};
use rap_events::{
    Append, AppendError, Appended, BeatTable, Envelope, Log, MemoryLog, StreamId,
    beat::{Ballot, BeatTableError, Proposal},
    lease::{LeasePage, LeaseTable, LeaseTableError, Renewal, Renewals},
    log::{ReadError, StoredCommand},
    tree::Tree,
};
use rap_proto::{CommandId, Digest, KeyId};
use rap_tlog::Frontier;

use crate::control::Ballots;

/// A way to the primary, open or cut in each direction for as long as one turn lasts.
#[derive(Debug)]
pub struct Way {
    primary: Arc<MemoryLog>,
    asks: AtomicBool,
    answers: AtomicBool,
}

impl Way {
    pub fn new(primary: Arc<MemoryLog>) -> Self {
        Self { primary, asks: AtomicBool::new(true), answers: AtomicBool::new(true) }
    }

    /// Whether what is asked arrives, and whether what is answered does.
    pub fn set(&self, asks: bool, answers: bool) {
        self.asks.store(asks, Ordering::Relaxed);
        self.answers.store(answers, Ordering::Relaxed);
    }

    /// Whether what is asked arrives and what is answered does.
    pub fn is_open(&self) -> bool {
        self.asks() && self.answers()
    }

    fn asks(&self) -> bool {
        self.asks.load(Ordering::Relaxed)
    }

    fn answers(&self) -> bool {
        self.answers.load(Ordering::Relaxed)
    }

    /// A question that changes nothing.
    fn ask<'a, T: Send + 'a>(
        &self,
        question: BoxFuture<'a, Result<T, ReadError>>,
    ) -> BoxFuture<'a, Result<T, ReadError>> {
        if self.is_open() {
            return question;
        }
        Box::pin(ready(Err(ReadError::Unavailable(CUT.to_owned()))))
    }

    /// What is asked of the table of beats is done when it arrives, also when nobody hears of it.
    fn ballots<'a, T: Send + 'a>(
        &'a self,
        ask: impl FnOnce(&'a MemoryLog) -> BoxFuture<'a, Result<T, BeatTableError>>,
    ) -> BoxFuture<'a, Result<T, BeatTableError>> {
        let cut = || BeatTableError::Unavailable(CUT.to_owned());
        if !self.asks() {
            return Box::pin(ready(Err(cut())));
        }
        let (asked, answers) = (ask(self.primary.as_ref()), self.answers());
        Box::pin(async move {
            let outcome = asked.await;
            if answers { outcome } else { Err(cut()) }
        })
    }

    fn table<'a, T: Send + 'a>(
        &self,
        question: BoxFuture<'a, Result<T, LeaseTableError>>,
    ) -> BoxFuture<'a, Result<T, LeaseTableError>> {
        if self.answers() {
            return question;
        }
        // It arrives, and is done; nobody hears of it.
        Box::pin(async move {
            let _ = question.await;
            Err(LeaseTableError::Unavailable(CUT.to_owned()))
        })
    }
}

impl BeatTable for Way {
    fn read_ballot(&self) -> BoxFuture<'_, Result<Ballot, BeatTableError>> {
        self.ballots(|primary| primary.read_ballot())
    }

    fn propose(&self, proposal: Proposal) -> BoxFuture<'_, Result<bool, BeatTableError>> {
        self.ballots(|primary| primary.propose(proposal))
    }

    fn vote(
        &self,
        replica: KeyId,
        sequence: u64,
        payload: Digest,
    ) -> BoxFuture<'_, Result<bool, BeatTableError>> {
        self.ballots(|primary| primary.vote(replica, sequence, payload))
    }

    fn sign(
        &self,
        replica: KeyId,
        sequence: u64,
        payload: Digest,
        signature: [u8; 64],
    ) -> BoxFuture<'_, Result<bool, BeatTableError>> {
        self.ballots(|primary| primary.sign(replica, sequence, payload, signature))
    }
}

impl Ballots for Way {
    fn is_reached(&self) -> bool {
        self.asks()
    }
}

const CUT: &str = "the way is cut";

impl Log for Way {
    fn append(&self, append: Append) -> BoxFuture<'_, Result<Appended, AppendError>> {
        if !self.asks() {
            return Box::pin(ready(Err(AppendError::Unavailable(CUT.to_owned()))));
        }
        let answers = self.answers();
        Box::pin(async move {
            let outcome = self.primary.append(append).await;
            if answers { outcome } else { Err(AppendError::OutcomeUnknown) }
        })
    }

    fn read(&self, after: u64, limit: usize) -> BoxFuture<'_, Result<Vec<Envelope>, ReadError>> {
        self.ask(self.primary.read(after, limit))
    }

    fn read_stream<'a>(
        &'a self,
        stream: &'a StreamId,
        after_revision: u64,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<Envelope>, ReadError>> {
        self.ask(self.primary.read_stream(stream, after_revision, limit))
    }

    fn head(&self) -> BoxFuture<'_, Result<u64, ReadError>> {
        self.ask(self.primary.head())
    }

    fn wait_beyond(&self, position: u64) -> BoxFuture<'_, Result<u64, ReadError>> {
        self.ask(self.primary.wait_beyond(position))
    }

    fn command(&self, id: CommandId) -> BoxFuture<'_, Result<Option<StoredCommand>, ReadError>> {
        self.ask(self.primary.command(id))
    }
}

impl Tree for Way {
    fn frontier(&self) -> BoxFuture<'_, Result<Frontier, ReadError>> {
        self.ask(self.primary.frontier())
    }

    fn hashes(
        &self,
        level: u8,
        first: u64,
        count: u16,
    ) -> BoxFuture<'_, Result<Vec<Digest>, ReadError>> {
        self.ask(self.primary.hashes(level, first, count))
    }
}

impl LeaseTable for Way {
    fn renew(&self, renewals: Vec<Renewal>) -> BoxFuture<'_, Result<Renewals, LeaseTableError>> {
        if !self.asks() {
            return Box::pin(ready(Err(LeaseTableError::Unavailable(CUT.to_owned()))));
        }
        self.table(self.primary.renew(renewals))
    }

    fn read_leases<'a>(
        &'a self,
        category: &'a str,
        after: Option<uuid::Uuid>,
        limit: usize,
    ) -> BoxFuture<'a, Result<LeasePage, LeaseTableError>> {
        if !self.asks() {
            return Box::pin(ready(Err(LeaseTableError::Unavailable(CUT.to_owned()))));
        }
        self.table(self.primary.read_leases(category, after, limit))
    }
}
