//! Runs commands: reads streams, lets aggregates decide, appends, and decides again on conflict.
//!
//! One command may touch several streams; a [`Unit`] collects what they decided and one append
//! stores it. Every stream that was read is checked to have stayed where it was, also those to
//! which nothing was written, so a decision is never stored over a state that it did not see.
//!
//! Three failures never mix: the rules said no ([`ExecuteError::Rejected`], and `Claimed` for a
//! name that is taken), the world failed (the other variants), we are wrong (a panic).

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use rap_proto::{CommandId, Digest, Timestamp};
use uuid::Uuid;

use crate::{
    Aggregate, EventCodec,
    aggregate::EventError,
    lease::{LeaseChange, LeaseGuard},
    log::{
        Actor, Append, AppendError, Appended, Log, MAX_READ_EVENTS, NewEvent, ReadError, StreamId,
        StreamWrite,
    },
};

/// How often a command is decided again because a stream moved meanwhile.
pub const MAX_CONFLICT_RETRIES: usize = 8;
/// How often a command whose outcome is unknown is looked up, and appended again when the log
/// does not know it.
pub const MAX_OUTCOME_LOOKUPS: usize = 3;
/// The longest stream that is folded for one command.
pub const MAX_STREAM_EVENTS: u64 = 1_000_000;

/// Who asks, under which command id, and when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    pub command: CommandId,
    /// The hash of everything that was asked for.
    pub request_hash: Digest,
    pub actor: Actor,
    /// The position of the event that led to this command, if one did.
    pub causation: Option<u64>,
    pub at: Timestamp,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExecuteError<R> {
    /// The rules said no; nothing changed.
    #[error("{0}")]
    Rejected(R),
    /// A unique key is taken; nothing changed.
    #[error("{key} is taken")]
    Claimed { key: String },
    /// The caller used the command id for another request before.
    #[error("the command id was used for another request")]
    CommandReused,
    /// Others were faster, again and again. Trying later is safe.
    #[error("{stream} changed too often")]
    Contended { stream: StreamId },
    /// What was decided does not fit into one append.
    #[error(transparent)]
    Oversized(AppendError),
    /// A lease is not as the command needs it; nothing changed.
    #[error(transparent)]
    Lease(AppendError),
    /// Nothing was stored. Trying later is safe.
    #[error("the log is unavailable: {0}")]
    Unavailable(String),
    /// The log holds something that cannot be read: halt, and have a person look.
    #[error("the log cannot be read: {0}")]
    Unreadable(String),
    /// It may have been stored. Only the same command id may be tried again.
    #[error("the log did not say whether it stored the command")]
    OutcomeUnknown,
}

/// Why a stream could not be folded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LoadError {
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(transparent)]
    Event(#[from] EventError),
    #[error("{stream} has more than {MAX_STREAM_EVENTS} events")]
    TooLong { stream: StreamId },
}

/// Why a unit of work stops: its own rejection, or the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stop<R> {
    Rejected(R),
    Failed(LoadError),
}

impl<R> Stop<R> {
    /// For `map_err`: an aggregate's rejection as one of the unit's.
    pub fn rejected(rejection: impl Into<R>) -> Self {
        Self::Rejected(rejection.into())
    }
}

impl<R> From<LoadError> for Stop<R> {
    fn from(error: LoadError) -> Self {
        Self::Failed(error)
    }
}

/// An aggregate's state, and the revision that it was folded up to.
#[derive(Debug, Clone, PartialEq)]
pub struct Loaded<A> {
    pub id: Uuid,
    pub revision: u64,
    pub state: A,
}

impl<A: Aggregate> Loaded<A> {
    /// The state of a stream without events.
    pub fn empty(id: Uuid) -> Self {
        Self { id, revision: 0, state: A::default() }
    }
}

/// What one command has read and decided so far.
pub struct Unit {
    log: Arc<dyn Log>,
    at: Timestamp,
    writes: BTreeMap<StreamId, Write>,
    claim: Vec<String>,
    release: Vec<String>,
    leases: Vec<LeaseChange>,
    guards: Vec<LeaseGuard>,
}

struct Write {
    expected: u64,
    events: Vec<NewEvent>,
}

