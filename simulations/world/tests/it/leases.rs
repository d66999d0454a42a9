//! The lease scenario: many seeds hold, planted bugs do not, and a seed is one history.

use std::time::Duration;

use rap_proto::LeaseClass;
use rap_simulations::{
    kit::search,
    lease::{
        Mutation, Options,
        checkers::{
            AUTHORITY, FRESH_GRANT, GENERATION_RISES, LIVENESS, LOG_GROWS, SINGLE_ACTIVE,
            STICKINESS,
        },
        coverage::{
            FAULT_KINDS, GRANTED, GRANTORS, GRANTS, HOLDERS, PASSAGES, REASONS, SERVED, TOTALS,
        },
        handover::{Departure, Handover, measure},
        run,
    },
};

/// A first look; `cargo xtask test` runs more.
const SEEDS: u64 = 300;
/// Within how many seeds each planted bug must be found: as many as CI runs.
const SEEDS_FOR_A_BUG: u64 = 3_000;

#[test]
fn every_invariant_of_leases_holds_in_many_seeds() {
    let found = search(0..SEEDS, None, |seed| run(Options { seed, mutation: None }));
    found.expect_nothing();
    // A world in which nothing happens would hold as well.
    let coverage = &found.coverage;
    coverage.expect_many(TOTALS, GRANTED, 3 * SEEDS);
    coverage.expect_many(TOTALS, SERVED, 50 * SEEDS);
    coverage.expect_faults(&FAULT_KINDS);
    coverage.expect(HOLDERS, &PASSAGES);
    coverage.expect(GRANTORS, &GRANTS);
    let reasons = ["running_out", "holding_off", "damped", "table_went_back", "nobody_ready"];
    coverage.expect(REASONS, &reasons);
}

#[test]
fn another_node_takes_over_in_time() {
    let slowest = |departure, of: fn(Handover) -> Duration| {
        let took = (0..100).map(|seed| of(measure(seed, LeaseClass::Fast, departure).unwrap()));
        took.max().unwrap()
    };
    let planned = slowest(Departure::Planned, |handover| handover.took);
    assert!(planned < Duration::from_secs(1), "{planned:?}");
    let unplanned = slowest(Departure::Unplanned, |handover| handover.down);
    assert!(unplanned < Duration::from_secs(6), "{unplanned:?}");
    println!("slowest of 100: planned {planned:?}, unplanned {unplanned:?}");
}

#[test]
fn one_seed_of_leases_is_one_history() {
    for seed in 0..20 {
        let [one, other] = [(); 2].map(|()| run(Options { seed, mutation: None }));
        assert_eq!((one.digest, one.events), (other.digest, other.events), "{seed}");
    }
}

/// The bug is found, and by a checker that is there for it.
fn check(mutation: Mutation, checkers: &[&str]) {
    let run = |seed| run(Options { seed, mutation: Some(mutation) });
    search(0..SEEDS_FOR_A_BUG, None, run).expect_bug(mutation, checkers);
}

#[test]
fn a_deadline_from_the_receipt_is_found() {
    check(Mutation::DeadlineFromReceipt, &[SINGLE_ACTIVE]);
}

#[test]
fn a_missing_drift_margin_is_found() {
    check(Mutation::NoDriftMargin, &[SINGLE_ACTIVE]);
}

#[test]
fn a_missing_wait_after_a_restart_is_found() {
    check(Mutation::NoRestartWait, &[FRESH_GRANT, SINGLE_ACTIVE]);
}

#[test]
fn a_lease_floor_that_was_not_kept_is_found() {
    check(Mutation::FloorNotPersisted, &[FRESH_GRANT]);
}

#[test]
fn a_stale_answer_that_counts_is_found() {
    check(Mutation::StaleAnswerAccepted, &[SINGLE_ACTIVE]);
}

#[test]
fn a_replayed_grant_is_found() {
    check(Mutation::ReplayedGrant, &[SINGLE_ACTIVE]);
}

#[test]
fn a_driver_that_nobody_waits_for_is_found() {
    check(Mutation::DeactivateNotAwaited, &[SINGLE_ACTIVE]);
}

#[test]
fn a_packet_loop_that_relies_on_a_timer_is_found() {
    check(Mutation::TimerOnly, &[SINGLE_ACTIVE, AUTHORITY]);
}

#[test]
fn an_ignored_beat_is_found() {
    check(Mutation::BeatIgnored, &[AUTHORITY]);
}

#[test]
fn an_ignored_release_is_found() {
    check(Mutation::ReleaseIgnored, &[LIVENESS]);
}

#[test]
fn a_renewal_after_the_fence_is_found() {
    check(Mutation::RenewAfterFence, &[SINGLE_ACTIVE]);
}

#[test]
fn an_unchecked_fence_is_found() {
    check(Mutation::FenceNotChecked, &[SINGLE_ACTIVE]);
}

#[test]
fn a_mark_that_was_not_kept_is_found() {
    check(Mutation::MarkNotPersisted, &[SINGLE_ACTIVE]);
}

#[test]
fn a_grant_by_the_own_clock_alone_is_found() {
    check(Mutation::OwnClockOnly, &[SINGLE_ACTIVE, STICKINESS]);
}

#[test]
fn a_grant_by_the_database_clock_alone_is_found() {
    check(Mutation::DatabaseClockOnly, &[SINGLE_ACTIVE, STICKINESS]);
}

#[test]
fn a_skipped_hold_off_is_found() {
    check(Mutation::HoldOffSkipped, &[SINGLE_ACTIVE, GENERATION_RISES]);
}

#[test]
fn a_connection_that_moves_back_is_found() {
    check(Mutation::NotSticky, &[STICKINESS]);
}

#[test]
fn a_generation_that_follows_a_lost_one_is_found() {
    check(Mutation::GenerationFromRow, &[GENERATION_RISES]);
}

#[test]
fn a_witness_that_takes_a_smaller_head_is_found() {
    check(Mutation::SmallerHeadAccepted, &[LOG_GROWS]);
}
