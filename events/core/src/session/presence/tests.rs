#![allow(clippy::unwrap_used)]

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use proptest::prelude::*;
use rap_proto::{
    NodeId,
    observation::{EndReason, Vantage},
    token::CLOCK_SKEW_MS,
};

use super::{
    super::{
        Grant, MAX_WORDS, Phase, Seen, Session, SessionCommand, SessionEnded, SessionEvent,
        SessionRefreshed, SessionRejection, SessionStarted, SessionTerminated, TerminationCause,
    },
    MAX_ENTRIES_HEARD,
};
use crate::{
    Aggregate,
    tests::{
        given::{Given, given},
        samples::{
            EGRESS, ENTRY, MINUTE_MS, after, basis, grant, session_authorized, session_requested,
        },
    },
};

const OTHER: NodeId = NodeId::from_u128(70);
/// An entry for one token and an egress for another, or for the same.
const BOTH: NodeId = NodeId::from_u128(71);

/// By the clock of somebody who is as wrong as he may be.
fn seen(node: NodeId, sequence: u64) -> Seen {
    let wrong = if node == OTHER { -4_000 } else { 4_000 };
    Seen { node, sequence, at: after(MINUTE_MS + wrong) }
}

fn started(node: NodeId, sequence: u64, from: Vantage) -> SessionEvent {
    SessionStarted { seen: seen(node, sequence), from: Some(from) }.into()
}

fn opened(node: NodeId, sequence: u64) -> SessionEvent {
    started(node, sequence, Vantage::Entry)
}

fn reached(node: NodeId, sequence: u64) -> SessionEvent {
    started(node, sequence, Vantage::Egress)
}

fn closed(node: NodeId, sequence: u64) -> SessionEvent {
    ended(node, sequence, EndReason::ClientLost)
}

/// The entry was stopped.
fn left(node: NodeId, sequence: u64) -> SessionEvent {
    ended(node, sequence, EndReason::NodeLeft)
}

fn ended(node: NodeId, sequence: u64, reason: EndReason) -> SessionEvent {
    let seen = Some(seen(node, sequence));
    SessionEnded { reason, bytes_up: 1, bytes_down: 2, seen }.into()
}

fn concluded() -> SessionEvent {
    let reason = EndReason::ClientLost;
    SessionEnded { reason, bytes_up: 0, bytes_down: 0, seen: None }.into()
}

fn terminated() -> SessionEvent {
    SessionTerminated { cause: TerminationCause::Requested }.into()
}

fn command(event: &SessionEvent) -> SessionCommand {
    match event {
        SessionEvent::Started(SessionStarted { seen, from }) => {
            SessionCommand::RecordStarted { seen: *seen, from: *from }
        }
        SessionEvent::Ended(SessionEnded { reason, bytes_up, bytes_down, seen: Some(seen) }) => {
            let (reason, bytes_up, bytes_down) = (*reason, *bytes_up, *bytes_down);
            SessionCommand::RecordEnded { seen: *seen, reason, bytes_up, bytes_down }
        }
        other => panic!("no node says {other:?}"),
    }
}

fn refreshed(entries: impl IntoIterator<Item = NodeId>) -> SessionEvent {
    let egresses = [(EGRESS, 1), (BOTH, 1)].into();
    let entries = entries.into_iter().collect();
    let grant = Grant { entries, egresses, ..grant() };
    SessionRefreshed { grant, basis: basis() }.into()
}

/// A session of two entries, of an egress, and of a node that is both.
fn session(events: &[SessionEvent]) -> Given<Session> {
    let granted =
        [session_requested().into(), session_authorized().into(), refreshed([ENTRY, OTHER, BOTH])];
    given([&granted[..], events].concat()).at(after(MINUTE_MS))
}

/// Records each of the reports, as they come, and returns what is so afterwards.
fn told(events: &[SessionEvent]) -> Session {
    let mut state = session(&[]).state();
    for event in events {
        let told = state.decide(command(event), after(MINUTE_MS)).unwrap();
        told.iter().for_each(|event| state.evolve(event));
    }
    state
}

/// The phase after these events, not terminated and terminated.
fn phases(events: &[SessionEvent]) -> (Phase, Phase) {
    let ended = [events, &[terminated()]].concat();
    (session(events).state().phase, session(&ended).state().phase)
}

