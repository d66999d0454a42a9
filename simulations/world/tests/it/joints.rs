//! The joint scenario: many seeds hold, planted bugs do not, and a seed is one history.

use rap_simulations::{
    Mutation,
    beat::checkers::{NEVER_BACK, QUORUM},
    checkers::{FENCE, GRANTED},
    joint::{
        FAULT_KINDS, Options,
        judge::{FOLLOWS, LIVENESS, ONE_LEADER, REVOKED},
        run,
    },
    kit::search,
    lease::checkers::{GENERATION_RISES, LOG_GROWS, SINGLE_ACTIVE},
    world::TOTALS,
};

/// A first look; `cargo xtask test` runs more.
const SEEDS: u64 = 24;
/// Within how many seeds each planted bug must be found: as many as CI runs.
const SEEDS_FOR_A_BUG: u64 = 60;

#[test]
fn every_invariant_holds_where_all_parts_meet() {
    let found = search(0..SEEDS, None, |seed| run(Options { seed, mutation: None }));
    found.expect_nothing();
    // A world in which nothing happens would hold as well.
    let coverage = &found.coverage;
    coverage.expect_many(TOTALS, "grants", 2 * SEEDS);
    coverage.expect_many(TOTALS, "flows admitted", SEEDS);
    coverage.expect_many(TOTALS, "observations", SEEDS);
    coverage.expect("leased", &["admitted", "flow cut", "not held"]);
    coverage.expect("replicas", &["leads"]);
    coverage.expect_faults(&FAULT_KINDS);
    coverage.expect("replicas", &["halts", "frozen"]);
    coverage.expect("beats", &["hold", "unheard to healthy", "healthy to degraded"]);
    coverage.expect("beats", &["tells degraded", "tells healthy"]);
    let grants = ["grant, for never_granted", "grant, for handed_over", "grant, for ran_out"];
    coverage.expect("grantors", &grants);
}

#[test]
fn one_seed_of_all_parts_is_one_history() {
    for seed in 0..4 {
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
fn a_fence_that_is_not_asked_for_a_sessions_channel_is_found() {
    check(Mutation::FenceNotAsked, &[FENCE]);
}

#[test]
fn an_egress_that_does_not_ask_itself_is_found() {
    check(Mutation::HolderNotAsked, &[SINGLE_ACTIVE, GRANTED]);
}

#[test]
fn a_flow_that_outlives_its_lease_is_found() {
    check(Mutation::FlowOutlivesLease, &[SINGLE_ACTIVE]);
}

#[test]
fn a_replica_that_does_not_fold_what_others_did_is_found() {
    check(Mutation::OthersNotFolded, &["replay", "convergence", LIVENESS]);
}

#[test]
fn a_replica_that_folds_two_events_in_the_wrong_order_is_found() {
    check(Mutation::FoldedOutOfOrder, &["replay"]);
}

#[test]
fn a_grantor_that_does_not_notice_a_loss_is_found() {
    check(Mutation::TimelineIgnored, &[GENERATION_RISES, SINGLE_ACTIVE, GRANTED]);
}

#[test]
fn a_replica_that_grants_without_a_quorum_is_found() {
    check(Mutation::NotFrozen, &[QUORUM]);
}

#[test]
fn a_leader_without_a_guard_is_found() {
    check(Mutation::LeaderNotGuarded, &[ONE_LEADER]);
}

#[test]
fn a_replica_that_does_not_notice_a_loss_is_found() {
    check(Mutation::LossNotNoticed, &[FOLLOWS]);
}

#[test]
fn a_node_that_begins_anew_with_another_log_is_found() {
    check(Mutation::LogTrustedAnew, &[LOG_GROWS]);
}

#[test]
fn a_holder_that_is_kept_though_it_was_revoked_is_found() {
    check(Mutation::RevokedHolderKept, &[REVOKED]);
}

#[test]
fn a_beat_that_was_not_kept_is_found() {
    check(Mutation::BeatNotKept, &[NEVER_BACK]);
}