/// Runs one command on one aggregate, with an empty reply.
pub async fn run<A: Aggregate>(
    log: &Arc<dyn Log>,
    request: &Request,
    id: Uuid,
    command: A::Command,
) -> Result<Appended, ExecuteError<A::Rejection>> {
    execute(log, request, |mut unit| {
        let command = command.clone();
        async move {
            let mut loaded = unit.load::<A>(id).await?;
            unit.decide(&mut loaded, command).map_err(Stop::Rejected)?;
            Ok((unit, Bytes::new()))
        }
    })
    .await
}

/// Runs one command whose work reads, decides, and gives its unit back with the reply to store.
/// The work is repeated when a stream moved meanwhile, so it changes nothing but its unit.
pub async fn execute<R, F>(
    log: &Arc<dyn Log>,
    request: &Request,
    mut work: impl FnMut(Unit) -> F,
) -> Result<Appended, ExecuteError<R>>
where
    F: Future<Output = Result<(Unit, Bytes), Stop<R>>>,
{
    let mut conflict = None;
    for _ in 0..=MAX_CONFLICT_RETRIES {
        let (unit, reply) = match work(Unit::new(Arc::clone(log), request.at)).await {
            Ok(decided) => decided,
            // A repeated command is often rejected because its first run changed the state.
            Err(stop) => {
                return match find(log.as_ref(), request).await? {
                    Some(stored) => Ok(stored),
                    None => Err(stop.into()),
                };
            }
        };
        match unit.commit(request, reply).await {
            Err(AppendError::Conflict { stream, .. }) => conflict = Some(stream),
            Ok(appended) => return Ok(appended),
            Err(error) => return Err(error.into()),
        }
    }
    let stream = conflict.expect("the loop ends only by a conflict");
    Err(ExecuteError::Contended { stream })
}

/// Appends, and finds out what happened when the log did not say. The command id makes a second
/// append of the same command harmless.
async fn append(log: &dyn Log, request: &Request, append: Append) -> Result<Appended, AppendError> {
    for _ in 0..MAX_OUTCOME_LOOKUPS {
        match log.append(append.clone()).await {
            Err(AppendError::OutcomeUnknown) => {}
            known => return known,
        }
        match log.command(request.command).await {
            Ok(Some(stored)) if stored.request_hash == request.request_hash => {
                return Ok(replayed(stored));
            }
            Ok(Some(_)) => return Err(AppendError::CommandReused),
            Ok(None) | Err(_) => {}
        }
    }
    Err(AppendError::OutcomeUnknown)
}

async fn find<R>(log: &dyn Log, request: &Request) -> Result<Option<Appended>, ExecuteError<R>> {
    match log.command(request.command).await {
        Ok(Some(stored)) if stored.request_hash == request.request_hash => {
            Ok(Some(replayed(stored)))
        }
        Ok(Some(_)) => Err(ExecuteError::CommandReused),
        Ok(None) => Ok(None),
        Err(error) => Err(LoadError::from(error).into()),
    }
}

fn replayed(stored: crate::log::StoredCommand) -> Appended {
    let crate::log::StoredCommand { first, last, reply, .. } = stored;
    Appended { first, last, replayed: true, reply }
}

impl Unit {
    /// A unit that decides nothing yet. [`execute`] makes one for each try; whoever makes one
    /// itself repeats the work on a conflict.
    pub fn new(log: Arc<dyn Log>, at: Timestamp) -> Self {
        Self {
            log,
            at,
            writes: BTreeMap::new(),
            claim: Vec::new(),
            release: Vec::new(),
            leases: Vec::new(),
            guards: Vec::new(),
        }
    }

    /// Folds a stream, with what this unit already decided about it.
    pub async fn load<A: Aggregate>(&mut self, id: Uuid) -> Result<Loaded<A>, LoadError> {
        self.load_from(Loaded::empty(id)).await
    }

    /// Folds on from a state that was kept: only newer events are read.
    pub async fn load_from<A: Aggregate>(
        &mut self,
        kept: Loaded<A>,
    ) -> Result<Loaded<A>, LoadError> {
        let mut loaded = fold(self.log.as_ref(), kept).await?;
        let write = self
            .writes
            .entry(A::stream(loaded.id))
            .or_insert_with(|| Write { expected: loaded.revision, events: Vec::new() });
        for event in &write.events {
            let event = A::Event::decode(&event.event_type, event.schema, &event.payload)?;
            loaded.state.evolve(&event);
            loaded.revision += 1;
        }
        Ok(loaded)
    }

