#![allow(clippy::unwrap_used)]

use super::*;

const ONE: SessionId = SessionId::from_u128(1);
const STREAM: ChannelKind = ChannelKind::Stream;

fn at(seconds: u64) -> Moment {
    Moment::from_micros(seconds * 1_000_000)
}

fn clock(seconds: u64) -> Timestamp {
    Timestamp::from_unix_millis(seconds as i64 * 1_000)
}

/// The second of both clocks.
fn both(seconds: u64) -> (Moment, Timestamp) {
    (at(seconds), clock(seconds))
}

fn start_of(session: SessionId) -> Observation {
    Observation::SessionStarted { session, from: Some(Vantage::Entry) }
}

/// All that is told up to this word.
fn told(sessions: &mut EntrySessions, word: Word) -> Vec<(Timestamp, Observation)> {
    std::iter::from_fn(|| sessions.next_word(word)).collect()
}

/// The bytes of a session that ended, of which nothing else was to be told.
fn bytes(sessions: &mut EntrySessions, ended: Ended) -> (u64, u64) {
    match &told(sessions, ended.word)[..] {
        [(_, Observation::SessionEnded { bytes_up, bytes_down, .. })] => (*bytes_up, *bytes_down),
        other => panic!("an end alone: {other:?}"),
    }
}

fn attached() -> EntrySessions {
    let mut sessions = EntrySessions::default();
    sessions.attach(ONE).unwrap();
    sessions
}

/// The reason when the last flow ended at second 10 and the client left `after` seconds later.
fn reason_after(flow: EndReason, after: u64, departure: Departure) -> EndReason {
    let mut sessions = attached();
    sessions.flow_ended(at(10), ONE, flow, 0, 0);
    sessions.detach(both(10 + after), ONE, departure).unwrap().reason
}

#[test]
fn a_client_that_leaves_cleanly_closed_the_session() {
    let ended = attached().detach(both(1), ONE, Departure::Clean).unwrap();
    assert_eq!(ended.reason, EndReason::ClientClosed);
}

#[test]
fn a_client_that_vanishes_is_lost_whatever_its_flows_did() {
    assert_eq!(reason_after(EndReason::TargetClosed, 0, Departure::Lost), EndReason::ClientLost);
}

#[test]
fn a_client_that_leaves_because_its_last_flow_ended_gives_that_reason() {
    for reason in [EndReason::TargetClosed, EndReason::WorkerDied, EndReason::PathLost] {
        assert_eq!(reason_after(reason, 1, Departure::Clean), reason);
        assert_eq!(reason_after(reason, 60, Departure::Clean), EndReason::ClientClosed);
    }
}

#[test]
fn an_authority_decision_stands_before_everything_and_the_first_one_stands() {
    let mut sessions = attached();
    sessions.flow_ended(at(1), ONE, EndReason::WorkerDied, 0, 0);
    sessions.decide(ONE, EndReason::Terminated);
    sessions.decide(ONE, EndReason::NodeLeft);
    let ended = sessions.detach(both(1), ONE, Departure::Lost).unwrap();
    assert_eq!(ended.reason, EndReason::Terminated);
}

#[test]
fn bytes_of_all_flows_and_connections_are_summed() {
    let mut sessions = attached();
    sessions.attach(ONE).unwrap();
    sessions.flow_ended(at(1), ONE, EndReason::ClientClosed, 10, 1);
    assert_eq!(sessions.detach(both(2), ONE, Departure::Clean), None);
    sessions.flow_ended(at(3), ONE, EndReason::ClientClosed, 20, 2);
    let ended = sessions.detach(both(4), ONE, Departure::Clean).unwrap();
    assert_eq!(bytes(&mut sessions, ended), (30, 3));
    assert!(sessions.is_empty());
}

