#![allow(clippy::unwrap_used)]

use std::time::Duration;

use rap_events::{
    Aggregate as _,
    leadership::{LEADERSHIP_TTL_MS, Leadership, LeadershipCommand, LeadershipEnd},
    lease::{LeaseRow, RenewalOutcome},
};
use rap_proto::{Duty, Moment, ReplicaId, Timestamp};

use super::{Candidate, Effect, INTERVAL, Input, RETRY_DELAY, STOP_BUDGET, give_back, take};

const OWN: ReplicaId = ReplicaId::from_u128(1);
const OTHER: ReplicaId = ReplicaId::from_u128(2);
const TTL: Duration = Duration::from_millis(LEADERSHIP_TTL_MS as u64);

fn moment(millis: u64) -> Moment {
    Moment::from_micros(1_000_000_000 + millis * 1_000)
}

/// The database's clock is another than the replica's.
fn database(millis: i64) -> Timestamp {
    Timestamp::from_unix_millis(1_790_000_000_000 + millis)
}

fn row(holder: ReplicaId, generation: u64, until_ms: i64) -> LeaseRow {
    LeaseRow {
        generation,
        holder: holder.uuid(),
        ttl_ms: LEADERSHIP_TTL_MS,
        renewed_at: database(0),
        valid_until: database(until_ms),
        ended: false,
    }
}

/// Asks what is due at `at`.
fn due(candidate: &mut Candidate, at: Moment) -> Option<Effect> {
    candidate.handle_timeout(at);
    candidate.poll_effect()
}

/// A candidate that took the lease by a request of moment 0.
fn leader() -> Candidate {
    let mut candidate = Candidate::new(OWN, moment(0));
    assert!(!candidate.is_settled());
    assert_eq!(due(&mut candidate, moment(0)), Some(Effect::Look));
    candidate.handle_input(moment(1), Input::Looked { row: None, now: database(0) });
    assert_eq!(candidate.poll_effect(), Some(Effect::Take { row: None, now: database(0) }));
    candidate.handle_input(moment(300), Input::Granted { sent: moment(0), generation: 1 });
    assert!(candidate.is_settled());
    candidate
}

fn renewed(sent: u64) -> Input {
    let remaining_ms = u64::from(LEADERSHIP_TTL_MS);
    let outcome = RenewalOutcome::Renewed { remaining_ms };
    Input::Renewed { sent: moment(sent), generation: 1, outcome }
}

#[test]
fn a_leader_counts_from_the_moment_it_asked() {
    let candidate = leader();
    let usable = TTL - STOP_BUDGET - Duration::from_millis(4);
    assert_eq!(candidate.deadline(), Some(moment(0) + usable));
    assert_eq!(candidate.leads(moment(3_895)), Some(1));
    assert_eq!(candidate.leads(moment(3_896)), None);
}

#[test]
fn a_leader_renews_each_second_and_each_renewal_counts_from_its_own_request() {
    let mut candidate = leader();
    assert_eq!(candidate.poll_timeout(), Some(moment(0) + INTERVAL));
    assert_eq!(due(&mut candidate, moment(999)), None);
    assert_eq!(due(&mut candidate, moment(1_000)), Some(Effect::Renew { generation: 1 }));
    assert_eq!(candidate.poll_timeout(), None, "one question at a time");
    candidate.handle_input(moment(1_700), renewed(1_000));
    assert_eq!(candidate.leads(moment(4_895)), Some(1));
    assert_eq!(candidate.leads(moment(4_896)), None);
    assert_eq!(candidate.poll_timeout(), Some(moment(2_000)));
}

#[test]
fn a_question_without_an_answer_is_asked_again_and_moves_no_deadline() {
    let mut candidate = leader();
    let deadline = candidate.deadline();
    assert!(due(&mut candidate, moment(1_000)).is_some());
    candidate.handle_input(moment(1_500), Input::Unanswered);
    assert_eq!(candidate.deadline(), deadline);
    assert_eq!(candidate.poll_timeout(), Some(moment(1_500) + RETRY_DELAY));
    // Behind the deadline it does not lead, and asks the row first.
    assert_eq!(due(&mut candidate, moment(5_000)), Some(Effect::Look));
}

#[test]
fn a_leader_that_is_told_no_stops_at_once_and_looks() {
    let outcomes = [
        RenewalOutcome::Superseded { generation: 2 },
        RenewalOutcome::Ended,
        RenewalOutcome::Expired,
        RenewalOutcome::Unknown,
    ];
    for outcome in outcomes {
        let mut candidate = leader();
        assert!(due(&mut candidate, moment(1_000)).is_some());
        let input = Input::Renewed { sent: moment(1_000), generation: 1, outcome };
        candidate.handle_input(moment(1_001), input);
        assert_eq!(candidate.leads(moment(1_001)), None);
        assert_eq!(due(&mut candidate, moment(1_001)), Some(Effect::Look));
    }
}

