//! One command's reads, decisions and writes, appended together or not at all.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use rap_control_core::quota;
use rap_events::{
    Actor, Aggregate, Allowed, Append, AppendError, EventCodec as _, Log, StreamId,
    handler::{Loaded, fold},
    lease::{LeaseChange, LeaseGuard},
    log::{Appended, StreamWrite},
    personal::SubjectChange,
};
use rap_proto::{CommandId, Digest, OrganizationId, Timestamp};
use uuid::Uuid;

use crate::http::failure::{Failure, rejected};

/// How often a command is decided again when others wrote to its streams meanwhile.
pub(crate) const MAX_CONFLICT_RETRIES: usize = 8;
/// How often the log is asked what became of a command whose outcome is unknown.
const MAX_OUTCOME_LOOKUPS: usize = 3;

/// What the log remembers a command by.
#[derive(Debug, Clone)]
pub(crate) struct Identity {
    pub(crate) command: CommandId,
    pub(crate) request_hash: Digest,
    pub(crate) actor: Actor,
    /// By what a person was allowed to.
    pub(crate) allowed: Option<Allowed>,
    pub(crate) causation: Option<u64>,
}

pub(crate) struct Work {
    log: Arc<dyn Log>,
    now: Timestamp,
    writes: Vec<StreamWrite>,
    claim: Vec<String>,
    release: Vec<String>,
    leases: Vec<LeaseChange>,
    guards: Vec<LeaseGuard>,
    subjects: Vec<SubjectChange>,
}

impl Work {
    pub(crate) fn new(log: Arc<dyn Log>, now: Timestamp) -> Self {
        Self {
            log,
            now,
            writes: Vec::new(),
            claim: Vec::new(),
            release: Vec::new(),
            leases: Vec::new(),
            guards: Vec::new(),
            subjects: Vec::new(),
        }
    }

    pub(crate) async fn load<A: Aggregate>(&self, id: Uuid) -> Result<Loaded<A>, Failure> {
        Ok(fold(self.log.as_ref(), Loaded::empty(id)).await?)
    }

    /// Decides over what was loaded, and keeps the events for [`Work::commit`].
    pub(crate) fn decide<A: Aggregate>(
        &mut self,
        loaded: &mut Loaded<A>,
        command: A::Command,
    ) -> Result<Vec<A::Event>, Failure> {
        self.try_decide(loaded, command).map_err(|reason| rejected::<A>(&reason))
    }

    /// As [`Work::decide`], for callers who handle rejections themselves.
    pub(crate) fn try_decide<A: Aggregate>(
        &mut self,
        loaded: &mut Loaded<A>,
        command: A::Command,
    ) -> Result<Vec<A::Event>, A::Rejection> {
        let decided = loaded.state.decide(command, self.now)?;
        self.record(loaded, &decided);
        Ok(decided)
    }

    fn record<A: Aggregate>(&mut self, loaded: &mut Loaded<A>, decided: &[A::Event]) {
        let at = self.write_to(A::stream(loaded.id), loaded.revision);
        for event in decided {
            loaded.state.evolve(event);
            loaded.revision += 1;
            self.writes[at].events.push(event.to_new_event(loaded.state.organization()));
        }
    }

    /// The index of the stream's write; the first mention fixes the expected revision.
    fn write_to(&mut self, stream: StreamId, expected: u64) -> usize {
        if let Some(at) = self.writes.iter().position(|write| write.stream == stream) {
            return at;
        }
        self.writes.push(StreamWrite { stream, expected, events: Vec::new() });
        self.writes.len() - 1
    }

    /// The append fails when the stream is not at this revision, although nothing is written
    /// to it.
    pub(crate) fn hold_at(&mut self, stream: StreamId, revision: u64) {
        self.write_to(stream, revision);
    }

    /// How many counted events each organization gets by this.
    pub(crate) fn counted(&self) -> BTreeMap<OrganizationId, u32> {
        let mut counted = BTreeMap::new();
        for event in self.writes.iter().flat_map(|write| &write.events) {
            if let Some(organization) = event.organization
                && quota::is_counted(&event.event_type)
            {
                *counted.entry(organization).or_default() += 1;
            }
        }
        counted
    }

    pub(crate) fn claim(&mut self, key: String) {
        self.claim.push(key);
    }

    pub(crate) fn release(&mut self, key: String) {
        self.release.push(key);
    }

    /// Gives or ends a lease together with the events.
    pub(crate) fn change_lease(&mut self, change: LeaseChange) {
        self.leases.push(change);
    }

    /// Nothing is stored unless this lease is held.
    pub(crate) fn guard(&mut self, guard: LeaseGuard) {
        self.guards.push(guard);
    }

    /// Keeps or destroys a subject's key together with the events.
    pub(crate) fn change_subject(&mut self, change: SubjectChange) {
        self.subjects.push(change);
    }

    pub(crate) async fn commit(
        self,
        identity: Identity,
        reply: Bytes,
    ) -> Result<Appended, Failure> {
        let Identity { command, request_hash, actor, allowed, causation } = identity;
        let is_person = matches!(actor, Actor::User { .. } | Actor::ApiToken { .. });
        let append = Append {
            command,
            request_hash,
            actor,
            allowed: allowed.filter(|_| is_person),
            causation,
            at: self.now,
            writes: self.writes,
            claim: self.claim,
            release: self.release,
            leases: self.leases,
            guards: self.guards,
            subjects: self.subjects,
            reply,
        };
        match self.log.append(append).await {
            Err(AppendError::OutcomeUnknown) => {
                outcome(self.log.as_ref(), command, request_hash).await
            }
            done => Ok(done?),
        }
    }
}

/// Asks the log what became of a command, instead of repeating it blindly.
async fn outcome(
    log: &dyn Log,
    command: CommandId,
    request_hash: Digest,
) -> Result<Appended, Failure> {
    for _ in 0..MAX_OUTCOME_LOOKUPS {
        match log.command(command).await {
            Ok(Some(stored)) if stored.request_hash != request_hash => {
                return Err(AppendError::CommandReused.into());
            }
            Ok(Some(stored)) => {
                let (first, last) = (stored.first, stored.last);
                return Ok(Appended { first, last, replayed: false, reply: stored.reply });
            }
            Ok(None) => {
                return Err(AppendError::Unavailable("the connection was lost".to_owned()).into());
            }
            Err(error) => tracing::warn!(%error, "the outcome of a command is still unknown"),
        }
    }
    Err(AppendError::OutcomeUnknown.into())
}
