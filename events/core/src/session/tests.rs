#![allow(clippy::unwrap_used)]

use rap_proto::{
    NodeId, PolicyId, RefusalCode, Timestamp, UserId,
    observation::{EndReason, Vantage},
    token::CLOCK_SKEW_MS,
};

use super::*;
use crate::{
    Aggregate as _,
    tests::{
        given::{Given, NOW, given},
        samples::{
            ACME, ALICE, BOB, EGRESS, ENTRY, MINUTE_MS, SSH, after, basis, grant, key, seen,
            session_authorized, session_requested,
        },
    },
};

const STRANGER: NodeId = NodeId::from_u128(99);

fn request(outcome: Outcome) -> SessionCommand {
    let SessionRequested { organization, user, asked, resource, client_key } = session_requested();
    SessionCommand::Request { organization, user, asked, resource, client_key, outcome }
}

fn authorize(grant: Grant) -> SessionCommand {
    let SessionAuthorized { resource, kind, attachment, basis, .. } = session_authorized();
    request(Outcome::Authorized { resource, kind, attachment, grant, basis })
}

fn deny(reason: &str) -> SessionCommand {
    let (code, reason) = (RefusalCode::AccessDenied, reason.to_owned());
    request(Outcome::Denied { code, reason, basis: Basis::default() })
}

fn denied() -> SessionEvent {
    let (code, reason) = (RefusalCode::AccessDenied, "no policy".to_owned());
    SessionDenied { code, reason, basis: Basis::default() }.into()
}

fn started(sequence: u64) -> SessionEvent {
    SessionStarted { seen: seen(ENTRY, sequence), from: Some(Vantage::Entry) }.into()
}

fn ended(sequence: u64) -> SessionEvent {
    SessionEnded {
        reason: EndReason::ClientClosed,
        bytes_up: 1,
        bytes_down: 2,
        seen: Some(seen(ENTRY, sequence)),
    }
    .into()
}

fn concluded(reason: EndReason) -> SessionEvent {
    SessionEnded { reason, bytes_up: 0, bytes_down: 0, seen: None }.into()
}

fn terminated() -> SessionEvent {
    SessionTerminated { cause: TerminationCause::AccessWithdrawn }.into()
}

fn terminate() -> SessionCommand {
    SessionCommand::Terminate { cause: TerminationCause::AccessWithdrawn }
}

fn start(sequence: u64) -> SessionCommand {
    SessionCommand::RecordStarted { seen: seen(ENTRY, sequence), from: Some(Vantage::Entry) }
}

fn end(node: NodeId, sequence: u64) -> SessionCommand {
    SessionCommand::RecordEnded {
        seen: seen(node, sequence),
        reason: EndReason::ClientClosed,
        bytes_up: 1,
        bytes_down: 2,
    }
}

fn refresh(user: UserId, seed: u8, grant: Grant) -> SessionCommand {
    SessionCommand::Refresh { user, client_key: key(seed), grant, basis: basis() }
}

/// An authorized session and what happened to it since, in the minute in which nodes saw it.
fn session(events: &[SessionEvent]) -> Given<Session> {
    let authorized = [session_requested().into(), session_authorized().into()];
    given([&authorized[..], events].concat()).at(after(MINUTE_MS))
}

fn past_expiry(millis: u64) -> Timestamp {
    after(10 * MINUTE_MS + i64::try_from(millis).unwrap())
}

#[test]
fn a_request_is_authorized_or_denied_once() {
    let authorized = [session_requested().into(), session_authorized().into()];
    let state = given::<Session>([]).when(authorize(grant())).then(authorized);
    assert_eq!((state.phase, state.organization()), (Phase::Alive, Some(ACME)));
    assert_eq!((state.entries, state.egresses), ([ENTRY].into(), [EGRESS].into()));
    assert_eq!((state.opened_at, state.expires_at), (NOW, after(10 * MINUTE_MS)));
    let denial = [session_requested().into(), denied()];
    let state = given::<Session>([]).when(deny("no policy")).then(denial.clone());
    assert_eq!(state.phase, Phase::Denied);
    for command in [authorize(grant()), deny("no policy")] {
        session(&[]).when(command.clone()).rejected(SessionRejection::AlreadyExists);
        given::<Session>(denial.clone()).when(command).rejected(SessionRejection::AlreadyExists);
    }
    given::<Session>([]).when(deny("a\nb")).rejected(SessionRejection::TextNotPlain);
}

