//! The log's port: one gapless order of events, appended to atomically and read by position.
//!
//! An append is one command's outcome. It names the revision at which each stream was read, so
//! that two decisions over the same state cannot both win; it takes and frees unique keys; and
//! it is remembered under its command id, so that repeating the command repeats nothing.
//!
//! An implementation makes these checks in this order, and changes nothing unless all pass:
//!
//! 1. [`Append::check`]: the limits.
//! 2. The command id: known with the same hash, the stored reply is returned; known with another
//!    hash, [`AppendError::CommandReused`].
//! 3. Each stream's revision: [`AppendError::Conflict`] names the first that moved.
//! 4. The keys: those in `release` are freed first, then those in `claim` are taken;
//!    [`AppendError::Claimed`] names the first that is taken. Freeing a free key does nothing.
//! 5. The guards: [`AppendError::LeaseLost`] names the first lease that its generation does not
//!    hold.
//! 6. The lease changes, in order: see [`LeaseChange`].
//! 7. The changes of subject keys, in order: see [`SubjectChange`]. None of them fails.

use bytes::Bytes;
use futures_util::future::BoxFuture;
use rap_proto::{
    ApiTokenId, CommandId, Digest, LoginId, NodeId, OrganizationId, Timestamp, UserId,
};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    allowed::{Allowed, MAX_ALLOWED_ACTIONS, MAX_ALLOWED_RULES},
    lease::{
        LeaseChange, LeaseGuard, LeaseRow, MAX_LEASE_CHANGES_PER_APPEND,
        MAX_LEASE_GUARDS_PER_APPEND, MAX_LEASE_TTL_MS,
    },
    personal::{MAX_SUBJECT_CHANGES_PER_APPEND, MAX_WRAPPED_KEY_BYTES, SubjectChange},
    session::MAX_RULE_BYTES,
    tree::Tree,
};

/// The most events in one append, over all its streams.
pub const MAX_EVENTS_PER_APPEND: usize = 256;
/// The most streams that one append writes to or only checks.
pub const MAX_STREAMS_PER_APPEND: usize = 64;
/// The largest payload of one event, and the largest reply of one command, in bytes. Payloads are
/// exported in bundles, whose lengths have two bytes.
pub const MAX_PAYLOAD_BYTES: usize = 65_000;
/// The most keys that one append claims and releases together.
pub const MAX_KEYS_PER_APPEND: usize = 64;
/// The longest key, event type and category, in bytes.
pub const MAX_KEY_BYTES: usize = 200;
/// The most events that one read returns, whatever limit was asked for.
pub const MAX_READ_EVENTS: usize = 1_000;

/// One aggregate's events: its category, such as `organization`, and its id.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct StreamId {
    pub category: String,
    pub id: Uuid,
}

impl StreamId {
    pub fn new(category: impl Into<String>, id: Uuid) -> Self {
        Self { category: category.into(), id }
    }
}

impl std::fmt::Display for StreamId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.category, self.id)
    }
}

/// An event as the log keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Envelope {
    /// Place in the log: 1 for the first event, without gaps.
    pub position: u64,
    pub stream: StreamId,
    /// Place in the stream: 1 for the first event, without gaps.
    pub revision: u64,
    /// `<category>.<past tense>`, such as `organization.created`.
    pub event_type: String,
    pub schema: u16,
    /// MessagePack with named fields, of the shape that `event_type` and `schema` name.
    pub payload: Bytes,
    /// The organization that the event belongs to, if it belongs to one.
    pub organization: Option<OrganizationId>,
    pub actor: Actor,
    /// By what the actor was allowed to: of a person's command, and since it is recorded.
    #[serde(default)]
    pub allowed: Option<Allowed>,
    pub command: CommandId,
    /// The position of the event that led to the command, if one did.
    pub causation: Option<u64>,
    pub at: Timestamp,
}

/// Who gave the command.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Actor {
    /// The holder of the setup code, before there are users.
    Setup,
    User {
        user: UserId,
        login: LoginId,
    },
    ApiToken {
        user: UserId,
        token: ApiTokenId,
    },
    Node(NodeId),
    /// A process manager of the control plane, by its name.
    System {
        process: String,
    },
}

/// One command's outcome, to be stored as a whole or not at all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Append {
    pub command: CommandId,
    /// The hash of what was asked: the same id with another request is a mistake of the caller.
    pub request_hash: Digest,
    pub actor: Actor,
    /// By what a person was allowed to; nothing for others.
    pub allowed: Option<Allowed>,
    pub causation: Option<u64>,
    pub at: Timestamp,
    /// Each stream at most once.
    pub writes: Vec<StreamWrite>,
    /// Keys that must be free, and are taken.
    pub claim: Vec<String>,
    /// Keys that are freed.
    pub release: Vec<String>,
    /// Leases that are given or end with it.
    pub leases: Vec<LeaseChange>,
    /// Leases that must be held, or nothing is stored.
    pub guards: Vec<LeaseGuard>,
    /// Keys of subjects that are kept or destroyed with it.
    pub subjects: Vec<SubjectChange>,
    /// Stored with the command id and returned when the command is repeated.
    pub reply: Bytes,
}

