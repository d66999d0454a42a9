use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use rap_events::{
    Envelope,
    session::{Grant, Seen, SessionEvent, SessionRequested, TerminationCause},
};
use rap_proto::{
    AttachmentId, NodeId, OrganizationId, PublicKey, RefusalCode, ResourceId, ResourceKind,
    SessionId, Timestamp, UserId, observation::EndReason, token::CLOCK_SKEW_MS,
};
use serde::{Deserialize, Serialize};

use super::{Corrupt, Stamp};

/// How many denied and ended sessions are remembered for each organization, beyond those whose
/// token could still be used.
pub const MAX_OVER_PER_ORGANIZATION: usize = 1_000;
/// How long a terminated session stays in its nodes' deny lists when no node says that it ended:
/// 7 days.
pub const DENIAL_KEPT_MS: u64 = 7 * 24 * 3_600_000;

/// Every session that can still be used, and the newest of those that are over.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Sessions {
    by_id: BTreeMap<SessionId, Session>,
    /// Authorized or terminated, and not seen to end.
    open: BTreeSet<SessionId>,
    /// Those of them whose access can be used.
    alive: BTreeMap<OrganizationId, BTreeSet<SessionId>>,
    over: BTreeMap<OrganizationId, BTreeSet<(u64, SessionId)>>,
    denied: BTreeMap<SessionId, DeniedSession>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Session {
    pub id: SessionId,
    pub organization: OrganizationId,
    pub user: UserId,
    /// What the user asked for, as typed.
    pub asked: String,
    pub resource: Option<ResourceId>,
    pub kind: Option<ResourceKind>,
    pub attachment: Option<AttachmentId>,
    pub client_key: PublicKey,
    pub phase: SessionPhase,
    /// The newest grant.
    pub grant: Option<Grant>,
    /// Every node that any of its tokens named: those that may report on it.
    pub nodes: BTreeSet<NodeId>,
    /// The position at which it was first authorized.
    pub authorized: u64,
    pub denial: Option<RefusalCode>,
    pub started_at: Option<Timestamp>,
    /// How often a node refused one of its tokens.
    pub refusals: u32,
    pub terminated: Option<Terminated>,
    pub ended: Option<Ended>,
    /// What the newest end was concluded from.
    ended_by: Option<Seen>,
    pub stamp: Stamp,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SessionPhase {
    Requested,
    Denied,
    Authorized,
    Started,
    /// Ended by authority; no node has confirmed it yet.
    Terminated,
    Ended,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Terminated {
    pub cause: TerminationCause,
    pub at: Timestamp,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    pub reason: EndReason,
    pub bytes_up: u64,
    pub bytes_down: u64,
    pub at: Timestamp,
    /// Whether a node saw it; otherwise authority concluded it from time.
    pub seen: bool,
}

/// A session that was terminated and that nodes are told to close.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeniedSession {
    /// The nodes that are told: those that any of its tokens named.
    pub nodes: BTreeSet<NodeId>,
    pub terminated_at: Timestamp,
    /// When the last of its tokens expires.
    pub expires_at: Timestamp,
    pub end_seen: bool,
}

impl Session {
    /// Whether its access can be used, as far as authority goes.
    pub fn is_alive(&self) -> bool {
        matches!(self.phase, SessionPhase::Authorized | SessionPhase::Started)
    }

    fn requested(id: SessionId, event: &SessionRequested, stamp: Stamp) -> Self {
        Self {
            id,
            organization: event.organization,
            user: event.user,
            asked: event.asked.clone(),
            resource: event.resource,
            kind: None,
            attachment: None,
            client_key: event.client_key,
            phase: SessionPhase::Requested,
            grant: None,
            nodes: BTreeSet::new(),
            authorized: 0,
            denial: None,
            started_at: None,
            refusals: 0,
            terminated: None,
            ended: None,
            ended_by: None,
            stamp,
        }
    }

    fn take_grant(&mut self, grant: &Grant) {
        self.nodes.extend(grant.entries.iter().chain(grant.egresses.keys()));
        self.grant = Some(grant.clone());
    }

    /// A client that comes back within its token's time starts the session again.
    fn start(&mut self, seen: &Seen) {
        self.started_at.get_or_insert(seen.at);
        // The word of the egress can come after that of the entry.
        if self.ended_by.is_some_and(|ended| !seen.is_after(&ended)) {
            return;
        }
        self.ended = None;
        self.ended_by = None;
        self.phase = match self.terminated {
            Some(_) => SessionPhase::Terminated,
            None => SessionPhase::Started,
        };
    }

    /// Whether no client can come back with one of its tokens after `at`.
    fn is_spent(&self, at: Timestamp) -> bool {
        self.grant
            .as_ref()
            .is_none_or(|grant| at > grant.expires_at + Duration::from_millis(CLOCK_SKEW_MS))
    }
}

impl Sessions {
    pub fn get(&self, id: SessionId) -> Option<&Session> {
        self.by_id.get(&id)
    }

    /// In the order of their ids: by age.
    pub fn iter(&self) -> impl Iterator<Item = &Session> {
        self.by_id.values()
    }

    /// Authorized, started or terminated, and not ended yet.
    pub fn open(&self) -> impl Iterator<Item = &Session> {
        self.open.iter().filter_map(|id| self.by_id.get(id))
    }

    /// How many sessions of an organization can be used at the moment.
    pub fn alive_in(&self, organization: OrganizationId) -> usize {
        self.alive.get(&organization).map_or(0, BTreeSet::len)
    }

    /// The sessions that nodes are told to close.
    pub fn denied(&self) -> impl Iterator<Item = (SessionId, &DeniedSession)> {
        self.denied.iter().map(|(id, denied)| (*id, denied))
    }

    /// The nodes that are told to close a session; none when it was not terminated.
    pub fn denied_at(&self, id: SessionId) -> impl Iterator<Item = NodeId> {
        self.denied.get(&id).into_iter().flat_map(|denied| denied.nodes.iter().copied())
    }

    pub(super) fn fold(
        &mut self,
        event: &SessionEvent,
        envelope: &Envelope,
    ) -> Result<(), Corrupt> {
        let id = SessionId::from_uuid(envelope.stream.id);
        if let SessionEvent::Requested(event) = event {
            let session = Session::requested(id, event, Stamp::first(envelope)?);
            self.by_id.insert(id, session);
            return Ok(());
        }
        // A report can come after the session was forgotten.
        let Some(session) = self.by_id.get_mut(&id) else { return Ok(()) };
        session.stamp.advance(envelope)?;
        match event {
            SessionEvent::Requested(_) => {}
            SessionEvent::Denied(event) => {
                session.phase = SessionPhase::Denied;
                session.denial = Some(event.code);
            }
            SessionEvent::Authorized(event) => {
                session.phase = SessionPhase::Authorized;
                session.resource = Some(event.resource);
                session.kind = Some(event.kind);
                session.attachment = Some(event.attachment);
                session.authorized = envelope.position;
                session.take_grant(&event.grant);
            }
            SessionEvent::Refreshed(event) => session.take_grant(&event.grant),
            SessionEvent::Started(event) => session.start(&event.seen),
            SessionEvent::AccessRefused(_) => session.refusals = session.refusals.saturating_add(1),
            SessionEvent::Terminated(event) => {
                session.phase = SessionPhase::Terminated;
                session.terminated = Some(Terminated { cause: event.cause, at: envelope.at });
            }
            SessionEvent::Ended(event) => {
                session.phase = SessionPhase::Ended;
                session.ended_by = event.seen;
                session.ended = Some(Ended {
                    reason: event.reason,
                    bytes_up: event.bytes_up,
                    bytes_down: event.bytes_down,
                    at: event.seen.map_or(envelope.at, |seen| seen.at),
                    seen: event.seen.is_some(),
                });
            }
        }
        self.index(id, envelope);
        Ok(())
    }

    fn index(&mut self, id: SessionId, envelope: &Envelope) {
        let Some(session) = self.by_id.get(&id) else { return };
        let place = (session.stamp.created, id);
        let alive = self.alive.entry(session.organization).or_default();
        if session.is_alive() {
            alive.insert(id);
        } else {
            alive.remove(&id);
        }
        let over = self.over.entry(session.organization).or_default();
        match session.phase {
            SessionPhase::Requested => {}
            SessionPhase::Authorized | SessionPhase::Started => {
                over.remove(&place);
                self.open.insert(id);
            }
            SessionPhase::Terminated => {
                over.remove(&place);
                self.open.insert(id);
                self.denied.entry(id).or_insert_with(|| DeniedSession {
                    nodes: session.nodes.clone(),
                    terminated_at: envelope.at,
                    expires_at: session.grant.as_ref().map_or(envelope.at, |g| g.expires_at),
                    end_seen: false,
                });
            }
            SessionPhase::Denied | SessionPhase::Ended => {
                over.insert(place);
                self.open.remove(&id);
            }
        }
        if let Some(denied) = self.denied.get_mut(&id) {
            denied.end_seen = session.ended.is_some_and(|ended| ended.seen);
        }
        let organization = session.organization;
        self.forget_oldest(organization, envelope.at);
    }

    fn forget_oldest(&mut self, organization: OrganizationId, at: Timestamp) {
        let Some(over) = self.over.get_mut(&organization) else { return };
        while over.len() > MAX_OVER_PER_ORGANIZATION
            && let Some((_, oldest)) = over.first().copied()
            && self.by_id.get(&oldest).is_none_or(|session| session.is_spent(at))
        {
            over.pop_first();
            self.by_id.remove(&oldest);
        }
    }

    /// Takes those sessions off the deny lists whose tokens expired and whose end was seen.
    /// Called where every snapshot is made anew.
    pub(super) fn forget_denials(&mut self, at: Timestamp) {
        self.denied.retain(|_, denied| {
            let usable = at <= denied.expires_at + Duration::from_millis(CLOCK_SKEW_MS);
            let unseen = !denied.end_seen
                && at.since(denied.terminated_at).as_millis() <= u128::from(DENIAL_KEPT_MS);
            usable || unseen
        });
    }
}