#[test]
fn what_was_asked_is_recorded_also_when_there_is_no_such_resource() {
    let nonsense = |asked: &str| SessionCommand::Request {
        organization: ACME,
        user: ALICE,
        asked: asked.to_owned(),
        resource: None,
        client_key: key(3),
        outcome: Outcome::Denied {
            code: RefusalCode::AccessDenied,
            reason: "no policy".to_owned(),
            basis: Basis::default(),
        },
    };
    let requested =
        SessionRequested { asked: "payroll".to_owned(), resource: None, ..session_requested() };
    given::<Session>([]).when(nonsense("payroll")).then([requested.into(), denied()]);
    given::<Session>([]).when(nonsense("pay\u{1b}")).rejected(SessionRejection::TextNotPlain);
    assert_eq!(session_requested().resource, Some(SSH));
}

#[test]
fn a_grant_keeps_the_limits() {
    let nodes = |count: u128| (0..count).map(NodeId::from_u128);
    let policies = (0..=MAX_GRANT_POLICIES as u128).map(PolicyId::from_u128).collect();
    for wrong in [
        Grant { entries: [].into(), ..grant() },
        Grant { egresses: [].into(), ..grant() },
        Grant { entries: nodes(17).collect(), ..grant() },
        Grant { egresses: nodes(17).map(|node| (node, 1)).collect(), ..grant() },
        Grant { policies, ..grant() },
    ] {
        given::<Session>([]).when(authorize(wrong.clone())).rejected(SessionRejection::GrantSize);
        session(&[]).when(refresh(ALICE, 3, wrong)).rejected(SessionRejection::GrantSize);
    }
    for wrong in [
        Grant { connect_by: NOW, ..grant() },
        Grant { connect_by: after(2 * MINUTE_MS + 1), ..grant() },
        Grant { expires_at: after(10 * MINUTE_MS + 1), ..grant() },
        Grant { expires_at: after(MINUTE_MS), ..grant() },
    ] {
        given::<Session>([]).when(authorize(wrong)).rejected(SessionRejection::GrantLifetime);
    }
}

#[test]
fn only_the_holder_of_a_living_session_refreshes_it() {
    let refreshed: SessionEvent = SessionRefreshed { grant: grant(), basis: basis() }.into();
    session(&[]).when(refresh(ALICE, 3, grant())).then([refreshed.clone()]);
    session(&[started(1)]).when(refresh(ALICE, 3, grant())).then([refreshed]);
    session(&[]).when(refresh(BOB, 3, grant())).rejected(SessionRejection::NotTheHolder);
    session(&[]).when(refresh(ALICE, 4, grant())).rejected(SessionRejection::NotTheHolder);
    for over in [terminated(), ended(1)] {
        session(&[over]).when(refresh(ALICE, 3, grant())).rejected(SessionRejection::Over);
    }
    given::<Session>([session_requested().into(), denied()])
        .when(refresh(ALICE, 3, grant()))
        .rejected(SessionRejection::Over);
    given::<Session>([]).when(refresh(ALICE, 3, grant())).rejected(SessionRejection::NotFound);
}

#[test]
fn a_session_starts_once_until_it_ends() {
    let state = session(&[]).when(start(1)).then([started(1)]);
    assert!(state.presence.is_reached() && state.phase == Phase::Alive);
    session(&[started(1)]).when(start(1)).nothing();
    session(&[started(1), ended(2)]).when(start(1)).nothing();
    let state = session(&[started(1), ended(2)]).when(start(3)).then([started(3)]);
    assert_eq!(state.phase, Phase::Alive);
    // The agent died meanwhile, and could not say that it had ended there.
    let state = session(&[started(1)]).when(start(4)).then([started(4)]);
    assert_eq!(state.phase, Phase::Alive);
    let state = session(&[terminated()]).when(start(1)).then([started(1)]);
    assert_eq!(state.phase, Phase::Terminated);
}