#[test]
fn the_table_of_who_counts_holds() {
    let (lives, over) = ((Phase::Alive, Phase::Terminated), (Phase::Ended, Phase::Ended));
    let rows: &[(&str, &[SessionEvent], (Phase, Phase))] = &[
        ("nothing was said", &[], lives),
        ("an egress alone speaks", &[reached(EGRESS, 1)], lives),
        ("one entry", &[opened(ENTRY, 1)], lives),
        ("it ended there", &[opened(ENTRY, 1), closed(ENTRY, 2)], over),
        ("it was never opened there", &[closed(ENTRY, 2)], over),
        ("again there", &[opened(ENTRY, 1), closed(ENTRY, 2), opened(ENTRY, 3)], lives),
        ("a late egress", &[opened(ENTRY, 1), closed(ENTRY, 2), reached(EGRESS, 9)], over),
        ("it moves on", &[opened(ENTRY, 7), opened(OTHER, 1), closed(ENTRY, 8)], lives),
        ("told late", &[opened(OTHER, 1), opened(ENTRY, 7), closed(ENTRY, 8)], lives),
        (
            "both ended",
            &[opened(ENTRY, 7), opened(OTHER, 1), closed(ENTRY, 8), closed(OTHER, 2)],
            over,
        ),
        ("the first died", &[opened(ENTRY, 7), opened(OTHER, 1), closed(OTHER, 2)], lives),
        ("time", &[opened(ENTRY, 7), opened(OTHER, 1), closed(OTHER, 2), concluded()], over),
        ("late, after that", &[opened(ENTRY, 7), concluded(), closed(ENTRY, 8)], over),
        ("an egress after that", &[concluded(), reached(EGRESS, 1)], over),
        ("newer than that", &[opened(ENTRY, 7), concluded(), opened(ENTRY, 8)], lives),
    ];
    for (row, events, expected) in rows {
        assert_eq!(phases(events), *expected, "{row}");
    }
}

#[test]
fn a_session_whose_entry_left_can_be_had_elsewhere_until_its_tokens_count_no_more() {
    let of = session_requested();
    let (user, client_key) = (of.user, of.client_key);
    let refresh = || SessionCommand::Refresh { user, client_key, grant: grant(), basis: basis() };
    let refreshed = SessionRefreshed { grant: grant(), basis: basis() };
    let over = SessionRejection::Over;
    let gone = [opened(ENTRY, 1), left(ENTRY, 2)];
    let state = session(&gone).when(refresh()).then([refreshed.clone().into()]);
    assert_eq!(
        state.phase,
        Phase::Alive,
        "its place is taken until it comes back, or time has run out"
    );
    let waits = [&gone[..], &[refreshed.clone().into()]].concat();
    assert_eq!(session(&[&waits[..], &[closed(OTHER, 1)]].concat()).state().phase, Phase::Alive);
    // That the entry left counts once.
    let closed_there = [&waits[..], &[opened(OTHER, 1), closed(OTHER, 2)]].concat();
    session(&closed_there).when(refresh()).rejected(over);
    session(&[&waits[..], &[concluded()]].concat()).when(refresh()).rejected(over);
    let again = [&gone[..], &[refreshed.clone().into(), opened(OTHER, 1)]].concat();
    let state = session(&again).state();
    assert_eq!(state.phase, Phase::Alive);
    assert_eq!(state.presence.lives_at().collect::<Vec<_>>(), [OTHER]);
    // Whoever was lost, or closed it, has nothing to come back to.
    session(&[opened(ENTRY, 1), closed(ENTRY, 2)]).when(refresh()).rejected(over);
    session(&[left(ENTRY, 1), opened(ENTRY, 2), closed(ENTRY, 3)]).when(refresh()).rejected(over);
    // Words come in any order.
    session(&[left(ENTRY, 3), closed(ENTRY, 2)]).when(refresh()).then([refreshed.clone().into()]);
    for end in [terminated(), concluded()] {
        session(&[&gone[..], &[end]].concat()).when(refresh()).rejected(over);
    }
    let skew = Duration::from_millis(CLOCK_SKEW_MS);
    let last = refreshed.grant.expires_at + skew;
    let at = |now| {
        let grant = Grant {
            connect_by: now + Duration::from_secs(1),
            expires_at: now + Duration::from_secs(2),
            ..grant()
        };
        session(&gone)
            .state()
            .decide(SessionCommand::Refresh { user, client_key, grant, basis: basis() }, now)
    };
    assert!(at(last).is_ok());
    assert_eq!(at(last + Duration::from_millis(1)), Err(over));
}