#[test]
fn a_guard_that_refused_ends_the_term_of_its_generation_only() {
    let mut candidate = leader();
    candidate.handle_input(moment(400), Input::Lost { generation: 9 });
    assert_eq!(candidate.leads(moment(400)), Some(1));
    candidate.handle_input(moment(400), Input::Lost { generation: 1 });
    assert_eq!(candidate.leads(moment(400)), None);
    assert_eq!(due(&mut candidate, moment(400)), Some(Effect::Look));
}

#[test]
fn the_others_look_each_second_and_at_the_end_of_the_lease() {
    let mut candidate = Candidate::new(OWN, moment(0));
    assert!(due(&mut candidate, moment(0)).is_some());
    let held = Some(row(OTHER, 4, 4_000));
    candidate.handle_input(moment(2), Input::Looked { row: held, now: database(0) });
    assert!(candidate.is_settled() && candidate.leads(moment(2)).is_none());
    assert_eq!(candidate.poll_timeout(), Some(moment(2) + INTERVAL));
    assert!(due(&mut candidate, moment(1_002)).is_some());
    candidate.handle_input(moment(1_002), Input::Looked { row: held, now: database(3_600) });
    assert_eq!(candidate.poll_timeout(), Some(moment(1_403)));
    assert!(due(&mut candidate, moment(1_403)).is_some());
    candidate.handle_input(moment(1_404), Input::Looked { row: held, now: database(4_000) });
    let take = Effect::Take { row: held, now: database(4_000) };
    assert_eq!(candidate.poll_effect(), Some(take));
    candidate.handle_input(moment(1_500), Input::Refused);
    assert_eq!(due(&mut candidate, moment(1_500)), Some(Effect::Look));
}

#[test]
fn a_fenced_lease_is_not_free_before_its_time() {
    let mut candidate = Candidate::new(OWN, moment(0));
    assert!(due(&mut candidate, moment(0)).is_some());
    let fenced = Some(LeaseRow { ended: true, ..row(OWN, 4, 4_000) });
    candidate.handle_input(moment(2), Input::Looked { row: fenced, now: database(0) });
    assert_eq!(candidate.poll_effect(), None);
    assert_eq!(candidate.poll_timeout(), Some(moment(2) + INTERVAL));
}

#[test]
fn a_grant_whose_answer_was_lost_is_found_and_renewed_before_it_counts() {
    let mut candidate = Candidate::new(OWN, moment(0));
    assert!(due(&mut candidate, moment(0)).is_some());
    candidate.handle_input(moment(1), Input::Looked { row: None, now: database(0) });
    assert!(candidate.poll_effect().is_some());
    candidate.handle_input(moment(900), Input::Unanswered);
    assert_eq!(due(&mut candidate, moment(1_100)), Some(Effect::Look));
    let own = Some(row(OWN, 1, 4_000));
    candidate.handle_input(moment(1_101), Input::Looked { row: own, now: database(900) });
    assert_eq!(candidate.leads(moment(1_101)), None);
    assert_eq!(candidate.poll_effect(), Some(Effect::Renew { generation: 1 }));
    candidate.handle_input(moment(1_200), renewed(1_101));
    assert_eq!(candidate.leads(moment(1_200)), Some(1));
}

#[test]
fn who_resigns_gives_the_lease_back_once_and_takes_no_other() {
    let mut candidate = leader();
    candidate.handle_input(moment(500), Input::Resign);
    assert_eq!(candidate.leads(moment(500)), None);
    assert_eq!(candidate.poll_effect(), Some(Effect::GiveBack { generation: 1 }));
    candidate.handle_input(moment(501), Input::Unanswered);
    assert_eq!((candidate.poll_effect(), candidate.poll_timeout()), (None, None));

    let mut follower = Candidate::new(OWN, moment(0));
    follower.handle_input(moment(1), Input::Resign);
    assert_eq!((follower.poll_effect(), follower.poll_timeout()), (None, None));
}

/// What the aggregate makes of a taking.
fn accepted(leadership: &mut Leadership, commands: Vec<LeadershipCommand>) {
    for command in commands {
        for event in leadership.decide(command, Timestamp::default()).unwrap() {
            leadership.evolve(&event);
        }
    }
}

#[test]
fn a_duty_is_taken_from_nobody_from_the_silent_and_from_who_resigned() {
    let mut leadership = Leadership::default();
    let first = take(&leadership, Duty::Processes, OWN, None, database(0));
    assert_eq!((first.generation, first.commands.len()), (1, 1));
    accepted(&mut leadership, first.commands);

    let silent = row(OWN, 1, 9_000);
    let second = take(&leadership, Duty::Processes, OTHER, Some(&silent), database(9_000));
    assert_eq!(second.generation, 2);
    let released = LeadershipCommand::Release {
        generation: 1,
        reason: LeadershipEnd::Expired,
        released_at: database(9_000),
    };
    assert_eq!(second.commands[0], released);
    accepted(&mut leadership, second.commands);

    let (release, _) = give_back(Duty::Processes, 2, database(10_000));
    accepted(&mut leadership, vec![release]);
    let ended = LeaseRow { ended: true, ..row(OTHER, 2, 10_000) };
    let third = take(&leadership, Duty::Processes, OWN, Some(&ended), database(10_001));
    assert_eq!((third.generation, third.commands.len()), (3, 1));
    accepted(&mut leadership, third.commands);
}
