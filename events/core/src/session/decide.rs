use std::{collections::BTreeSet, time::Duration};

use rap_proto::{
    NodeId, OrganizationId, Timestamp,
    observation::{EndReason, Vantage},
    token::{CLOCK_SKEW_MS, CONNECT_TTL_MS, GRANT_TTL_MS, MAX_AUDIENCE},
};

use super::{
    Basis, CONCLUDE_AFTER_MS, CONCLUDE_STARTED_AFTER_MS, Grant, MAX_GRANT_POLICIES, MAX_REFUSALS,
    MAX_SEEN_SKEW_MS, MAX_WORDS, Outcome, Phase, Seen, Session, SessionAccessRefused,
    SessionAuthorized, SessionCommand, SessionDenied, SessionEnded, SessionEvent, SessionRefreshed,
    SessionRejection, SessionRequested, SessionStarted, SessionTerminated, Standing,
};
use crate::{Aggregate, aggregate::is_plain_text};

type Decision = Result<Vec<SessionEvent>, SessionRejection>;

impl Aggregate for Session {
    const CATEGORY: &'static str = "session";
    type Command = SessionCommand;
    type Event = SessionEvent;
    type Rejection = SessionRejection;

    fn decide(&self, command: SessionCommand, now: Timestamp) -> Decision {
        let requests = matches!(command, SessionCommand::Request { .. });
        match (self.phase, requests) {
            (Phase::Absent, true) | (_, false) => {}
            (_, true) => return Err(SessionRejection::AlreadyExists),
        }
        if !requests {
            self.require_granted(&command)?;
        }
        match command {
            SessionCommand::Request {
                organization,
                user,
                asked,
                resource,
                client_key,
                outcome,
            } => {
                let requested =
                    SessionRequested { organization, user, asked, resource, client_key };
                request(requested, outcome, now)
            }
            SessionCommand::Refresh { user, client_key, grant, basis } => {
                if self.user != Some(user) || self.client_key != Some(client_key) {
                    return Err(SessionRejection::NotTheHolder);
                }
                if !self.is_refreshable(now) {
                    return Err(SessionRejection::Over);
                }
                check_grant(&grant, now)?;
                check_basis(&basis)?;
                Ok(vec![SessionRefreshed { grant, basis }.into()])
            }
            SessionCommand::Terminate { cause } if self.is_terminable(now) => {
                Ok(vec![SessionTerminated { cause }.into()])
            }
            SessionCommand::Terminate { .. } => Ok(Vec::new()),
            SessionCommand::RecordStarted { seen, from } => {
                self.record_started(self.bounded(seen, now), from)
            }
            SessionCommand::RecordRefused { .. } if self.refusals >= MAX_REFUSALS => Ok(Vec::new()),
            SessionCommand::RecordRefused { seen, code } => {
                let seen = self.bounded(seen, now);
                Ok(vec![SessionAccessRefused { seen, code }.into()])
            }
            SessionCommand::RecordEnded { seen, reason, bytes_up, bytes_down } => {
                let seen = Some(self.bounded(seen, now));
                self.record_ended(SessionEnded { reason, bytes_up, bytes_down, seen })
            }
            SessionCommand::Conclude => self.conclude(now),
        }
    }

    fn evolve(&mut self, event: &SessionEvent) {
        match event {
            SessionEvent::Requested(requested) => {
                self.phase = Phase::Requested;
                self.organization = Some(requested.organization);
                self.user = Some(requested.user);
                self.client_key = Some(requested.client_key);
            }
            SessionEvent::Denied(_) => self.phase = Phase::Denied,
            SessionEvent::Authorized(authorized) => {
                self.phase = Phase::Alive;
                self.opened_at = authorized.grant.expires_at - Duration::from_millis(GRANT_TTL_MS);
                self.take_grant(&authorized.grant);
            }
            SessionEvent::Refreshed(refreshed) => {
                self.take_grant(&refreshed.grant);
                self.presence.refresh();
                self.settle();
            }
            SessionEvent::Started(started) => {
                if started.is_of_entry(&self.entries) {
                    self.count_word(started.seen.node);
                }
                self.presence.start(started, &self.entries);
                self.settle();
            }
            SessionEvent::AccessRefused(_) => self.refusals = self.refusals.saturating_add(1),
            SessionEvent::Terminated(_) => {
                self.terminated = true;
                self.settle();
            }
            SessionEvent::Ended(ended) => {
                if let Some(seen) = ended.seen {
                    self.count_word(seen.node);
                }
                self.presence.end(ended);
                self.settle();
            }
        }
    }