    /// Lets the aggregate decide, and takes its events into `loaded` and into the append.
    pub fn decide<A: Aggregate>(
        &mut self,
        loaded: &mut Loaded<A>,
        command: A::Command,
    ) -> Result<Vec<A::Event>, A::Rejection> {
        let events = loaded.state.decide(command, self.at)?;
        let write = self
            .writes
            .entry(A::stream(loaded.id))
            .or_insert_with(|| Write { expected: loaded.revision, events: Vec::new() });
        for event in &events {
            loaded.state.evolve(event);
            loaded.revision += 1;
            write.events.push(event.to_new_event(loaded.state.organization()));
        }
        Ok(events)
    }

    /// The key must be free, and is taken with the append. See [`crate::keys`].
    pub fn claim(&mut self, key: String) {
        self.claim.push(key);
    }

    pub fn release(&mut self, key: String) {
        self.release.push(key);
    }

    /// Gives or ends a lease with the append.
    pub fn change_lease(&mut self, change: LeaseChange) {
        self.leases.push(change);
    }

    /// The append is stored only while this lease is held.
    pub fn guard(&mut self, guard: LeaseGuard) {
        self.guards.push(guard);
    }

    /// When the command was given.
    pub fn at(&self) -> Timestamp {
        self.at
    }

    /// Stores everything at once under the command of `request`, and finds out what happened
    /// when the log does not say.
    pub async fn commit(self, request: &Request, reply: Bytes) -> Result<Appended, AppendError> {
        let log = Arc::clone(&self.log);
        append(log.as_ref(), request, self.into_append(request, reply)).await
    }

    fn into_append(self, request: &Request, reply: Bytes) -> Append {
        let writes = self
            .writes
            .into_iter()
            .map(|(stream, Write { expected, events })| StreamWrite { stream, expected, events });
        Append {
            command: request.command,
            request_hash: request.request_hash,
            actor: request.actor.clone(),
            allowed: None,
            causation: request.causation,
            at: request.at,
            writes: writes.collect(),
            claim: self.claim,
            release: self.release,
            leases: self.leases,
            guards: self.guards,
            subjects: Vec::new(),
            reply,
        }
    }
}

/// Folds a stream from where `loaded` stands to its end.
pub async fn fold<A: Aggregate>(
    log: &dyn Log,
    mut loaded: Loaded<A>,
) -> Result<Loaded<A>, LoadError> {
    let stream = A::stream(loaded.id);
    while loaded.revision < MAX_STREAM_EVENTS {
        let page = log.read_stream(&stream, loaded.revision, MAX_READ_EVENTS).await?;
        for envelope in &page {
            loaded.state.evolve(&A::Event::from_envelope(envelope)?);
            loaded.revision = envelope.revision;
        }
        if page.len() < MAX_READ_EVENTS {
            return Ok(loaded);
        }
    }
    Err(LoadError::TooLong { stream })
}

impl<R> From<Stop<R>> for ExecuteError<R> {
    fn from(stop: Stop<R>) -> Self {
        match stop {
            Stop::Rejected(rejection) => Self::Rejected(rejection),
            Stop::Failed(error) => error.into(),
        }
    }
}

impl<R> From<LoadError> for ExecuteError<R> {
    fn from(error: LoadError) -> Self {
        match error {
            LoadError::Read(ReadError::Unavailable(problem)) => Self::Unavailable(problem),
            other => Self::Unreadable(other.to_string()),
        }
    }
}

impl<R> From<AppendError> for ExecuteError<R> {
    fn from(error: AppendError) -> Self {
        match error {
            AppendError::Conflict { stream, .. } => Self::Contended { stream },
            AppendError::Claimed { key } => Self::Claimed { key },
            AppendError::CommandReused => Self::CommandReused,
            AppendError::Unavailable(problem) => Self::Unavailable(problem),
            AppendError::OutcomeUnknown => Self::OutcomeUnknown,
            AppendError::LeaseHeld { .. }
            | AppendError::LeaseGeneration { .. }
            | AppendError::TimelineChanged { .. }
            | AppendError::LeaseLost { .. } => Self::Lease(error),
            AppendError::TooLarge { .. } | AppendError::StreamTwice { .. } => {
                Self::Oversized(error)
            }
        }
    }
}