#[test]
fn reports_that_come_late_or_in_the_wrong_order_are_kept() {
    // Control was away, concluded that nobody came, and then hears otherwise.
    let unused = concluded(EndReason::NotUsed);
    let state = session(std::slice::from_ref(&unused)).when(start(1)).then([started(1)]);
    assert_eq!(state.phase, Phase::Alive);
    session(&[unused, started(1)]).when(end(ENTRY, 2)).then([ended(2)]);
    let state = session(&[ended(2)]).when(start(1)).then([started(1)]);
    assert_eq!(state.phase, Phase::Ended, "the end was seen after this start");
}

#[test]
fn a_session_ends_once_at_each_entry() {
    let state = session(&[started(1)]).when(end(ENTRY, 2)).then([ended(2)]);
    assert_eq!(state.phase, Phase::Ended);
    session(&[started(1), ended(2)]).when(end(ENTRY, 2)).nothing();
    session(&[started(1), terminated()]).when(end(ENTRY, 2)).then([ended(2)]);
    session(&[started(1), ended(2), started(3)]).when(end(ENTRY, 4)).then([ended(4)]);
    session(&[started(1)]).when(end(EGRESS, 9)).rejected(SessionRejection::ForeignNode);
}

#[test]
fn what_a_node_says_of_time_is_kept_within_bounds() {
    let now = after(MINUTE_MS);
    let skew = i64::try_from(MAX_SEEN_SKEW_MS).unwrap();
    for (said, kept) in [
        (after(0), after(0)),
        (after(MINUTE_MS + skew), after(MINUTE_MS + skew)),
        (after(MINUTE_MS + skew + 1), now),
        (Timestamp::from_unix_millis(i64::MAX), now),
        (after(-skew), after(-skew)),
        (after(-skew - 1), NOW),
        (Timestamp::from_unix_millis(i64::MIN), NOW),
    ] {
        let at = |at| Seen { at, ..seen(ENTRY, 1) };
        let from = Some(Vantage::Entry);
        let command = SessionCommand::RecordStarted { seen: at(said), from };
        session(&[]).when(command).then([SessionStarted { seen: at(kept), from }.into()]);
        let (reason, bytes_up, bytes_down) = (EndReason::ClientLost, 0, 0);
        let command = SessionCommand::RecordEnded { seen: at(said), reason, bytes_up, bytes_down };
        let ended = SessionEnded { reason, bytes_up, bytes_down, seen: Some(at(kept)) };
        session(&[]).when(command).then([ended.into()]);
        let code = RefusalCode::TokenExpired;
        let command = SessionCommand::RecordRefused { seen: at(said), code };
        session(&[]).when(command).then([SessionAccessRefused { seen: at(kept), code }.into()]);
    }
}

#[test]
fn a_node_speaks_only_of_its_own_sessions() {
    let says = |node, from| SessionCommand::RecordStarted { seen: seen(node, 1), from };
    let (entry, egress) = (Some(Vantage::Entry), Some(Vantage::Egress));
    for (node, from) in
        [(STRANGER, entry), (STRANGER, egress), (STRANGER, None), (EGRESS, entry), (ENTRY, egress)]
    {
        session(&[]).when(says(node, from)).rejected(SessionRejection::ForeignNode);
    }
    // A node of the release before does not say what it is.
    session(&[]).when(says(ENTRY, None)).then([started(1)]);
    let reached = SessionStarted { seen: seen(EGRESS, 1), from: egress };
    session(&[]).when(says(EGRESS, None)).then([reached.into()]);
    session(&[]).when(end(STRANGER, 1)).rejected(SessionRejection::ForeignNode);
    for command in [start(1), end(ENTRY, 1)] {
        given::<Session>([]).when(command.clone()).rejected(SessionRejection::NotFound);
        given::<Session>([session_requested().into(), denied()])
            .when(command)
            .rejected(SessionRejection::Over);
    }
}