    fn organization(&self) -> Option<OrganizationId> {
        self.organization
    }
}

impl Session {
    /// A denied session never was: only the auditor sees it. A refusal may still name it, when
    /// somebody presents an old token again.
    fn require_granted(&self, command: &SessionCommand) -> Result<(), SessionRejection> {
        let terminates = matches!(command, SessionCommand::Terminate { .. });
        match self.phase {
            Phase::Absent | Phase::Requested => Err(SessionRejection::NotFound),
            Phase::Denied if terminates => Ok(()),
            Phase::Denied => Err(SessionRejection::Over),
            Phase::Alive | Phase::Terminated | Phase::Ended => Ok(()),
        }
    }

    /// Of each entry every start is recorded that is newer than what it told before: a client that
    /// comes back within its token's time starts the session again. Of egresses the first is, where
    /// nobody told of a start before.
    fn record_started(&self, seen: Seen, from: Option<Vantage>) -> Decision {
        let is_entry = self.entries.contains(&seen.node);
        let from = match from {
            Some(from) => from,
            None if is_entry => Vantage::Entry,
            None => Vantage::Egress,
        };
        match from {
            Vantage::Entry => require_part(&self.entries, seen.node)?,
            Vantage::Egress => require_part(&self.egresses, seen.node)?,
        }
        let known = match from {
            Vantage::Entry => self.presence.knows_start(seen.node, seen.sequence),
            Vantage::Egress => self.presence.is_reached(),
        };
        if known {
            return Ok(Vec::new());
        }
        if from == Vantage::Entry {
            self.require_room(seen.node, MAX_WORDS)?;
        }
        Ok(vec![SessionStarted { seen, from: Some(from) }.into()])
    }

    /// Recorded also after authority concluded the end: each end that an entry tells is one, there.
    fn record_ended(&self, ended: SessionEnded) -> Decision {
        let Some(Seen { node, sequence, .. }) = ended.seen else { return Ok(Vec::new()) };
        require_part(&self.entries, node)?;
        if self.presence.knows_end(node, sequence) {
            return Ok(Vec::new());
        }
        self.require_room(node, MAX_WORDS + 1)?;
        Ok(vec![ended.into()])
    }

    /// Whether one more word of the entry may be recorded, when it may have said `most`.
    fn require_room(&self, entry: NodeId, most: u32) -> Result<(), SessionRejection> {
        if !self.presence.has_room(entry) {
            return Err(SessionRejection::TooManyEntries);
        }
        let said = self.words.get(&entry).copied().unwrap_or_default();
        if said < most { Ok(()) } else { Err(SessionRejection::TooManyWords) }
    }

    fn count_word(&mut self, entry: NodeId) {
        let said = self.words.entry(entry).or_default();
        *said = said.saturating_add(1);
    }

    fn conclude(&self, now: Timestamp) -> Decision {
        if self.phase == Phase::Ended {
            return Ok(Vec::new());
        }
        let started = self.presence.is_reached();
        let wait = if started { CONCLUDE_STARTED_AFTER_MS } else { CONCLUDE_AFTER_MS };
        if now <= self.expires_at + Duration::from_millis(wait) {
            return Err(SessionRejection::StillAlive);
        }
        let reason = match (self.terminated, started) {
            (true, _) => EndReason::Terminated,
            (false, true) => EndReason::ClientLost,
            (false, false) => EndReason::NotUsed,
        };
        Ok(vec![SessionEnded { reason, bytes_up: 0, bytes_down: 0, seen: None }.into()])
    }

