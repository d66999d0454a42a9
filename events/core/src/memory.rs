//! A log in memory, for tests, simulations and `rap dev`. What it holds ends with it.

mod beats;
mod heads;
mod leases;
mod standby;
mod subjects;

use std::{
    collections::{BTreeMap, BTreeSet},
    pin::Pin,
    sync::{Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use futures_util::future::BoxFuture;
use rap_proto::{CommandId, Digest, Timestamp};
use rap_tlog::Frontier;
use uuid::Uuid;

use crate::{
    entry,
    heads::MemoryHeads,
    lease::{self, DatabaseTime, LeaseRow},
    log::{
        Append, AppendError, Appended, Envelope, Log, MAX_READ_EVENTS, ReadError, StoredCommand,
        StreamId, StreamWrite,
    },
    tree::Tree,
};

pub use standby::Standby;

/// The most calls of [`Log::wait_beyond`] that wait at once.
pub const MAX_WAITERS: usize = 4_096;

#[derive(Debug, Default)]
pub struct MemoryLog {
    state: Mutex<State>,
    clock: Clock,
}

/// What the leases' time runs by.
struct Clock(Box<dyn Fn() -> Timestamp + Send + Sync>);

impl Default for Clock {
    fn default() -> Self {
        Self(Box::new(Timestamp::default))
    }
}

impl std::fmt::Debug for Clock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Clock({})", (self.0)())
    }
}

#[derive(Debug, Clone, Default)]
struct State {
    /// INVARIANT: the event at index `n` has position `n + 1`.
    events: Vec<Envelope>,
    frontier: Frontier,
    /// The hashes of the tree, by level.
    hashes: BTreeMap<u8, Vec<Digest>>,
    /// Each stream's events, as indexes. INVARIANT: the entry at index `n` has revision `n + 1`.
    streams: BTreeMap<StreamId, Vec<usize>>,
    keys: BTreeSet<String>,
    commands: BTreeMap<CommandId, StoredCommand>,
    leases: BTreeMap<StreamId, LeaseRow>,
    beats: beats::Beats,
    heads: MemoryHeads,
    subjects: BTreeMap<Uuid, Vec<u8>>,
    waiters: BTreeMap<u64, Waker>,
    next_waiter: u64,
    failovers: u64,
}

impl MemoryLog {
    /// A log whose leases never expire: no clock runs.
    pub fn new() -> Self {
        Self::default()
    }

    /// A log whose leases expire by `clock`.
    pub fn with_clock(clock: impl Fn() -> Timestamp + Send + Sync + 'static) -> Self {
        Self { clock: Clock(Box::new(clock)), ..Self::default() }
    }

    /// As if another server took over as the primary, with everything that is stored.
    pub fn fail_over(&self) {
        self.state().failovers += 1;
    }

    fn now(&self) -> Timestamp {
        (self.clock.0)()
    }

    /// What every lease is looked at by.
    fn at(&self, state: &State) -> DatabaseTime {
        DatabaseTime { now: self.now(), timeline: 1 + state.failovers }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // No panic can leave the state half changed: every check precedes every change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Log for MemoryLog {
    fn append(&self, append: Append) -> BoxFuture<'_, Result<Appended, AppendError>> {
        let (result, waiters) = {
            let mut state = self.state();
            let at = self.at(&state);
            let result = state.append(append, at);
            let wake = result.as_ref().is_ok_and(|appended| !appended.replayed);
            (result, if wake { std::mem::take(&mut state.waiters) } else { BTreeMap::new() })
        };
        waiters.into_values().for_each(Waker::wake);
        ready(result)
    }

    fn read(&self, after: u64, limit: usize) -> BoxFuture<'_, Result<Vec<Envelope>, ReadError>> {
        let state = self.state();
        ready(Ok(state.events.iter().skip(index(after)).take(page(limit)).cloned().collect()))
    }

    fn read_stream<'a>(
        &'a self,
        stream: &'a StreamId,
        after_revision: u64,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<Envelope>, ReadError>> {
        let state = self.state();
        let indexes = state.streams.get(stream).map_or(&[][..], Vec::as_slice);
        let wanted = indexes.iter().skip(index(after_revision)).take(page(limit));
        ready(Ok(wanted.map(|at| state.events[*at].clone()).collect()))
    }

    fn head(&self) -> BoxFuture<'_, Result<u64, ReadError>> {
        ready(Ok(self.state().head()))
    }

    fn wait_beyond(&self, position: u64) -> BoxFuture<'_, Result<u64, ReadError>> {
        Box::pin(Waiting { log: self, position, waiter: None })
    }

    fn command(&self, id: CommandId) -> BoxFuture<'_, Result<Option<StoredCommand>, ReadError>> {
        ready(Ok(self.state().commands.get(&id).cloned()))
    }
}

