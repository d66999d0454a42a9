#![allow(clippy::unwrap_used)]

use rap_proto::Duty;

use super::*;
use crate::{
    Aggregate as _,
    tests::{
        given::given,
        samples::{REPLICA, after, leadership_granted},
    },
};

fn grant(generation: u64, from_ms: i64) -> LeadershipCommand {
    let LeadershipGranted { duty, replica, generation, granted_at, valid_until } =
        leadership_granted(generation, from_ms);
    LeadershipCommand::Grant { duty, replica, generation, granted_at, valid_until }
}

fn granted(generation: u64, from_ms: i64) -> LeadershipEvent {
    leadership_granted(generation, from_ms).into()
}

fn released(generation: u64, at_ms: i64) -> LeadershipReleased {
    let released_at = after(at_ms);
    LeadershipReleased { generation, reason: LeadershipEnd::Expired, released_at }
}

fn release(generation: u64, at_ms: i64) -> LeadershipCommand {
    let LeadershipReleased { generation, reason, released_at } = released(generation, at_ms);
    LeadershipCommand::Release { generation, reason, released_at }
}

#[test]
fn a_replica_leads_until_it_is_released() {
    let state = given::<Leadership>([]).when(grant(1, 0)).then([granted(1, 0)]);
    assert_eq!(state.duty, Some(Duty::Processes));
    assert_eq!(state.tenure.present.unwrap().holder, REPLICA.uuid());
    assert_eq!(state.organization(), None);
    given::<Leadership>([granted(1, 0)])
        .when(grant(2, 5_000))
        .rejected(LeadershipRejection::LeaseHeld);
    let after = given::<Leadership>([granted(1, 0)])
        .when(release(1, 9_000))
        .then([released(1, 9_000).into()]);
    assert_eq!(after.tenure.present, None);
}

#[test]
fn the_next_leader_comes_behind_the_last_with_a_greater_generation() {
    let given = || given::<Leadership>([granted(1, 0), released(1, 9_000).into()]);
    given().when(grant(2, 9_000)).then([granted(2, 9_000)]);
    given().when(grant(2, 8_999)).rejected(LeadershipRejection::StillValid);
    given().when(grant(1, 9_000)).rejected(LeadershipRejection::StaleGeneration);
}

#[test]
fn a_leadership_has_a_bounded_time() {
    for length_ms in [0, i64::from(LEADERSHIP_TTL_MS) + 1] {
        let LeadershipCommand::Grant { duty, replica, generation, granted_at, .. } = grant(1, 0)
        else {
            unreachable!("it is a grant")
        };
        let valid_until = after(length_ms);
        let command =
            LeadershipCommand::Grant { duty, replica, generation, granted_at, valid_until };
        given::<Leadership>([]).when(command).rejected(LeadershipRejection::LifetimeOutOfRange);
    }
}

#[test]
fn a_leader_whose_row_ends_before_it_began_can_be_followed() {
    // The database's clock went back, and the lease was renewed by it.
    given::<Leadership>([granted(1, 0)]).when(release(1, -1_000)).then([released(1, 0).into()]);
}

#[test]
fn only_the_present_generation_is_released() {
    let stale = LeadershipRejection::StaleGeneration;
    given::<Leadership>([]).when(release(1, 0)).rejected(stale);
    given::<Leadership>([granted(2, 0)]).when(release(1, 0)).rejected(stale);
    let gone = [granted(1, 0), released(1, 0).into()];
    given::<Leadership>(gone).when(release(1, 0)).rejected(stale);
}
