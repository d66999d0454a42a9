#![allow(clippy::unwrap_used)]

use rap_events::{
    Actor,
    session::{
        CONCLUDE_AFTER_MS, MAX_WORDS, Seen, Session as Aggregate, SessionCommand, SessionRejection,
        TerminationCause,
    },
};
use rap_proto::{
    NodeId, NodeRole, SessionId, Timestamp,
    observation::{EndReason, Vantage},
    snapshot::RoleScope,
    token::{CLOCK_SKEW_MS, GRANT_TTL_MS},
};

use super::{Session, SessionPhase};
use crate::world::{Platform, uuid};

const TERMINATE: SessionCommand = SessionCommand::Terminate { cause: TerminationCause::Requested };

/// A session that two entries may serve, and its egress.
struct Moving {
    platform: Platform,
    session: SessionId,
    first: NodeId,
    second: NodeId,
    egress: NodeId,
}

impl Moving {
    fn new() -> Self {
        let mut platform = Platform::new();
        let roles = vec![RoleScope { role: NodeRole::EntryNode, organizations: None }];
        let second = platform.world.node(0x22, "entry-2", None, roles, &[]);
        let (acme, first) = (platform.acme, platform.entry);
        let session = SessionId::from_uuid(uuid(0x7020));
        let authorized = platform.world.connect(acme, acme.user, session).unwrap();
        assert_eq!(authorized.grant.entries, [first, second].into());
        Self { platform, session, first, second, egress: acme.egress }
    }

    fn found(&self) -> &Session {
        self.platform.state().sessions().get(self.session).unwrap()
    }

    fn give(&mut self, command: SessionCommand) {
        self.platform.world.session(self.session, command);
    }

    fn attempt(&mut self, command: SessionCommand) -> Result<usize, SessionRejection> {
        let actor = Actor::System { process: "test".to_owned() };
        self.platform.world.give::<Aggregate>(self.session.uuid(), &actor, command)
    }

    fn denied(&self) -> bool {
        self.platform.state().sessions().denied_at(self.session).count() == 3
    }

    fn terminable(&self) -> bool {
        let now = self.platform.world.now;
        self.platform.state().sessions().terminable(now).any(|found| found.id == self.session)
    }

    fn is_open(&self) -> bool {
        self.platform.state().sessions().open().any(|open| open.id == self.session)
    }

    fn seen(&self, node: NodeId, sequence: u64) -> Seen {
        // The first entry's clock is ahead of the second's by as much as is believed.
        let wrong = if node == self.first { 4_000 } else { -4_000 };
        let at = Timestamp::from_unix_millis(self.platform.world.now.unix_millis() + wrong);
        Seen { node, sequence, at }
    }

    fn opened(&self, node: NodeId, sequence: u64) -> SessionCommand {
        let from = Some(if node == self.egress { Vantage::Egress } else { Vantage::Entry });
        SessionCommand::RecordStarted { seen: self.seen(node, sequence), from }
    }

    fn closed(&self, node: NodeId, sequence: u64) -> SessionCommand {
        let (reason, seen) = (EndReason::ClientLost, self.seen(node, sequence));
        SessionCommand::RecordEnded { seen, reason, bytes_up: 5, bytes_down: 7 }
    }
}

#[test]
fn a_session_goes_through_its_phases() {
    let mut moving = Moving::new();
    let (first, egress) = (moving.first, moving.egress);
    assert_eq!(moving.found().phase, SessionPhase::Authorized);
    moving.give(moving.opened(egress, 1));
    assert_eq!(moving.found().phase, SessionPhase::Started);
    assert_eq!(moving.platform.state().nodes().get(egress).unwrap().observed, 1);
    moving.give(moving.opened(first, 1));
    assert_eq!(moving.found().phase, SessionPhase::Started);
    assert_eq!(moving.found().started_at, Some(moving.seen(first, 1).at), "as an entry says");
    moving.give(TERMINATE);
    assert_eq!(moving.found().phase, SessionPhase::Terminated);
    assert!(moving.is_open() && moving.denied());
    moving.give(moving.closed(first, 2));
    assert_eq!(moving.found().phase, SessionPhase::Ended);
    assert_eq!(moving.found().ended.unwrap().bytes_down, 7);
    assert!(!moving.is_open());
}

#[test]
fn a_client_that_comes_back_within_its_token_starts_the_session_again() {
    let mut moving = Moving::new();
    let first = moving.first;
    moving.give(moving.opened(first, 1));
    moving.give(moving.closed(first, 2));
    moving.give(moving.opened(first, 3));
    assert_eq!(moving.found().phase, SessionPhase::Started);
    assert!(moving.found().ended.is_none() && moving.is_open());
    moving.give(moving.closed(first, 4));
    assert_eq!(moving.found().ended.unwrap().bytes_up, 10, "of both times");
}

#[test]
fn a_session_that_ended_before_its_start_was_told_is_over() {
    let mut moving = Moving::new();
    moving.give(moving.closed(moving.first, 1));
    let late = moving.opened(moving.egress, 1);
    moving.give(late);
    let started = Some(moving.seen(moving.egress, 1).at);
    assert_eq!((moving.found().phase, moving.found().started_at), (SessionPhase::Ended, started));
    assert!(!moving.is_open());
}

