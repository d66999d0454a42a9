//! The fleet scenario: many seeds hold, planted bugs do not, and a seed is one history.

use rap_simulations::{
    fleet::{
        EFFECTS, EVERYBODY, FAULT_KINDS, FOUND, HOP_COUNTS, HOPS, Lie, Mutation, NODES, ONE_ALONE,
        Options, RECOVERY, RELAYS, VIEWS,
        checkers::{
            CONVERGENCE, LIAR_FOUND, NO_FLAPPING, PEER_BOUND, RECOVERY_ORDER, UNAUTHORISED,
            VIEW_CONSTANT,
        },
        run,
    },
    kit::{Found, search},
};

/// A first look; `cargo xtask test` runs more.
const SEEDS: u64 = 20;
/// Within how many seeds each planted bug must be found.
const SEEDS_FOR_A_BUG: u64 = 40;
/// Larger fleets, each with as many seeds; `rap-sim --nodes 10000` runs the largest.
const LARGER: [(usize, u64); 2] = [(100, 6), (1_000, 1)];

fn of(nodes: usize, seeds: u64, mutation: Option<Mutation>) -> Found {
    search(0..seeds, None, |seed| run(Options { seed, nodes, mutation }))
}

#[test]
fn every_invariant_of_a_fleet_holds_in_many_seeds() {
    let found = of(NODES, SEEDS, None);
    found.expect_nothing();
    // A world in which nothing happens would hold as well.
    let coverage = &found.coverage;
    coverage.expect_faults(&FAULT_KINDS);
    let steps = ["active", "warm", "cold", "discovery", "snapshot", "reached"];
    coverage.expect(RECOVERY, &steps);
    coverage.expect(RELAYS, &[EVERYBODY, ONE_ALONE]);
    coverage.expect(HOPS, &HOP_COUNTS);
    coverage.expect(FOUND, &Lie::ALL.map(Lie::as_str));
    // That all workers are gone at once hardly ever happens.
    coverage.expect(VIEWS, &["available", "degraded"]);
    for effect in ["heartbeat", "probe", "probe through", "release", "discover", "persist"] {
        coverage.expect_many(EFFECTS, effect, SEEDS);
    }
}

#[test]
fn every_invariant_holds_in_fleets_of_a_hundred_and_of_a_thousand() {
    for (nodes, seeds) in LARGER {
        of(nodes, seeds, None).expect_nothing();
    }
}

#[test]
fn one_seed_of_a_fleet_is_one_history() {
    for seed in 0..4 {
        let [one, other] = [(); 2].map(|()| run(Options { seed, nodes: NODES, mutation: None }));
        assert_eq!((one.digest, one.events), (other.digest, other.events), "{seed}");
    }
}

/// The bug is found, and by the checker that is there for it.
fn check(mutation: Mutation, checker: &str) {
    check_in(NODES, mutation, &[checker]);
}

fn check_in(nodes: usize, mutation: Mutation, checkers: &[&str]) {
    of(nodes, SEEDS_FOR_A_BUG, Some(mutation)).expect_bug(mutation, checkers);
}

#[test]
fn a_withdrawal_that_is_ignored_is_found() {
    // Who takes no newer directory takes no other counts either.
    check_in(NODES, Mutation::WithdrawalIgnored, &[UNAUTHORISED, PEER_BOUND]);
}

#[test]
fn a_cache_that_is_believed_is_found() {
    check(Mutation::CacheIsTruth, UNAUTHORISED);
}

#[test]
fn a_relay_that_is_none_is_found() {
    check(Mutation::RoleNotChecked, UNAUTHORISED);
}

#[test]
fn a_relay_of_another_organization_is_found() {
    check(Mutation::ScopeForgotten, UNAUTHORISED);
}

#[test]
fn a_path_that_leads_on_over_a_strangers_relay_is_found() {
    check(Mutation::OnwardMistaken, UNAUTHORISED);
}

#[test]
fn an_egress_that_only_relays_in_a_row_reach_and_nobody_tries_is_found() {
    check(Mutation::ChainsForgotten, CONVERGENCE);
}

#[test]
fn relays_in_a_row_that_do_not_become_fewer_are_found() {
    check(Mutation::HopsNotCounted, CONVERGENCE);
}

#[test]
fn a_bound_that_is_exceeded_is_found() {
    check(Mutation::BoundDoubled, PEER_BOUND);
}

#[test]
fn counts_that_the_platform_says_and_a_node_does_not_take_are_found() {
    check(Mutation::RuleIgnored, PEER_BOUND);
}

#[test]
fn a_path_that_is_kept_over_a_relay_that_was_taken_away_is_found() {
    check(Mutation::PathKept, UNAUTHORISED);
}

#[test]
fn an_organization_whose_relay_has_no_place_is_found() {
    check(Mutation::PlacesShared, CONVERGENCE);
}

#[test]
fn a_relay_that_nobody_tried_is_found() {
    check_in(NODES, Mutation::ThroughSkipped, &[CONVERGENCE, LIAR_FOUND]);
}

#[test]
fn a_relay_that_forwarded_once_and_is_believed_is_found() {
    check(Mutation::ForwardedOnce, LIAR_FOUND);
}

#[test]
fn a_silence_that_counts_as_an_answer_is_found() {
    check(Mutation::SilenceIsAnAnswer, CONVERGENCE);
}

#[test]
fn a_timer_that_is_not_armed_again_is_found() {
    check(Mutation::TimerLost, CONVERGENCE);
}

#[test]
fn peers_that_take_turns_are_found() {
    // Among ten there is hardly anybody to take turns with.
    check_in(40, Mutation::NoHysteresis, &[NO_FLAPPING]);
}

#[test]
fn a_way_back_that_begins_in_the_middle_is_found() {
    check(Mutation::StepsSkipped, RECOVERY_ORDER);
}

#[test]
fn a_relay_whose_loss_an_organization_sees_is_found() {
    check(Mutation::RelayLossIsShown, VIEW_CONSTANT);
}

#[test]
fn a_number_of_nodes_that_an_organization_sees_is_found() {
    check(Mutation::NodesAreCounted, VIEW_CONSTANT);
}
