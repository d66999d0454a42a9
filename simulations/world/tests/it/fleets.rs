//! The fleet scenario: many seeds hold, planted bugs do not, and a seed is one history.

use std::{
    num::NonZero,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
};

use rap_simulations::fleet::{
    Coverage, Mutation, Options, Report,
    checkers::{CONVERGENCE, NO_FLAPPING, PEER_BOUND, RECOVERY_ORDER, UNAUTHORISED},
    run,
};

/// A first look; `cargo xtask test` runs more.
const SEEDS: u64 = 20;
/// Within how many seeds each planted bug must be found.
const SEEDS_FOR_A_BUG: u64 = 40;
const NODES: usize = 10;
/// Larger fleets, each with as many seeds; `rap-sim --nodes 10000` runs the largest.
const LARGER: [(usize, u64); 2] = [(100, 6), (1_000, 1)];

/// Runs seeds on every processor, until one fails.
fn search(nodes: usize, seeds: u64, mutation: Option<Mutation>) -> Vec<Report> {
    let (next, failed) = (AtomicU64::new(0), AtomicBool::new(false));
    let worker = || {
        let mut reports = Vec::new();
        while !failed.load(Ordering::Relaxed) {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds {
                break;
            }
            let report = run(Options { seed, nodes, mutation });
            failed.fetch_or(report.violation.is_some(), Ordering::Relaxed);
            reports.push(report);
        }
        reports
    };
    thread::scope(|scope| {
        let workers = thread::available_parallelism().map_or(1, NonZero::get);
        let running: Vec<_> = (0..workers).map(|_| scope.spawn(worker)).collect();
        running.into_iter().flat_map(|worker| worker.join().unwrap()).collect()
    })
}

#[test]
fn every_invariant_of_a_fleet_holds_in_many_seeds() {
    let reports = search(NODES, SEEDS, None);
    let mut coverage = Coverage::default();
    for report in &reports {
        assert!(report.violation.is_none(), "\n{report}");
        coverage.add(&report.coverage);
    }
    // A world in which nothing happens would hold as well.
    for fault in [
        "crash",
        "regional outage",
        "one-way loss",
        "flapping link",
        "withdrawal",
        "a relay that swallows",
        "a full relay",
        "gone for good",
    ] {
        assert!(coverage.faults.contains_key(fault), "no {fault}:\n{coverage}");
    }
    for step in ["active", "warm", "cold", "discovery", "snapshot", "reached"] {
        assert!(coverage.steps.contains_key(step), "nobody came to {step}:\n{coverage}");
    }
    for effect in ["heartbeat", "probe", "probe through", "release", "discover", "persist"] {
        let count = coverage.effects.get(effect).copied().unwrap_or(0);
        assert!(count > SEEDS, "hardly any {effect}:\n{coverage}");
    }
}

#[test]
fn every_invariant_holds_in_fleets_of_a_hundred_and_of_a_thousand() {
    for (nodes, seeds) in LARGER {
        for report in search(nodes, seeds, None) {
            assert!(report.violation.is_none(), "\n{report}");
        }
    }
}

#[test]
fn one_seed_of_a_fleet_is_one_history() {
    for seed in 0..4 {
        let once = || run(Options { seed, nodes: NODES, mutation: None });
        let (one, other) = (once(), once());
        assert_eq!((one.digest, one.events), (other.digest, other.events), "{seed}");
    }
}

/// The bug is found, and by the checker that is there for it.
fn check(mutation: Mutation, checker: &str) {
    check_in(NODES, mutation, checker);
}

fn check_in(nodes: usize, mutation: Mutation, checker: &str) {
    let found = search(nodes, SEEDS_FOR_A_BUG, Some(mutation));
    let violation = found.iter().find_map(|report| report.violation.as_ref());
    let Some(violation) = violation else { panic!("{mutation} was not found") };
    println!("{mutation}: {violation}, after {} seeds", found.len());
    assert_eq!(violation.checker, checker, "{mutation}: {violation}");
}

#[test]
fn a_withdrawal_that_is_ignored_is_found() {
    check(Mutation::WithdrawalIgnored, UNAUTHORISED);
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
fn a_bound_that_is_exceeded_is_found() {
    check(Mutation::BoundDoubled, PEER_BOUND);
}

#[test]
fn a_relay_that_nobody_tried_is_found() {
    check(Mutation::ThroughSkipped, CONVERGENCE);
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
    check_in(30, Mutation::NoHysteresis, NO_FLAPPING);
}

#[test]
fn a_way_back_that_begins_in_the_middle_is_found() {
    check(Mutation::StepsSkipped, RECOVERY_ORDER);
}
