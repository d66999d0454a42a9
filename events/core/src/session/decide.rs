use std::time::Duration;

use rap_proto::{
    OrganizationId, Timestamp,
    observation::EndReason,
    token::{CONNECT_TTL_MS, GRANT_TTL_MS, MAX_AUDIENCE},
};

use super::{
    Basis, CONCLUDE_AFTER_MS, CONCLUDE_STARTED_AFTER_MS, Grant, MAX_GRANT_POLICIES, MAX_REFUSALS,
    Outcome, Phase, Seen, Session, SessionAccessRefused, SessionAuthorized, SessionCommand,
    SessionDenied, SessionEnded, SessionEvent, SessionRefreshed, SessionRejection,
    SessionRequested, SessionStarted, SessionTerminated,
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
                if self.phase != Phase::Alive {
                    return Err(SessionRejection::Over);
                }
                check_grant(&grant, now)?;
                check_basis(&basis)?;
                Ok(vec![SessionRefreshed { grant, basis }.into()])
            }
            SessionCommand::Terminate { cause } => match self.phase {
                Phase::Alive => Ok(vec![SessionTerminated { cause }.into()]),
                _ => Ok(Vec::new()),
            },
            SessionCommand::RecordStarted { seen } => self.record_started(seen),
            SessionCommand::RecordRefused { .. } if self.refusals >= MAX_REFUSALS => Ok(Vec::new()),
            SessionCommand::RecordRefused { seen, code } => {
                Ok(vec![SessionAccessRefused { seen, code }.into()])
            }
            SessionCommand::RecordEnded { seen, reason, bytes_up, bytes_down } => {
                self.record_ended(seen, reason, bytes_up, bytes_down)
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
                self.take_grant(&authorized.grant);
            }
            SessionEvent::Refreshed(refreshed) => self.take_grant(&refreshed.grant),
            SessionEvent::Started(started) => {
                self.started = true;
                if self.is_news(started.seen) {
                    self.ended_by = None;
                    self.phase = if self.terminated { Phase::Terminated } else { Phase::Alive };
                }
            }
            SessionEvent::AccessRefused(_) => self.refusals = self.refusals.saturating_add(1),
            SessionEvent::Terminated(_) => {
                self.terminated = true;
                self.phase = Phase::Terminated;
            }
            SessionEvent::Ended(ended) => {
                self.phase = Phase::Ended;
                self.ended_by = ended.seen;
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

    /// Recorded unless it runs already. A client that comes back within its token's time starts
    /// the session again.
    fn record_started(&self, seen: Seen) -> Decision {
        self.require_part(seen)?;
        let running = self.started && self.phase != Phase::Ended;
        let known = self.started && !self.is_news(seen);
        if running || known {
            return Ok(Vec::new());
        }
        Ok(vec![SessionStarted { seen }.into()])
    }

    /// Recorded also after authority concluded the end; of several nodes' words the first counts.
    fn record_ended(
        &self,
        seen: Seen,
        reason: EndReason,
        bytes_up: u64,
        bytes_down: u64,
    ) -> Decision {
        self.require_part(seen)?;
        let news = match self.ended_by {
            Some(known) => known.node == seen.node && known.sequence < seen.sequence,
            None => true,
        };
        if !news {
            return Ok(Vec::new());
        }
        Ok(vec![SessionEnded { reason, bytes_up, bytes_down, seen: Some(seen) }.into()])
    }

    fn conclude(&self, now: Timestamp) -> Decision {
        if self.phase == Phase::Ended {
            return Ok(Vec::new());
        }
        let wait = if self.started { CONCLUDE_STARTED_AFTER_MS } else { CONCLUDE_AFTER_MS };
        if now <= self.expires_at + Duration::from_millis(wait) {
            return Err(SessionRejection::StillAlive);
        }
        let reason = match (self.terminated, self.started) {
            (true, _) => EndReason::Terminated,
            (false, true) => EndReason::ClientLost,
            (false, false) => EndReason::NotUsed,
        };
        Ok(vec![SessionEnded { reason, bytes_up: 0, bytes_down: 0, seen: None }.into()])
    }

    fn take_grant(&mut self, grant: &Grant) {
        self.nodes.extend(&grant.entries);
        self.nodes.extend(grant.egresses.keys());
        self.expires_at = grant.expires_at;
    }

    /// Whether a start was seen after the end, and is not the late word of what ended.
    fn is_news(&self, start: Seen) -> bool {
        self.ended_by.is_none_or(|ended| start.is_after(&ended))
    }

    fn require_part(&self, seen: Seen) -> Result<(), SessionRejection> {
        if self.nodes.contains(&seen.node) { Ok(()) } else { Err(SessionRejection::ForeignNode) }
    }
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
