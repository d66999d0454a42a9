//! The beat scenario: many seeds hold, planted bugs do not, and a seed is one history.

use std::{
    num::NonZero,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
};

use rap_simulations::beat::{
    Coverage, Mutation, Options, Report,
    checkers::{ENDS_IN_TIME, LIVENESS, NEVER_BACK, NOTHING_UNREAD, QUORUM, SINGLE_BEAT},
    run,
};

/// A first look; `cargo xtask test` runs more.
const SEEDS: u64 = 60;
/// Within how many seeds each planted bug must be found: as many as CI runs.
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
fn every_invariant_of_beats_holds_in_many_seeds() {
    let reports = search(SEEDS, None);
    let mut coverage = Coverage::default();
    for report in &reports {
        assert!(report.violation.is_none(), "\n{report}");
        coverage.add(&report.coverage);
    }
    // A world in which nothing happens would hold as well.
    for (step, least) in [("propose", 8), ("vote", 15), ("sign", 15), ("tell a node", 8)] {
        let count = coverage.steps.get(step).copied().unwrap_or(0);
        assert!(count > least * SEEDS, "hardly any {step}:\n{coverage}");
    }
    for fault in [
        "partition",
        "one-way partition",
        "node crash",
        "torn write",
        "replica crash",
        "power cut of all replicas",
        "node suspended",
        "replica pause",
        "primary's calendar back",
        "primary's calendar forward",
        "node's calendar back",
        "node's calendar forward",
        "failover",
        "unsynced failover",
        "rival proposal",
        "new statement",
        "two leaders",
        "duplicate",
        "nobody reaches the primary",
        "a minority reaches the primary",
        "a node reaches no replica",
    ] {
        assert!(coverage.faults.contains_key(fault), "no {fault}:\n{coverage}");
    }
    for (from, to) in [
        ("unheard", "healthy"),
        ("unheard", "degraded"),
        ("healthy", "degraded"),
        ("degraded", "healthy"),
        ("degraded", "isolated"),
        ("isolated", "healthy"),
    ] {
        assert!(coverage.transitions.contains_key(&(from, to)), "no {from} to {to}:\n{coverage}");
    }
    for refusal in ["Older", "StatementOlder", "OutsideItsLife"] {
        assert!(coverage.refusals.contains_key(refusal), "no {refusal}:\n{coverage}");
    }
}

#[test]
fn one_seed_of_beats_is_one_history() {
    for seed in 0..6 {
        let (one, other) =
            (run(Options { seed, mutation: None }), run(Options { seed, mutation: None }));
        assert_eq!((one.digest, one.events), (other.digest, other.events), "{seed}");
    }
}

/// The bug is found, and by the checker that is there for it.
fn check(mutation: Mutation, checker: &str) {
    let found = search(SEEDS_FOR_A_BUG, Some(mutation));
    let violation = found.iter().find_map(|report| report.violation.as_ref());
    let Some(violation) = violation else { panic!("{mutation} was not found") };
    println!("{mutation}: {violation}, after {} seeds", found.len());
    assert_eq!(violation.checker, checker, "{mutation}: {violation}");
}

#[test]
fn a_vote_that_was_not_stored_is_found() {
    check(Mutation::VoteNotStored, SINGLE_BEAT);
}

#[test]
fn a_sequence_that_is_used_again_is_found() {
    check(Mutation::SequenceReused, SINGLE_BEAT);
}

#[test]
fn a_beat_that_its_signer_did_not_read_is_found() {
    check(Mutation::UnreadSigned, NOTHING_UNREAD);
}

#[test]
fn a_beat_of_less_than_a_quorum_is_found() {
    check(Mutation::QuorumOfLess, QUORUM);
}

#[test]
fn a_life_from_the_receipt_is_found() {
    check(Mutation::LifeFromReceipt, ENDS_IN_TIME);
}

#[test]
fn a_suspension_that_does_not_count_is_found() {
    check(Mutation::SuspendNotCounted, ENDS_IN_TIME);
}

#[test]
fn a_beat_that_was_not_kept_is_found() {
    check(Mutation::FloorNotPersisted, NEVER_BACK);
}

#[test]
fn an_older_statement_that_counts_is_found() {
    check(Mutation::EpochNotChecked, NEVER_BACK);
}

#[test]
fn a_node_that_gives_up_asking_is_found() {
    check(Mutation::RefusedForGood, LIVENESS);
}