#[test]
fn a_session_that_moved_to_an_entry_whose_clock_is_behind_lives_there() {
    // The first entry was cut off, and tells of its loss when the second has long been in use.
    let state = told(&[opened(ENTRY, 10), opened(OTHER, 1), closed(ENTRY, 11)]);
    assert_eq!(state.phase, Phase::Alive);
    assert_eq!(state.presence.lives_at().collect::<Vec<_>>(), [OTHER]);
    // It told at once, and the second entry's clock is behind.
    let state = told(&[opened(ENTRY, 10), closed(ENTRY, 11), opened(OTHER, 1)]);
    assert_eq!(state.phase, Phase::Alive);
    assert_eq!(told(&[opened(ENTRY, 10), closed(ENTRY, 11)]).phase, Phase::Ended);
}

#[test]
fn a_start_that_an_egress_tells_late_brings_no_session_back() {
    // Nobody had told of the start: the log has it, and the session is over all the same.
    let late = || command(&reached(EGRESS, 9));
    let state = session(&[closed(ENTRY, 2)]).when(late()).then([reached(EGRESS, 9)]);
    assert!(state.presence.is_reached() && state.phase == Phase::Ended);
    session(&[closed(ENTRY, 2), reached(EGRESS, 9)]).when(late()).nothing();
    session(&[opened(ENTRY, 1), closed(ENTRY, 2)]).when(late()).nothing();
}

#[test]
fn a_node_that_is_entry_and_egress_counts_as_what_it_was() {
    // The egress of a session that came over another entry.
    let state = told(&[opened(ENTRY, 1), reached(BOTH, 1), closed(ENTRY, 2)]);
    assert_eq!(state.phase, Phase::Ended);
    // Its entry, and perhaps its egress as well.
    let own = [reached(BOTH, 1), opened(BOTH, 2)];
    assert_eq!(told(&own).phase, Phase::Alive);
    assert_eq!(told(&[&own[..], &[closed(BOTH, 3)]].concat()).phase, Phase::Ended);
    // A node of the release before does not say which: where it may be an entry, it is one.
    let silent = SessionStarted { seen: seen(BOTH, 1), from: None };
    let state = session(&[opened(ENTRY, 1), closed(ENTRY, 2), silent.into()]).state();
    assert_eq!(state.phase, Phase::Alive);
}

#[test]
fn the_words_of_so_many_entries_are_remembered() {
    let entry = |n: usize| NodeId::from_u128(1_000 + n as u128);
    let all: Vec<NodeId> = (0..=MAX_ENTRIES_HEARD).map(entry).collect();
    let (last, first) = all.split_last().unwrap();
    let mut events: Vec<SessionEvent> =
        all.chunks(16).map(|some| refreshed(some.iter().copied())).collect();
    events.extend(first.iter().map(|node| opened(*node, 1)));
    for word in [opened(*last, 1), closed(*last, 1)] {
        session(&events).when(command(&word)).rejected(SessionRejection::TooManyEntries);
    }
    // Those that it left are forgotten, the one that was heard longest ago first.
    events.extend([closed(entry(3), 2), closed(entry(1), 2)]);
    let state = session(&events).when(command(&opened(*last, 1))).then([opened(*last, 1)]);
    let lives: BTreeSet<NodeId> = state.presence.lives_at().collect();
    assert!(lives.len() == MAX_ENTRIES_HEARD - 1 && lives.contains(last));
    events.push(opened(*last, 1));
    session(&events).when(command(&closed(entry(1), 2))).nothing();
    let forgotten = closed(entry(3), 2);
    let state = session(&events).when(command(&forgotten)).then([forgotten]);
    assert!(!state.presence.lives_at().any(|node| node == entry(3)));
}

