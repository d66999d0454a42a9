//! The beat scenario: many seeds hold, planted bugs do not, and a seed is one history.

use std::time::Duration;

use rap_events::beat::{Ballot, Vote};
use rap_proto::{
    ClusterId, Digest, KeyId, Moment, Timestamp,
    beat::{BEAT_TTL_MS, Beat},
    codec,
};
use rap_simulations::{
    beat::{
        Mutation, Options,
        checkers::{
            Checkers, ENDS_IN_TIME, LIVENESS, NEVER_BACK, NOTHING_UNREAD, QUORUM, SINGLE_BEAT,
        },
        coverage::{FAULT_KINDS, NODES, PASSAGES, REFUSED, REPLICAS},
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
    coverage.expect_faults(&FAULT_KINDS);
    coverage.expect(NODES, &PASSAGES);
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

/// Beats of one sequence, which differ in when they were issued.
fn payload(sequence: u64, issued: u64) -> Vec<u8> {
    let at = |millis: u64| Timestamp::from_unix_millis(i64::try_from(millis).unwrap());
    codec::encode(&Beat {
        cluster: ClusterId::from_uuid(uuid::Uuid::from_u128(1)),
        epoch: 1,
        statement: Digest::of(b"a statement"),
        sequence,
        snapshot_floor: 0,
        deny_version: 0,
        issued_at: at(issued),
        expires_at: at(issued + BEAT_TTL_MS),
    })
}

fn violated(checkers: &Checkers) -> Option<&str> {
    checkers.verdict.found().map(|violation| violation.checker)
}

#[test]
fn a_late_signer_makes_a_beat_no_younger() {
    let start = Moment::default();
    let (life, long) = (Duration::from_millis(BEAT_TTL_MS), Duration::from_secs(20));
    let mut checkers = Checkers::new(0, false);
    let beat = payload(1, 0);
    checkers.signed(start, 0, &beat, true);
    checkers.signed(start, 1, &beat, true);
    checkers.granted(start + life, "a lease");
    checkers.signed(start + long, 2, &beat, true);
    // Another beat of that sequence, of less than a quorum.
    checkers.signed(start + long, 2, &payload(1, 1), true);
    assert_eq!(violated(&checkers), None);
    checkers.granted(start + life + long, "a lease");
    assert_eq!(violated(&checkers), Some(QUORUM));
}

#[test]
fn a_signature_that_was_not_stored_makes_no_quorum() {
    let mut checkers = Checkers::new(0, false);
    let beat = payload(1, 0);
    checkers.signed(Moment::default(), 0, &beat, true);
    checkers.signed(Moment::default(), 1, &beat, false);
    checkers.granted(Moment::default(), "a lease");
    assert_eq!(violated(&checkers), Some(QUORUM));
}

#[test]
fn two_beats_of_a_sequence_are_excused_only_where_its_votes_were_lost() {
    let mut checkers = Checkers::new(0, false);
    let vote = |sequence| {
        let (replica, payload) = (KeyId::from_bytes([1; 32]), Digest::of(b"a beat"));
        Vote { replica, sequence, payload, signature: None }
    };
    let ballot = |sequence| Ballot { votes: vec![vote(sequence)], ..Ballot::default() };
    checkers.votes_lost(&ballot(7), &ballot(5));
    // This one lost events alone.
    checkers.votes_lost(&Ballot { head: 9, ..ballot(8) }, &ballot(8));
    let mut twice = |sequence| {
        for (replica, issued) in [(0, 0), (1, 0), (1, 1), (2, 1)] {
            checkers.signed(Moment::default(), replica, &payload(sequence, issued), true);
        }
        violated(&checkers).map(str::to_owned)
    };
    assert_eq!([5, 7].map(&mut twice), [None, None]);
    assert_eq!(twice(8).as_deref(), Some(SINGLE_BEAT));
}
