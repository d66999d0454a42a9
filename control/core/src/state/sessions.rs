use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use rap_events::{Envelope, session::SessionEvent};
use rap_proto::{NodeId, OrganizationId, SessionId, Timestamp, token::CLOCK_SKEW_MS};
use serde::{Deserialize, Serialize};

use super::{Corrupt, Session, SessionPhase, Stamp, Terminated};

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
    /// Those that ended and were not terminated, while a node may still accept a token of theirs:
    /// by when the last of these expires.
    lingering: BTreeSet<(Timestamp, SessionId)>,
    over: BTreeMap<OrganizationId, BTreeSet<(u64, SessionId)>>,
    denied: BTreeMap<SessionId, DeniedSession>,
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

impl DeniedSession {
    fn of(session: &Session, terminated_at: Timestamp) -> Self {
        let (nodes, expires_at) = (session.nodes.clone(), session.expires_at);
        Self { nodes, terminated_at, expires_at, end_seen: false }
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

    /// Those that terminating changes something for: alive, or over while a node may still accept a
    /// token of theirs.
    pub fn terminable(&self, now: Timestamp) -> impl Iterator<Item = &Session> {
        let lingering = self.lingering.iter().filter_map(|(_, id)| self.by_id.get(id));
        self.open()
            .filter(|session| session.is_alive())
            .chain(lingering.filter(move |session| !session.is_spent(now)))
    }

    #[cfg(test)]
    pub(crate) fn lingering(&self) -> usize {
        self.lingering.len()
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
        self.lingering.remove(&(session.expires_at, id));
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
            SessionEvent::Refreshed(event) => session.refresh(&event.grant),
            SessionEvent::Started(event) => session.start(event),
            SessionEvent::AccessRefused(_) => session.refusals = session.refusals.saturating_add(1),
            SessionEvent::Terminated(event) => {
                session.terminate(Terminated { cause: event.cause, at: envelope.at });
                // Also what has ended: a token of it may be shown again.
                let denied = || DeniedSession::of(session, envelope.at);
                self.denied.entry(id).or_insert_with(denied);
            }
            SessionEvent::Ended(event) => session.end(event, envelope.at),
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
                let denied = || DeniedSession::of(session, envelope.at);
                self.denied.entry(id).or_insert_with(denied);
            }
            SessionPhase::Denied | SessionPhase::Ended => {
                over.insert(place);
                self.open.remove(&id);
                if session.terminated.is_none() && !session.is_spent(envelope.at) {
                    self.lingering.insert((session.expires_at, id));
                }
            }
        }
        if let Some(denied) = self.denied.get_mut(&id) {
            denied.end_seen = session.ended.is_some_and(|ended| ended.seen);
        }
        let organization = session.organization;
        self.forget_oldest(organization, envelope.at);
        let skew = Duration::from_millis(CLOCK_SKEW_MS);
        while self.lingering.first().is_some_and(|(until, _)| envelope.at > *until + skew) {
            self.lingering.pop_first();
        }
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