#[test]
fn an_absence_and_a_return_are_one_session() {
    let mut sessions = attached();
    assert!(sessions.wait(ONE));
    assert_eq!((sessions.len(), sessions.absent()), (1, 1));
    sessions.attach(ONE).unwrap();
    assert_eq!(sessions.absent(), 0, "it is back");
    sessions.flow_ended(at(1), ONE, EndReason::ClientClosed, 10, 1);
    assert_eq!(sessions.wait_no_more(both(1), ONE), None, "its new connection lives");
    let ended = sessions.detach(both(60), ONE, Departure::Clean).unwrap();
    assert_eq!(ended.reason, EndReason::ClientClosed);
    assert_eq!(bytes(&mut sessions, ended), (10, 1));
    assert!(sessions.is_empty());
}

#[test]
fn who_does_not_come_back_is_lost_and_who_left_meanwhile_closed_it() {
    let mut sessions = attached();
    assert!(sessions.wait(ONE));
    assert_eq!(sessions.wait_no_more(both(60), ONE).unwrap().reason, EndReason::ClientLost);
    let mut sessions = attached();
    assert!(sessions.wait(ONE));
    sessions.attach(ONE).unwrap();
    assert_eq!(sessions.detach(both(1), ONE, Departure::Clean), None, "its channels still end");
    assert_eq!(sessions.wait_no_more(both(2), ONE).unwrap().reason, EndReason::ClientClosed);
}

#[test]
fn absences_of_one_session_are_limited_and_take_no_place_of_a_connection() {
    let mut sessions = attached();
    for _ in 0..MAX_ABSENT_PER_SESSION {
        assert!(sessions.wait(ONE));
        sessions.attach(ONE).unwrap();
    }
    assert!(!sessions.wait(ONE), "that one is gone");
    for _ in 1..MAX_CONNECTIONS_PER_SESSION {
        sessions.attach(ONE).unwrap();
    }
    assert_eq!(sessions.attach(ONE), Err(RefusalCode::LimitReached));
    assert!(!sessions.wait(SessionId::from_u128(2)), "nobody knows it");
}

#[test]
fn connections_of_one_session_are_limited() {
    let mut sessions = EntrySessions::default();
    for _ in 0..MAX_CONNECTIONS_PER_SESSION {
        sessions.attach(ONE).unwrap();
    }
    assert_eq!(sessions.attach(ONE), Err(RefusalCode::LimitReached));
}

#[test]
fn sessions_of_one_entry_are_limited() {
    let mut sessions = EntrySessions::default();
    for number in 0..MAX_SESSIONS as u128 {
        sessions.attach(SessionId::from_u128(number)).unwrap();
    }
    let one_more = SessionId::from_u128(u128::MAX);
    assert_eq!(sessions.attach(one_more), Err(RefusalCode::LimitReached));
    assert_eq!(sessions.len(), MAX_SESSIONS);
}

#[test]
fn channels_are_limited_by_the_token_and_their_places_come_back() {
    let mut sessions = attached();
    assert_eq!(sessions.open_channel(ONE, STREAM, 0), Err(RefusalCode::LimitReached));
    sessions.open_channel(ONE, STREAM, 1).unwrap();
    assert_eq!(sessions.open_channel(ONE, STREAM, 1), Err(RefusalCode::LimitReached));
    sessions.close_channel(ONE, STREAM);
    sessions.open_channel(ONE, STREAM, 1).unwrap();
}

#[test]
fn a_session_starts_once_with_the_first_flow_that_reaches_its_resource() {
    let mut sessions = EgressSessions::default();
    sessions.open_flow(at(0), ONE, STREAM, 2).unwrap();
    sessions.close_flow(at(0), ONE, STREAM);
    sessions.open_flow(at(1), ONE, STREAM, 2).unwrap();
    sessions.open_flow(at(1), ONE, STREAM, 2).unwrap();
    assert_eq!(sessions.open_flow(at(1), ONE, STREAM, 2), Err(RefusalCode::LimitReached));
    assert!(!sessions.has_started(ONE));
    assert!(sessions.flow_reached(ONE));
    assert!(sessions.has_started(ONE));
    assert!(!sessions.flow_reached(ONE));
    sessions.close_flow(at(2), ONE, STREAM);
    sessions.close_flow(at(2), ONE, STREAM);
    assert_eq!(sessions.active(), 0);
    sessions.open_flow(at(600), ONE, STREAM, 2).unwrap();
    assert!(!sessions.flow_reached(ONE), "reported already");
}

