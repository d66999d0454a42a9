//! One session, as the log tells it.

use std::{collections::BTreeSet, time::Duration};

use rap_events::session::{
    Grant, Presence, Seen, SessionEnded, SessionRequested, SessionStarted, Standing,
    TerminationCause,
};
use rap_proto::{
    AttachmentId, NodeId, OrganizationId, PublicKey, RefusalCode, ResourceId, ResourceKind,
    SessionId, Timestamp, UserId,
    observation::{EndReason, Vantage},
    token::CLOCK_SKEW_MS,
};
use serde::{Deserialize, Serialize};

use super::Stamp;

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
    /// When the last of its tokens expires.
    pub expires_at: Timestamp,
    /// Every node that any of its tokens named: those that may report on it.
    pub nodes: BTreeSet<NodeId>,
    /// Those of them that any of its tokens named as an entry: they say where it lives.
    pub entries: BTreeSet<NodeId>,
    /// The position at which it was first authorized.
    pub authorized: u64,
    pub denial: Option<RefusalCode>,
    /// When the first start was seen; an egress' word stands until an entry says it.
    pub started_at: Option<Timestamp>,
    /// How often a node refused one of its tokens.
    pub refusals: u32,
    pub terminated: Option<Terminated>,
    /// How it ended, while it is over.
    pub ended: Option<Ended>,
    presence: Presence,
    /// Whether an entry said when it started.
    entry_started: bool,
    /// What has been said of its end, also while it runs again.
    told: Option<Ended>,
    /// Who said it; nobody when it was concluded.
    told_by: Option<Seen>,
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
    /// Of the last end, by the clocks of those who told of one: for people to read.
    pub reason: EndReason,
    /// Of all that entries told.
    pub bytes_up: u64,
    pub bytes_down: u64,
    pub at: Timestamp,
    /// Whether a node saw it; otherwise authority concluded it from time.
    pub seen: bool,
}

impl Session {
    /// Whether its access can be used, as far as authority goes.
    pub fn is_alive(&self) -> bool {
        matches!(self.phase, SessionPhase::Authorized | SessionPhase::Started)
    }

    /// Whether a newer token of it may be issued: it lives, or an entry that left leaves it to go on
    /// elsewhere.
    pub fn is_refreshable(&self, at: Timestamp) -> bool {
        let is_left = self.terminated.is_none() && self.presence.is_left() && !self.is_spent(at);
        self.is_alive() || is_left
    }

    /// The entries at which it lives, by their own words.
    pub fn lives_at(&self) -> impl Iterator<Item = NodeId> {
        self.presence.lives_at()
    }

    /// Whether a node may tell what it saw of it from there.
    pub fn is_seen_by(&self, node: NodeId, from: Option<Vantage>) -> bool {
        match from {
            Some(Vantage::Entry) => self.entries.contains(&node),
            Some(Vantage::Egress) | None => self.nodes.contains(&node),
        }
    }

    /// Whether no client can come back with one of its tokens after `at`.
    pub fn is_spent(&self, at: Timestamp) -> bool {
        self.grant.is_none() || at > self.expires_at + Duration::from_millis(CLOCK_SKEW_MS)
    }

    pub(super) fn requested(id: SessionId, event: &SessionRequested, stamp: Stamp) -> Self {
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
            expires_at: Timestamp::default(),
            nodes: BTreeSet::new(),
            entries: BTreeSet::new(),
            authorized: 0,
            denial: None,
            started_at: None,
            refusals: 0,
            terminated: None,
            ended: None,
            presence: Presence::default(),
            entry_started: false,
            told: None,
            told_by: None,
            stamp,
        }
    }

    pub(super) fn take_grant(&mut self, grant: &Grant) {
        self.nodes.extend(grant.entries.iter().chain(grant.egresses.keys()));
        self.entries.extend(&grant.entries);
        self.expires_at = self.expires_at.max(grant.expires_at);
        self.grant = Some(grant.clone());
    }

    pub(super) fn refresh(&mut self, grant: &Grant) {
        self.take_grant(grant);
        self.presence.refresh();
        self.settle();
    }

    pub(super) fn start(&mut self, event: &SessionStarted) {
        self.presence.start(event, &self.entries);
        let by_entry = event.is_of_entry(&self.entries);
        let at = match self.started_at {
            Some(known) if self.entry_started == by_entry => known.min(event.seen.at),
            Some(known) if self.entry_started => known,
            _ => event.seen.at,
        };
        self.started_at = Some(at);
        self.entry_started |= by_entry;
        self.settle();
    }

    pub(super) fn terminate(&mut self, terminated: Terminated) {
        self.terminated = Some(terminated);
        self.settle();
    }

    /// `at` is when authority concluded it, where no node saw it.
    pub(super) fn end(&mut self, event: &SessionEnded, at: Timestamp) {
        self.presence.end(event);
        let order = |seen: Seen| (seen.at, seen.node, seen.sequence);
        let earlier =
            event.seen.zip(self.told_by).is_some_and(|(seen, told)| order(seen) < order(told));
        let known = self.told;
        let (up, down) = known.map_or((0, 0), |known| (known.bytes_up, known.bytes_down));
        let told = match known {
            Some(known) if earlier => known,
            _ => {
                self.told_by = event.seen;
                Ended {
                    reason: event.reason,
                    bytes_up: 0,
                    bytes_down: 0,
                    at: event.seen.map_or(at, |seen| seen.at),
                    seen: event.seen.is_some(),
                }
            }
        };
        self.told = Some(Ended {
            bytes_up: up.saturating_add(event.bytes_up),
            bytes_down: down.saturating_add(event.bytes_down),
            ..told
        });
        self.settle();
    }

    /// The phase of a granted session: the table in `rap_events::session`.
    fn settle(&mut self) {
        self.phase = match (self.presence.standing(), self.terminated) {
            (Standing::Over, _) => SessionPhase::Ended,
            (_, Some(_)) => SessionPhase::Terminated,
            (Standing::Running, None) => SessionPhase::Started,
            (Standing::Unspoken, None) if self.presence.is_reached() => SessionPhase::Started,
            (Standing::Unspoken, None) => SessionPhase::Authorized,
        };
        self.ended = self.told.filter(|_| self.phase == SessionPhase::Ended);
    }
}

#[cfg(test)]
mod tests;