/// The events for one stream. Without events it only checks that the stream did not move.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamWrite {
    pub stream: StreamId,
    /// The stream's last revision as it was read; 0 when it had no events.
    pub expected: u64,
    pub events: Vec<NewEvent>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewEvent {
    pub event_type: String,
    pub schema: u16,
    pub payload: Bytes,
    pub organization: Option<OrganizationId>,
}

/// Where an append went. Without events, `first` is `last + 1` and `last` is the head.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Appended {
    pub first: u64,
    pub last: u64,
    /// The command was already in the log; nothing was written now.
    pub replayed: bool,
    pub reply: Bytes,
}

/// What the log remembers of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredCommand {
    pub request_hash: Digest,
    pub first: u64,
    pub last: u64,
    pub reply: Bytes,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// Read again and decide again.
    #[error("{stream} is at revision {actual} by now")]
    Conflict { stream: StreamId, actual: u64 },
    /// The key belongs to something else: a rule of uniqueness said no.
    #[error("{key} is taken")]
    Claimed { key: String },
    /// The caller used one command id for two requests.
    #[error("the command id was used for another request")]
    CommandReused,
    #[error("{limit}: {actual} is above {greatest}")]
    TooLarge { limit: Limit, actual: usize, greatest: usize },
    /// The caller named one stream twice.
    #[error("{stream} is written to twice in one append")]
    StreamTwice { stream: StreamId },
    /// Somebody may still hold the lease: wait until its time is over, or until it ends.
    #[error("{lease} is held until {}, by generation {}", held.valid_until, held.generation)]
    LeaseHeld { lease: StreamId, held: LeaseRow },
    /// Read the lease again: there was a generation as high before.
    #[error("{lease} had generation {greatest} before")]
    LeaseGeneration { lease: StreamId, greatest: u64 },
    /// Decide again: since this grant was decided another database server took over.
    #[error("the database is on timeline {timeline} by now")]
    TimelineChanged { timeline: u64 },
    /// Stop acting under this generation: it does not hold the lease. `held` is what the table
    /// says instead, if anything.
    #[error("generation {generation} does not hold {lease}")]
    LeaseLost { lease: StreamId, generation: u64, held: Option<LeaseRow> },
    /// Nothing was written; trying again later is safe.
    #[error("the log is unavailable: {0}")]
    Unavailable(String),
    /// The connection was lost at the commit. Look the command up before anything else.
    #[error("the log did not say whether it stored the command")]
    OutcomeUnknown,
}

/// Which limit of an append was exceeded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    Events,
    Streams,
    PayloadBytes,
    ReplyBytes,
    Keys,
    KeyBytes,
    LeaseChanges,
    LeaseGuards,
    LeaseTtlMs,
    SubjectChanges,
    WrappedKeyBytes,
    AllowedActions,
    AllowedRules,
    RuleBytes,
}

impl std::fmt::Display for Limit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Events => "events in one append",
            Self::Streams => "streams in one append",
            Self::PayloadBytes => "bytes of one event",
            Self::ReplyBytes => "bytes of a reply",
            Self::Keys => "keys in one append",
            Self::KeyBytes => "bytes of a key or name",
            Self::LeaseChanges => "lease changes in one append",
            Self::LeaseGuards => "lease guards in one append",
            Self::LeaseTtlMs => "milliseconds of a lease",
            Self::SubjectChanges => "changes of subject keys in one append",
            Self::WrappedKeyBytes => "bytes of a wrapped key",
            Self::AllowedActions => "actions that one command was allowed",
            Self::AllowedRules => "rules that one command rests on",
            Self::RuleBytes => "bytes of an action's or a rule's name",
        })
    }
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    #[error("the log is unavailable: {0}")]
    Unavailable(String),
    /// A gap, a double, or a row that cannot be read: halt, and have a person look.
    #[error("the log is corrupt at position {position}: {detail}")]
    Corrupt { position: u64, detail: String },
}

/// One cluster's log.
pub trait Log: Tree + Send + Sync + 'static {
    fn append(&self, append: Append) -> BoxFuture<'_, Result<Appended, AppendError>>;

    /// The events behind position `after`, in order, at most `limit` and at most
    /// [`MAX_READ_EVENTS`] of them.
    fn read(&self, after: u64, limit: usize) -> BoxFuture<'_, Result<Vec<Envelope>, ReadError>>;

    /// Of the events that [`Log::read`] gives those of one organization. A log that can keeps
    /// everybody else's back itself.
    fn read_within(
        &self,
        organization: OrganizationId,
        after: u64,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<Envelope>, ReadError>> {
        Box::pin(async move {
            let mut page = self.read(after, limit).await?;
            page.retain(|envelope| envelope.organization == Some(organization));
            Ok(page)
        })
    }

    /// The events of one stream behind `after_revision`, in order, with the same limits.
    fn read_stream<'a>(
        &'a self,
        stream: &'a StreamId,
        after_revision: u64,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<Envelope>, ReadError>>;

    /// The last position; 0 when the log is empty.
    fn head(&self) -> BoxFuture<'_, Result<u64, ReadError>>;

    /// Waits until the head is beyond `position` and returns the head.
    fn wait_beyond(&self, position: u64) -> BoxFuture<'_, Result<u64, ReadError>>;

    /// What became of a command, or `None` when the log never stored it.
    fn command(&self, id: CommandId) -> BoxFuture<'_, Result<Option<StoredCommand>, ReadError>>;
}