#[test]
fn refusals_are_recorded_up_to_their_limit() {
    let code = RefusalCode::TokenWrongKey;
    let refuse = |node| SessionCommand::RecordRefused { seen: seen(node, 1), code };
    let refused = |node| SessionEvent::from(SessionAccessRefused { seen: seen(node, 1), code });
    // Also by a node that the token did not name: that may be why.
    session(&[]).when(refuse(STRANGER)).then([refused(STRANGER)]);
    session(&[ended(1)]).when(refuse(ENTRY)).then([refused(ENTRY)]);
    let most = vec![refused(ENTRY); MAX_REFUSALS as usize];
    session(&most[1..]).when(refuse(ENTRY)).then([refused(ENTRY)]);
    session(&most).when(refuse(ENTRY)).nothing();
}

#[test]
fn authority_terminates_what_is_alive() {
    let state = session(&[started(1)]).when(terminate()).then([terminated()]);
    assert_eq!(state.phase, Phase::Terminated);
    // Also what runs on after its token expired.
    session(&[started(1)]).at(past_expiry(3_600_000)).when(terminate()).then([terminated()]);
    session(&[terminated()]).when(terminate()).nothing();
    given::<Session>([session_requested().into(), denied()]).when(terminate()).nothing();
    given::<Session>([]).when(terminate()).rejected(SessionRejection::NotFound);
}

#[test]
fn authority_terminates_what_ended_for_as_long_as_a_token_of_it_may_be_accepted() {
    for over in [ended(1), concluded(EndReason::NotUsed)] {
        let over = std::slice::from_ref(&over);
        let state = session(over).when(terminate()).then([terminated()]);
        assert!(state.terminated && state.phase == Phase::Ended);
        session(over).at(past_expiry(CLOCK_SKEW_MS)).when(terminate()).then([terminated()]);
        session(over).at(past_expiry(CLOCK_SKEW_MS + 1)).when(terminate()).nothing();
    }
    session(&[ended(1), terminated()]).when(terminate()).nothing();
    // Whatever it does after that, it stays terminated.
    let state = session(&[ended(1), terminated()]).when(start(2)).then([started(2)]);
    assert_eq!(state.phase, Phase::Terminated);
}

#[test]
fn time_ends_what_no_node_speaks_of() {
    let conclude = SessionCommand::Conclude;
    for (events, wait, reason) in [
        (vec![], CONCLUDE_AFTER_MS, EndReason::NotUsed),
        (vec![terminated()], CONCLUDE_AFTER_MS, EndReason::Terminated),
        (vec![started(1)], CONCLUDE_STARTED_AFTER_MS, EndReason::ClientLost),
        (vec![started(1), terminated()], CONCLUDE_STARTED_AFTER_MS, EndReason::Terminated),
    ] {
        session(&events)
            .at(past_expiry(wait))
            .when(conclude.clone())
            .rejected(SessionRejection::StillAlive);
        session(&events).at(past_expiry(wait + 1)).when(conclude.clone()).then([concluded(reason)]);
    }
    session(&[ended(1)]).at(past_expiry(CONCLUDE_AFTER_MS + 1)).when(conclude).nothing();
}

#[test]
fn a_decision_names_so_many_rules_and_no_longer_ones() {
    let with = |basis: Basis| {
        let SessionAuthorized { resource, kind, attachment, .. } = session_authorized();
        request(Outcome::Authorized { resource, kind, attachment, grant: grant(), basis })
    };
    let rules = |count: usize| (0..count).map(|n| format!("{n:0>MAX_RULE_BYTES$}")).collect();
    let largest = Basis { rules: rules(MAX_BASIS_RULES), ..basis() };
    let authorized = SessionAuthorized { basis: largest.clone(), ..session_authorized() };
    let expected = [session_requested().into(), authorized.into()];
    given::<Session>([]).when(with(largest)).then(expected);
    let many = Basis { rules: rules(MAX_BASIS_RULES + 1), ..basis() };
    let long = Basis { rules: ["r".repeat(MAX_RULE_BYTES + 1)].into(), ..basis() };
    for basis in [many, long] {
        given::<Session>([]).when(with(basis.clone())).rejected(SessionRejection::BasisSize);
        let refresh =
            SessionCommand::Refresh { user: ALICE, client_key: key(3), grant: grant(), basis };
        session(&[]).when(refresh).rejected(SessionRejection::BasisSize);
    }
}
