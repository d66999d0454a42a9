//! The beat scenario: many seeds hold, planted bugs do not, and a seed is one history.

use rap_simulations::{
    beat::{
        Mutation, Options,
        checkers::{ENDS_IN_TIME, LIVENESS, NEVER_BACK, NOTHING_UNREAD, QUORUM, SINGLE_BEAT},
        coverage::{NODES, REFUSED, REPLICAS},
        run,
    },
    kit::search,
};

/// A first look; `cargo xtask test` runs more.
const SEEDS: u64 = 60;
/// Within how many seeds each planted bug must be found: as many as CI runs.
const SEEDS_FOR_A_BUG: u64 = 200;

#[test]
fn every_invariant_of_beats_holds_in_many_seeds() {
    let found = search(0..SEEDS, None, |seed| run(Options { seed, mutation: None }));
    found.expect_nothing();
    // A world in which nothing happens would hold as well.
    let coverage = &found.coverage;
    for (step, least) in [("propose", 8), ("vote", 15), ("sign", 15), ("tell a node", 8)] {
        coverage.expect_many(REPLICAS, step, least * SEEDS);
    }
    coverage.expect_faults(&[
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
    ]);
    let passages = [
        "unheard to healthy",
        "unheard to degraded",
        "healthy to degraded",
        "degraded to healthy",
        "degraded to isolated",
        "isolated to healthy",
    ];
    coverage.expect(NODES, &passages);
    coverage.expect(REFUSED, &["Older", "StatementOlder", "OutsideItsLife"]);
}

#[test]
fn one_seed_of_beats_is_one_history() {
    for seed in 0..6 {
        let [one, other] = [(); 2].map(|()| run(Options { seed, mutation: None }));
        assert_eq!((one.digest, one.events), (other.digest, other.events), "{seed}");
    }
}

/// The bug is found, and by the checker that is there for it.
fn check(mutation: Mutation, checker: &str) {
    let run = |seed| run(Options { seed, mutation: Some(mutation) });
    search(0..SEEDS_FOR_A_BUG, None, run).expect_bug(mutation, &[checker]);
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
