//! Many seeds hold, planted bugs do not, and a seed is one history.

use std::{
    num::NonZero,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
};

use rap_simulations::{Mutation, Options, Report, run};

/// A first look; `cargo xtask test` runs a thousand.
const SEEDS: u64 = 150;
/// Within how many of those seeds each planted bug must be found.
const SEEDS_FOR_A_BUG: u64 = 200;

/// Runs seeds on every processor, until one fails.
fn search(seeds: u64, mutation: Option<Mutation>) -> Vec<Report> {
    let (next, failed) = (AtomicU64::new(0), AtomicBool::new(false));
    let worker = || {
        let mut reports = Vec::new();
        while !failed.load(Ordering::Relaxed) {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds {
                break;
            }
            let report = run(Options { seed, mutation });
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
fn every_invariant_holds_in_many_seeds() {
    let reports = search(SEEDS, None);
    for report in &reports {
        assert!(report.violation.is_none(), "\n{report}");
    }
    // A world in which nothing happens would hold as well.
    let sum = |count: fn(&Report) -> u64| reports.iter().map(count).sum::<u64>();
    assert!(sum(|report| report.flows_admitted) > SEEDS, "hardly anybody was let in");
    assert!(sum(|report| report.sessions_opened) > SEEDS / 2, "hardly a client was welcome");
    assert!(sum(|report| report.observations as u64) > SEEDS, "hardly anything was observed");
    assert!(sum(|report| report.nodes as u64) > 3 * SEEDS, "hardly a node enrolled");
}

#[test]
fn one_seed_is_one_history() {
    for seed in 0..10 {
        let (one, other) =
            (run(Options { seed, mutation: None }), run(Options { seed, mutation: None }));
        assert_eq!((one.digest, one.trace_lines), (other.digest, other.trace_lines), "{seed}");
    }
}

/// The bug is found, and by the checker that is there for it.
fn check(mutation: Mutation, checkers: &[&str]) {
    let found = search(SEEDS_FOR_A_BUG, Some(mutation));
    let violation = found.iter().find_map(|report| report.violation.as_ref());
    let Some(violation) = violation else { panic!("{mutation} was not found") };
    assert!(checkers.contains(&violation.checker), "{mutation}: {violation}");
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