#[test]
fn a_session_lives_where_it_moved_to_whenever_the_first_entry_tells() {
    let mut moving = Moving::new();
    let (first, second) = (moving.first, moving.second);
    moving.give(moving.opened(first, 10));
    moving.give(moving.opened(second, 1));
    moving.give(moving.closed(first, 11));
    assert_eq!(moving.found().phase, SessionPhase::Started);
    assert_eq!(moving.found().lives_at().collect::<Vec<_>>(), [second]);
    moving.give(TERMINATE);
    assert_eq!(moving.found().phase, SessionPhase::Terminated);
    assert!(moving.denied());
    moving.give(moving.closed(second, 2));
    assert_eq!(moving.found().phase, SessionPhase::Ended);
    assert_eq!(moving.found().ended.unwrap().bytes_up, 10, "at both");
}

#[test]
fn a_session_of_which_an_entry_said_too_much_is_told_to_be_over() {
    let mut moving = Moving::new();
    let (first, most) = (moving.first, u64::from(MAX_WORDS));
    for number in 1..=most {
        moving.give(moving.opened(first, number));
    }
    let length = moving.platform.world.log.len();
    let too_many = Err(SessionRejection::TooManyWords);
    assert_eq!(moving.attempt(moving.opened(first, most + 1)), too_many);
    assert_eq!(moving.found().phase, SessionPhase::Started);
    assert_eq!(moving.attempt(moving.closed(first, most + 2)), Ok(1));
    assert_eq!(moving.found().phase, SessionPhase::Ended);
    assert_eq!(moving.attempt(moving.opened(first, most + 3)), too_many);
    assert_eq!(moving.attempt(moving.closed(first, most + 3)), too_many);
    assert_eq!(moving.found().phase, SessionPhase::Ended);
    assert_eq!(moving.platform.world.log.len(), length + 1);
    assert!(!moving.is_open());
    moving.give(moving.opened(moving.second, 1));
    assert_eq!(moving.found().phase, SessionPhase::Started, "the other entry is heard");
}

/// Every way to tell what each node tells in its own order.
fn interleavings(told: &[Vec<SessionCommand>]) -> Vec<Vec<SessionCommand>> {
    if told.iter().all(Vec::is_empty) {
        return vec![Vec::new()];
    }
    let mut all = Vec::new();
    for node in (0..told.len()).filter(|node| !told[*node].is_empty()) {
        let mut rest = told.to_vec();
        let first = rest[node].remove(0);
        for mut tail in interleavings(&rest) {
            tail.insert(0, first.clone());
            all.push(tail);
        }
    }
    all
}

#[test]
fn in_whatever_order_the_nodes_are_heard_the_same_is_shown() {
    let moving = Moving::new();
    let (first, second, egress) = (moving.first, moving.second, moving.egress);
    for returns in [false, true] {
        let mut of_first = vec![moving.opened(first, 10), moving.closed(first, 11)];
        if returns {
            of_first.push(moving.opened(first, 12));
        }
        let of_second = vec![moving.opened(second, 1), moving.closed(second, 2)];
        let ways = interleavings(&[of_first, of_second, vec![moving.opened(egress, 1)]]);
        assert_eq!(ways.len(), if returns { 60 } else { 30 });
        let mut shown = ways.into_iter().map(|way| {
            let mut moving = Moving::new();
            way.into_iter().for_each(|command| moving.give(command));
            assert_eq!(
                moving.platform.world.replay().to_bytes(),
                moving.platform.state().to_bytes()
            );
            let found = moving.found();
            let lives: Vec<_> = found.lives_at().collect();
            (found.phase, found.started_at, found.ended, lives)
        });
        let one = shown.next().unwrap();
        assert_eq!(one.0, if returns { SessionPhase::Started } else { SessionPhase::Ended });
        assert!(shown.all(|other| other == one), "{one:?}");
    }
}

#[test]
fn what_ended_is_denied_when_it_is_terminated_while_a_token_of_it_may_be_accepted() {
    for (later, accepted) in [(0, true), (CLOCK_SKEW_MS, true), (CLOCK_SKEW_MS + 1, false)] {
        let mut moving = Moving::new();
        moving.give(moving.opened(moving.first, 1));
        moving.give(moving.closed(moving.first, 2));
        moving.platform.world.advance(GRANT_TTL_MS + later);
        assert_eq!(moving.terminable(), accepted);
        moving.give(TERMINATE);
        assert_eq!(moving.found().phase, SessionPhase::Ended);
        assert_eq!(moving.denied(), accepted);
        assert!(!moving.terminable(), "once");
        // Somebody took a token of it before hearing of that.
        moving.give(moving.opened(moving.second, 1));
        let phase = if accepted { SessionPhase::Terminated } else { SessionPhase::Started };
        assert_eq!(moving.found().phase, phase);
    }
}

#[test]
fn what_lingers_is_forgotten_when_its_tokens_are_spent() {
    let mut moving = Moving::new();
    moving.give(moving.closed(moving.first, 1));
    let lingering = |moving: &Moving| moving.platform.state().sessions().lingering();
    assert_eq!(lingering(&moving), 1);
    moving.platform.world.advance(GRANT_TTL_MS + CONCLUDE_AFTER_MS + 1);
    // Whatever comes next, of whichever session.
    let other = moving.platform.acme.session;
    moving.platform.world.session(other, SessionCommand::Conclude);
    assert_eq!(lingering(&moving), 0);
}