#[test]
fn an_entry_tells_a_start_and_an_end_for_each_life_of_a_session() {
    let mut sessions = EntrySessions::default();
    assert_eq!(sessions.flow_reached(clock(1), ONE), None, "it is not here");
    for life in 0..2 {
        sessions.attach(ONE).unwrap();
        let start = sessions.flow_reached(clock(life), ONE).unwrap();
        assert_eq!(told(&mut sessions, start), [(clock(life), start_of(ONE))]);
        assert_eq!(sessions.flow_reached(clock(9), ONE), None, "its second flow starts nothing");
        let ended = sessions.detach(both(9), ONE, Departure::Clean).unwrap();
        assert_eq!(bytes(&mut sessions, ended), (0, 0));
    }
}

#[test]
fn a_start_that_nobody_could_tell_is_told_with_the_end() {
    let mut sessions = attached();
    let start = sessions.flow_reached(clock(3), ONE).unwrap();
    let again = sessions.flow_reached(clock(4), ONE);
    assert_eq!(again, Some(start), "whoever comes next may tell it as well");
    let ended = sessions.detach(both(9), ONE, Departure::Clean).unwrap();
    let [first, second] = &told(&mut sessions, ended.word)[..] else { panic!("two words") };
    assert_eq!(*first, (clock(3), start_of(ONE)), "when it was");
    assert!(matches!(second, (_, Observation::SessionEnded { .. })), "{second:?}");
    assert!(sessions.is_told(start), "whoever waited has nothing to tell any more");
}

#[test]
fn what_happens_later_is_told_later_whoever_tells_it() {
    let mut sessions = attached();
    let first = sessions.flow_reached(clock(1), ONE).unwrap();
    let ended = sessions.detach(both(2), ONE, Departure::Clean).unwrap();
    sessions.attach(ONE).unwrap();
    let second = sessions.flow_reached(clock(3), ONE).unwrap();
    // Whoever waited for the first start has room first, when the session lives again.
    assert_eq!(told(&mut sessions, first), [(clock(1), start_of(ONE))]);
    let [end, start] = &told(&mut sessions, second)[..] else { panic!("two words") };
    assert_eq!((end.0, start), (clock(2), &(clock(3), start_of(ONE))));
    assert_eq!(told(&mut sessions, ended.word), []);
}

#[test]
fn while_too_much_is_to_be_told_no_session_begins() {
    let two = SessionId::from_u128(2);
    let mut sessions = attached();
    let mut last = None;
    for life in 0..MAX_UNTOLD as u64 {
        sessions.attach(two).unwrap();
        last = sessions.detach(both(life), two, Departure::Clean);
    }
    assert_eq!(sessions.attach(two), Err(RefusalCode::LimitReached));
    sessions.attach(ONE).unwrap();
    assert!(sessions.flow_reached(clock(1), ONE).is_some(), "what is there goes on");
    told(&mut sessions, last.unwrap().word);
    sessions.attach(two).unwrap();
}

#[test]
fn an_egress_forgets_idle_sessions_before_it_refuses_new_ones() {
    let mut sessions = EgressSessions::default();
    for number in 0..MAX_SESSIONS as u128 {
        let session = SessionId::from_u128(number);
        sessions.open_flow(at(number as u64), session, STREAM, 1).unwrap();
        sessions.flow_reached(session);
    }
    let newcomer = SessionId::from_u128(u128::MAX);
    let now = at(MAX_SESSIONS as u64);
    let refused = sessions.open_flow(now, newcomer, STREAM, 1);
    assert_eq!(refused, Err(RefusalCode::LimitReached));
    sessions.close_flow(now, SessionId::from_u128(7), STREAM);
    sessions.open_flow(now, newcomer, STREAM, 1).unwrap();
    assert!(!sessions.sessions.contains_key(&SessionId::from_u128(7)));
}