impl Append {
    /// An append of these events and nothing else, by nobody in particular: where tests begin.
    pub fn plain(command: CommandId, at: Timestamp, writes: Vec<StreamWrite>) -> Self {
        Self {
            command,
            request_hash: Digest::default(),
            actor: Actor::Setup,
            allowed: None,
            causation: None,
            at,
            writes,
            claim: Vec::new(),
            release: Vec::new(),
            leases: Vec::new(),
            guards: Vec::new(),
            subjects: Vec::new(),
            reply: Bytes::new(),
        }
    }

    /// The checks that need no database; every implementation makes them first.
    pub fn check(&self) -> Result<(), AppendError> {
        let events = self.writes.iter().map(|write| write.events.len()).sum();
        within(Limit::Events, events, MAX_EVENTS_PER_APPEND)?;
        within(Limit::Streams, self.writes.len(), MAX_STREAMS_PER_APPEND)?;
        within(Limit::Keys, self.claim.len() + self.release.len(), MAX_KEYS_PER_APPEND)?;
        within(Limit::ReplyBytes, self.reply.len(), MAX_PAYLOAD_BYTES)?;
        for key in self.claim.iter().chain(&self.release) {
            within(Limit::KeyBytes, key.len(), MAX_KEY_BYTES)?;
        }
        for write in &self.writes {
            within(Limit::KeyBytes, write.stream.category.len(), MAX_KEY_BYTES)?;
            for event in &write.events {
                within(Limit::KeyBytes, event.event_type.len(), MAX_KEY_BYTES)?;
                within(Limit::PayloadBytes, event.payload.len(), MAX_PAYLOAD_BYTES)?;
            }
        }
        self.check_leases()?;
        self.check_subjects()?;
        self.check_allowed()?;
        self.check_streams_differ()
    }

    fn check_leases(&self) -> Result<(), AppendError> {
        within(Limit::LeaseChanges, self.leases.len(), MAX_LEASE_CHANGES_PER_APPEND)?;
        within(Limit::LeaseGuards, self.guards.len(), MAX_LEASE_GUARDS_PER_APPEND)?;
        let changed = self.leases.iter().map(LeaseChange::lease);
        for lease in changed.chain(self.guards.iter().map(|guard| &guard.lease)) {
            within(Limit::KeyBytes, lease.category.len(), MAX_KEY_BYTES)?;
        }
        for change in &self.leases {
            if let LeaseChange::Grant { ttl_ms, .. } = change {
                within(Limit::LeaseTtlMs, *ttl_ms as usize, MAX_LEASE_TTL_MS as usize)?;
            }
        }
        Ok(())
    }

    fn check_subjects(&self) -> Result<(), AppendError> {
        within(Limit::SubjectChanges, self.subjects.len(), MAX_SUBJECT_CHANGES_PER_APPEND)?;
        for change in &self.subjects {
            if let SubjectChange::Keep { wrapped, .. } = change {
                within(Limit::WrappedKeyBytes, wrapped.expose().len(), MAX_WRAPPED_KEY_BYTES)?;
            }
        }
        Ok(())
    }

    fn check_allowed(&self) -> Result<(), AppendError> {
        let Some(Allowed { actions, basis }) = &self.allowed else { return Ok(()) };
        within(Limit::AllowedActions, actions.len(), MAX_ALLOWED_ACTIONS)?;
        within(Limit::AllowedRules, basis.rules.len(), MAX_ALLOWED_RULES)?;
        for name in actions.iter().chain(&basis.rules) {
            within(Limit::RuleBytes, name.len(), MAX_RULE_BYTES)?;
        }
        Ok(())
    }

    fn check_streams_differ(&self) -> Result<(), AppendError> {
        let mut seen = std::collections::BTreeSet::new();
        match self.writes.iter().find(|write| !seen.insert(&write.stream)) {
            Some(twice) => Err(AppendError::StreamTwice { stream: twice.stream.clone() }),
            None => Ok(()),
        }
    }
}

fn within(limit: Limit, actual: usize, greatest: usize) -> Result<(), AppendError> {
    if actual > greatest {
        return Err(AppendError::TooLarge { limit, actual, greatest });
    }
    Ok(())
}