#[test]
fn so_many_words_of_an_entry_are_recorded_and_then_one_end() {
    let most = u64::from(MAX_WORDS);
    let too_many = SessionRejection::TooManyWords;
    let mut events: Vec<SessionEvent> = (1..most).map(|number| opened(ENTRY, number)).collect();
    session(&events).when(command(&opened(ENTRY, most))).then([opened(ENTRY, most)]);
    events.push(opened(ENTRY, most));
    session(&events).when(command(&opened(ENTRY, most))).nothing();
    session(&events).when(command(&opened(ENTRY, most + 1))).rejected(too_many);
    let end = closed(ENTRY, most + 2);
    let state = session(&events).when(command(&end)).then([end.clone()]);
    assert_eq!(state.phase, Phase::Ended);
    events.push(end);
    for word in [opened(ENTRY, most + 3), closed(ENTRY, most + 3)] {
        session(&events).when(command(&word)).rejected(too_many);
    }
    // Each entry has its own, and what is of no entry does not count.
    session(&events).when(command(&opened(OTHER, 1))).then([opened(OTHER, 1)]);
    events.extend([concluded(), reached(EGRESS, 1)]);
    assert_eq!(session(&events).state().words, BTreeMap::from([(ENTRY, MAX_WORDS + 1)]));
}

#[test]
fn an_entry_that_is_forgotten_does_not_get_its_words_again() {
    let entry = |n: usize| NodeId::from_u128(1_000 + n as u128);
    let others: Vec<NodeId> = (0..MAX_ENTRIES_HEARD).map(entry).collect();
    let mut events: Vec<SessionEvent> =
        others.chunks(16).map(|some| refreshed(some.iter().copied())).collect();
    let most = u64::from(MAX_WORDS);
    events.extend((1..=most).map(|number| closed(ENTRY, number)));
    events.extend(others[1..].iter().map(|node| opened(*node, 1)));
    session(&events).when(command(&closed(ENTRY, 1))).nothing();
    // One more was heard: of the first entry no number is known any more.
    events.extend([opened(others[0], 1), closed(others[0], 2)]);
    let again = closed(ENTRY, 1);
    let state = session(&events).when(command(&again)).then([again]);
    assert_eq!(state.words[&ENTRY], MAX_WORDS + 1);
    for word in [opened(ENTRY, most + 1), closed(ENTRY, most + 1)] {
        let told = state.decide(command(&word), after(MINUTE_MS));
        assert_eq!(told, Err(SessionRejection::TooManyWords));
    }
}

/// What a node says: of which node, whether it is a start, and how wrong its clock is.
type Word = (usize, bool, i64);

/// Words in the order in which they are said, and places in any order.
fn words() -> impl Strategy<Value = (Vec<Word>, Vec<usize>)> {
    let word = (0..3_usize, any::<bool>(), -100_000..100_000_i64);
    prop::collection::vec(word, 1..16).prop_flat_map(|words| {
        let places: Vec<usize> = (0..words.len()).collect();
        (Just(words), Just(places).prop_shuffle())
    })
}

fn reports(words: &[Word]) -> Vec<SessionEvent> {
    let numbered = (1..).zip(words);
    let report = |(number, (node, starts, wrong)): (u64, &Word)| {
        let node = [ENTRY, OTHER, EGRESS][*node];
        let seen = Seen { node, sequence: number, at: after(MINUTE_MS + wrong) };
        if node == EGRESS {
            return SessionStarted { seen, from: Some(Vantage::Egress) }.into();
        }
        if *starts {
            return SessionStarted { seen, from: Some(Vantage::Entry) }.into();
        }
        let (reason, seen) = (EndReason::ClientClosed, Some(seen));
        SessionEnded { reason, bytes_up: 1, bytes_down: 2, seen }.into()
    };
    numbered.map(report).collect()
}

proptest! {
    #[test]
    fn reports_of_two_entries_and_an_egress_end_in_the_same_state_in_any_order(
        (words, places) in words(),
    ) {
        let reports = reports(&words);
        let in_order = told(&reports);
        let shuffled: Vec<_> = places.iter().map(|place| reports[*place].clone()).collect();
        let state = told(&shuffled);
        prop_assert_eq!(state.phase, in_order.phase);
        prop_assert_eq!(state.presence.is_reached(), in_order.presence.is_reached());
        let lives = |state: &Session| state.presence.lives_at().collect::<BTreeSet<_>>();
        prop_assert_eq!(lives(&state), lives(&in_order));
        // What each entry said last is all that counts.
        let last = |node: usize| words.iter().rev().find(|word| word.0 == node).map(|word| word.1);
        let expected = match (last(0), last(1)) {
            (Some(true), _) | (_, Some(true)) | (None, None) => Phase::Alive,
            _ => Phase::Ended,
        };
        prop_assert_eq!(state.phase, expected);
    }
}