impl Tree for MemoryLog {
    fn frontier(&self) -> BoxFuture<'_, Result<Frontier, ReadError>> {
        ready(Ok(self.state().frontier.clone()))
    }

    fn hashes(
        &self,
        level: u8,
        first: u64,
        count: u16,
    ) -> BoxFuture<'_, Result<Vec<Digest>, ReadError>> {
        let state = self.state();
        let hashes = state.hashes.get(&level).map_or(&[][..], Vec::as_slice);
        ready(Ok(hashes.iter().skip(index(first)).take(usize::from(count)).copied().collect()))
    }
}

impl State {
    fn head(&self) -> u64 {
        self.events.len() as u64
    }

    fn append(&mut self, append: Append, at: DatabaseTime) -> Result<Appended, AppendError> {
        append.check()?;
        if let Some(stored) = self.commands.get(&append.command) {
            if stored.request_hash != append.request_hash {
                return Err(AppendError::CommandReused);
            }
            let StoredCommand { first, last, ref reply, .. } = *stored;
            return Ok(Appended { first, last, replayed: true, reply: reply.clone() });
        }
        self.check_revisions(&append.writes)?;
        self.check_keys(&append)?;
        let leases = lease::apply(&append, &self.leases, at)?;
        self.leases.extend(leases);
        Ok(self.store(append))
    }

    fn check_revisions(&self, writes: &[StreamWrite]) -> Result<(), AppendError> {
        for write in writes {
            let actual = self.streams.get(&write.stream).map_or(0, Vec::len) as u64;
            if actual != write.expected {
                return Err(AppendError::Conflict { stream: write.stream.clone(), actual });
            }
        }
        Ok(())
    }

    fn check_keys(&self, append: &Append) -> Result<(), AppendError> {
        let mut claimed = BTreeSet::new();
        for key in &append.claim {
            let held = self.keys.contains(key) && !append.release.contains(key);
            if held || !claimed.insert(key) {
                return Err(AppendError::Claimed { key: key.clone() });
            }
        }
        Ok(())
    }

    /// Everything was checked; from here nothing fails.
    fn store(&mut self, append: Append) -> Appended {
        let first = self.head() + 1;
        let Append {
            command,
            request_hash,
            actor,
            allowed,
            causation,
            at,
            writes,
            claim,
            release,
            reply,
            leases: _,
            guards: _,
            subjects,
        } = append;
        for StreamWrite { stream, events, .. } in writes {
            for event in events {
                let indexes = self.streams.entry(stream.clone()).or_default();
                indexes.push(self.events.len());
                let envelope = Envelope {
                    position: self.events.len() as u64 + 1,
                    stream: stream.clone(),
                    revision: indexes.len() as u64,
                    event_type: event.event_type,
                    schema: event.schema,
                    payload: event.payload,
                    organization: event.organization,
                    actor: actor.clone(),
                    allowed: allowed.clone(),
                    command,
                    causation,
                    at,
                };
                self.grow(entry::leaf(&envelope));
                self.events.push(envelope);
            }
        }
        release.iter().for_each(|key| {
            self.keys.remove(key);
        });
        self.keys.extend(claim);
        self.change_subjects(subjects);
        let last = self.head();
        let stored = StoredCommand { request_hash, first, last, reply: reply.clone() };
        self.commands.insert(command, stored);
        Appended { first, last, replayed: false, reply }
    }

    fn grow(&mut self, leaf: Digest) {
        self.hashes.entry(0).or_default().push(leaf);
        for tile in self.frontier.push(leaf) {
            self.hashes.entry(tile.level + 1).or_default().push(tile.root);
        }
    }
}

/// Resolves when the head is beyond `position`. Dropped, it leaves nothing behind.
struct Waiting<'a> {
    log: &'a MemoryLog,
    position: u64,
    waiter: Option<u64>,
}

impl Future for Waiting<'_> {
    type Output = Result<u64, ReadError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.log.state();
        if state.head() > self.position {
            return Poll::Ready(Ok(state.head()));
        }
        let waiter = self.waiter.unwrap_or(state.next_waiter);
        if self.waiter.is_none() {
            if state.waiters.len() >= MAX_WAITERS {
                let problem = format!("{MAX_WAITERS} readers wait already");
                return Poll::Ready(Err(ReadError::Unavailable(problem)));
            }
            state.next_waiter += 1;
        }
        state.waiters.insert(waiter, context.waker().clone());
        drop(state);
        self.waiter = Some(waiter);
        Poll::Pending
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if let Some(waiter) = self.waiter {
            self.log.state().waiters.remove(&waiter);
        }
    }
}

fn ready<'a, T: Send + 'a>(value: T) -> BoxFuture<'a, T> {
    Box::pin(std::future::ready(value))
}

fn page(limit: usize) -> usize {
    limit.min(MAX_READ_EVENTS)
}

fn index(after: u64) -> usize {
    usize::try_from(after).unwrap_or(usize::MAX)
}
