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

fn attached() -> EntrySessions {
    let mut sessions = EntrySessions::default();
    sessions.attach(ONE).unwrap();
    sessions
}

/// The reason when the last flow ended at second 10 and the client left `after` seconds later.
fn reason_after(flow: EndReason, after: u64, departure: Departure) -> EndReason {
    let mut sessions = attached();
    sessions.flow_ended(at(10), ONE, flow, 0, 0);
    sessions.detach(at(10 + after), ONE, departure).unwrap().reason
}

#[test]
fn a_client_that_leaves_cleanly_closed_the_session() {
    let ended = attached().detach(at(1), ONE, Departure::Clean).unwrap();
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
    let ended = sessions.detach(at(1), ONE, Departure::Lost).unwrap();
    assert_eq!(ended.reason, EndReason::Terminated);
}

#[test]
fn bytes_of_all_flows_and_connections_are_summed() {
    let mut sessions = attached();
    sessions.attach(ONE).unwrap();
    sessions.flow_ended(at(1), ONE, EndReason::ClientClosed, 10, 1);
    assert_eq!(sessions.detach(at(2), ONE, Departure::Clean), None);
    sessions.flow_ended(at(3), ONE, EndReason::ClientClosed, 20, 2);
    let ended = sessions.detach(at(4), ONE, Departure::Clean).unwrap();
    assert_eq!((ended.bytes_up, ended.bytes_down), (30, 3));
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
    assert_eq!(sessions.wait_no_more(at(1), ONE), None, "its new connection lives");
    let ended = sessions.detach(at(60), ONE, Departure::Clean).unwrap();
    assert_eq!((ended.reason, ended.bytes_up), (EndReason::ClientClosed, 10));
    assert!(sessions.is_empty());
}

#[test]
fn who_does_not_come_back_is_lost_and_who_left_meanwhile_closed_it() {
    let mut sessions = attached();
    assert!(sessions.wait(ONE));
    assert_eq!(sessions.wait_no_more(at(60), ONE).unwrap().reason, EndReason::ClientLost);
    let mut sessions = attached();
    assert!(sessions.wait(ONE));
    sessions.attach(ONE).unwrap();
    assert_eq!(sessions.detach(at(1), ONE, Departure::Clean), None, "its channels still end");
    assert_eq!(sessions.wait_no_more(at(2), ONE).unwrap().reason, EndReason::ClientClosed);
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
fn an_entry_reports_a_start_for_each_life_of_a_session() {
    let session = SessionId::from_u128(1);
    let mut sessions = EntrySessions::default();
    assert!(!sessions.flow_reached(clock(1), session), "it is not here");
    for life in 0..2 {
        sessions.attach(session).unwrap();
        assert_eq!(sessions.tell_start(session), None, "nothing has started");
        assert!(sessions.flow_reached(clock(life), session), "life {life}");
        assert_eq!(sessions.tell_start(session), Some(clock(life)));
        assert!(!sessions.flow_reached(clock(9), session), "its second flow starts nothing");
        assert_eq!(sessions.tell_start(session), None, "it was told");
        let ended = sessions.detach(at(9), session, Departure::Clean).unwrap();
        assert_eq!(ended.untold, None);
    }
}

#[test]
fn a_start_that_nobody_could_tell_is_told_with_the_end() {
    let mut sessions = attached();
    assert!(sessions.flow_reached(clock(3), ONE));
    assert!(sessions.flow_reached(clock(4), ONE), "whoever comes next may tell it as well");
    let ended = sessions.detach(at(9), ONE, Departure::Clean).unwrap();
    assert_eq!(ended.untold, Some(clock(3)), "when it was");
    assert_eq!(sessions.tell_start(ONE), None, "whoever waited has nothing to tell any more");
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
