//! Many seeds hold, planted bugs do not, and a seed is one history.

use rap_simulations::{
    Mutation, Options,
    attack::ATTACKS,
    kit::search,
    run,
    world::{FAULT_KINDS, TOTALS},
};

/// A first look; `cargo xtask test` runs a thousand.
const SEEDS: u64 = 150;
/// Within how many of those seeds each planted bug must be found.
const SEEDS_FOR_A_BUG: u64 = 200;

#[test]
fn every_invariant_holds_in_many_seeds() {
    let found = search(0..SEEDS, None, |seed| run(Options { seed, mutation: None }));
    found.expect_nothing();
    // A world in which nothing happens would hold as well.
    found.coverage.expect_many(TOTALS, "flows admitted", SEEDS);
    found.coverage.expect_many(TOTALS, "sessions opened", SEEDS / 2);
    found.coverage.expect_many(TOTALS, "observations", SEEDS);
    found.coverage.expect_many(TOTALS, "nodes working", 3 * SEEDS);
    found.coverage.expect_faults(&FAULT_KINDS);
    found.coverage.expect_faults(&ATTACKS);
}

#[test]
fn one_seed_is_one_history() {
    for seed in 0..10 {
        let [one, other] = [(); 2].map(|()| run(Options { seed, mutation: None }));
        assert_eq!((one.digest, one.events), (other.digest, other.events), "{seed}");
    }
}

/// The bug is found, and by the checker that is there for it.
fn check(mutation: Mutation, checkers: &[&str]) {
    let run = |seed| run(Options { seed, mutation: Some(mutation) });
    search(0..SEEDS_FOR_A_BUG, None, run).expect_bug(mutation, checkers);
}

#[test]
fn a_snapshot_that_was_not_kept_is_found() {
    check(Mutation::SnapshotNotPersisted, &["applied"]);
}

#[test]
fn a_forgotten_floor_is_found() {
    check(Mutation::FloorForgotten, &["applied"]);
}

#[test]
fn a_snapshot_of_another_node_is_found() {
    check(Mutation::AnyNodesSnapshot, &["applied", "scope"]);
}

#[test]
fn a_forged_snapshot_is_found() {
    check(Mutation::UnsignedSnapshot, &["applied"]);
}

#[test]
fn an_agent_that_does_not_poll_is_found() {
    check(Mutation::PollIgnored, &["convergence"]);
}

#[test]
fn a_confirmation_before_the_record_is_found() {
    check(Mutation::ConfirmedBeforeRecorded, &["recorded"]);
}

#[test]
fn a_forgotten_spool_is_found() {
    check(Mutation::SpoolForgotten, &["recorded"]);
}

#[test]
fn a_widened_scope_is_found() {
    check(Mutation::ScopeWidened, &["scope"]);
}

#[test]
fn a_forgotten_event_is_found() {
    check(Mutation::EventForgotten, &["replay"]);
}

#[test]
fn an_unchecked_admission_is_found() {
    check(Mutation::AdmittedUnchecked, &["admission"]);
}

#[test]
fn an_ignored_withdrawal_is_found() {
    check(Mutation::WithdrawalIgnored, &["admission"]);
}

#[test]
fn a_reused_join_token_is_found() {
    check(Mutation::JoinTokenReused, &["enrollment"]);
}