    fn take_grant(&mut self, grant: &Grant) {
        self.entries.extend(&grant.entries);
        self.egresses.extend(grant.egresses.keys());
        self.expires_at = self.expires_at.max(grant.expires_at);
    }

    fn settle(&mut self) {
        self.phase = match (self.presence.standing(), self.terminated) {
            (Standing::Over, _) => Phase::Ended,
            (Standing::Unspoken | Standing::Running, true) => Phase::Terminated,
            (Standing::Unspoken | Standing::Running, false) => Phase::Alive,
        };
    }

    /// Whether it lives, or an entry that left leaves it to go on elsewhere with what its client has.
    fn is_refreshable(&self, now: Timestamp) -> bool {
        let is_left = !self.terminated && self.presence.is_left() && self.is_accepted(now);
        self.phase == Phase::Alive || is_left
    }

    /// Whether terminating it changes anything: it lives, or a node may still accept a token of it.
    fn is_terminable(&self, now: Timestamp) -> bool {
        !self.terminated && (self.phase == Phase::Alive || self.is_accepted(now))
    }

    /// Whether a node may still accept a token of it.
    fn is_accepted(&self, now: Timestamp) -> bool {
        now <= self.expires_at + Duration::from_millis(CLOCK_SKEW_MS)
    }

    /// What was seen, with a time between the session's begin and now.
    fn bounded(&self, seen: Seen, now: Timestamp) -> Seen {
        let skew = Duration::from_millis(MAX_SEEN_SKEW_MS);
        let at = if seen.at > now + skew {
            now
        } else if seen.at < self.opened_at - skew {
            self.opened_at
        } else {
            seen.at
        };
        Seen { at, ..seen }
    }
}

fn require_part(nodes: &BTreeSet<NodeId>, node: NodeId) -> Result<(), SessionRejection> {
    if nodes.contains(&node) { Ok(()) } else { Err(SessionRejection::ForeignNode) }
}

fn request(mut requested: SessionRequested, outcome: Outcome, now: Timestamp) -> Decision {
    if !is_plain_text(&requested.asked) {
        return Err(SessionRejection::TextNotPlain);
    }
    match outcome {
        Outcome::Denied { code, reason, basis } => {
            check_basis(&basis)?;
            if !is_plain_text(&reason) {
                return Err(SessionRejection::TextNotPlain);
            }
            Ok(vec![requested.into(), SessionDenied { code, reason, basis }.into()])
        }
        Outcome::Authorized { resource, kind, attachment, grant, basis } => {
            check_grant(&grant, now)?;
            check_basis(&basis)?;
            requested.resource = Some(resource);
            let authorized = SessionAuthorized { resource, kind, attachment, grant, basis };
            Ok(vec![requested.into(), authorized.into()])
        }
    }
}

fn check_basis(basis: &Basis) -> Result<(), SessionRejection> {
    if basis.is_bounded() { Ok(()) } else { Err(SessionRejection::BasisSize) }
}

fn check_grant(grant: &Grant, now: Timestamp) -> Result<(), SessionRejection> {
    let audience = 1..=MAX_AUDIENCE;
    if !audience.contains(&grant.entries.len())
        || !audience.contains(&grant.egresses.len())
        || grant.policies.len() > MAX_GRANT_POLICIES
    {
        return Err(SessionRejection::GrantSize);
    }
    let ordered = now < grant.connect_by && grant.connect_by <= grant.expires_at;
    let short = grant.connect_by <= now + Duration::from_millis(CONNECT_TTL_MS)
        && grant.expires_at <= now + Duration::from_millis(GRANT_TTL_MS);
    if ordered && short { Ok(()) } else { Err(SessionRejection::GrantLifetime) }
}
