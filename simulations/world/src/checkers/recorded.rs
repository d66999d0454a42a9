//! What a node observed and made durable is recorded by control exactly once.

use std::collections::{BTreeMap, BTreeSet};

use rap_events::{
    Aggregate as _, DomainEvent, Envelope,
    keys::observation_command,
    node_report::NodeReportEvent,
    session::{Session, SessionEvent},
};
use rap_proto::{
    CommandId, Digest, NodeId, SessionId, codec,
    observation::{Observation, Spooled},
};

use super::Violation;

const NAME: &str = "recorded";

#[derive(Debug, Default)]
pub struct Recorded {
    /// What each place in a node's spool held when it was sent.
    sent: BTreeMap<(NodeId, u64), Digest>,
    /// What a failover took out of the log again, or the session that it is about.
    lost: BTreeSet<(NodeId, u64)>,
    lost_sessions: BTreeSet<SessionId>,
    of_session: BTreeMap<(NodeId, u64), SessionId>,
}

impl Recorded {
    /// A node sends a batch. A place in its spool never means two things.
    pub fn sent(&mut self, node: NodeId, batch: &[Spooled]) -> Result<(), Violation> {
        for one in batch {
            let content = Digest::of(&codec::encode(one));
            if let Some(session) = session_of(&one.observation) {
                self.of_session.insert((node, one.sequence), session);
            }
            let known = self.sent.entry((node, one.sequence)).or_insert(content);
            if *known != content {
                let detail = format!("{node} sent two observations as number {}", one.sequence);
                return Err(Violation::new(NAME, detail));
            }
        }
        Ok(())
    }

    /// The places of everything that was sent and that control knows.
    pub fn places(&self, known: impl Fn(CommandId) -> bool) -> BTreeSet<(NodeId, u64)> {
        let command = |(node, sequence): &(NodeId, u64)| observation_command(*node, *sequence);
        self.sent.keys().filter(|place| known(command(place))).copied().collect()
    }

    /// A failover lost what was recorded of these places, and these events. It was confirmed, and comes
    /// no more; and what nodes say of a session that was lost is nobody's.
    pub fn lost(&mut self, places: impl IntoIterator<Item = (NodeId, u64)>, events: &[Envelope]) {
        self.lost.extend(places);
        for envelope in events {
            if envelope.stream.category == Session::CATEGORY && envelope.revision == 1 {
                self.lost_sessions.insert(SessionId::from_uuid(envelope.stream.id));
            }
        }
    }

    fn is_lost(&self, place: (NodeId, u64)) -> bool {
        let session = self.of_session.get(&place);
        let without = session.is_some_and(|session| self.lost_sessions.contains(session));
        without || self.lost.contains(&place)
    }

    pub fn count(&self) -> usize {
        self.sent.len()
    }

    /// Nothing in the log was recorded twice, or never observed.
    pub fn log(&self, events: &[Envelope]) -> Result<(), Violation> {
        let mut seen = BTreeSet::new();
        for envelope in events {
            let Some((node, sequence)) = place(envelope)? else { continue };
            if !self.sent.contains_key(&(node, sequence)) {
                let detail = format!("number {sequence} of {node} was recorded, but never sent");
                return Err(Violation::new(NAME, detail));
            }
            if !seen.insert((node, sequence)) {
                let detail = format!("number {sequence} of {node} was recorded twice");
                return Err(Violation::new(NAME, detail));
            }
        }
        Ok(())
    }

    /// When everything works again, every observation that was sent went through control:
    /// `known` says whether the log has its command. (Not every one makes an event: a session's
    /// second start is no news.) Whoever was revoked is not listened to any more.
    pub fn complete(
        &self,
        heard: impl Fn(NodeId) -> bool,
        known: impl Fn(CommandId) -> bool,
    ) -> Result<(), Violation> {
        for (node, sequence) in self.sent.keys().filter(|(node, _)| heard(*node)) {
            let known = known(observation_command(*node, *sequence));
            if !known && !self.is_lost((*node, *sequence)) {
                let detail = format!("number {sequence} of {node} was sent and never recorded");
                return Err(Violation::new(NAME, detail));
            }
        }
        Ok(())
    }
}

fn session_of(observation: &Observation) -> Option<SessionId> {
    match observation {
        Observation::SessionStarted { session, .. } | Observation::SessionEnded { session, .. } => {
            Some(*session)
        }
        Observation::AccessRefused { claimed, .. } => Some(claimed.as_ref()?.session),
        _ => None,
    }
}

/// Which node observed what the event tells, and the number in its spool.
fn place(envelope: &Envelope) -> Result<Option<(NodeId, u64)>, Violation> {
    if !matches!(envelope.stream.category.as_str(), "session" | "node_report") {
        return Ok(None);
    }
    let event = DomainEvent::from_envelope(envelope)
        .map_err(|error| Violation::new(NAME, error.to_string()))?;
    let seen = match event {
        DomainEvent::Session(SessionEvent::Started(event)) => Some(event.seen),
        DomainEvent::Session(SessionEvent::AccessRefused(event)) => Some(event.seen),
        DomainEvent::Session(SessionEvent::Ended(event)) => event.seen,
        DomainEvent::NodeReport(event) => {
            let sequence = match event {
                NodeReportEvent::AccessRefused(event) => event.sequence,
                NodeReportEvent::SnapshotRefused(event) => event.sequence,
                NodeReportEvent::LogRefused(event) => event.sequence,
                NodeReportEvent::WorkerExited(event) => event.sequence,
                NodeReportEvent::PathChanged(event) => event.sequence,
                NodeReportEvent::AuthorityChanged(event) => event.sequence,
            };
            return Ok(Some((NodeId::from_uuid(envelope.stream.id), sequence)));
        }
        _ => None,
    };
    Ok(seen.map(|seen| (seen.node, seen.sequence)))
}
