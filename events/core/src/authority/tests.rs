#![allow(clippy::unwrap_used)]

use rap_proto::beat::{EpochStatement, majority};

use super::*;
use crate::{
    Aggregate as _,
    tests::{
        given::given,
        samples::{CLUSTER, key},
    },
};

fn statement(revision: u64, seeds: &[u8]) -> EpochStatement {
    EpochStatement {
        cluster: CLUSTER,
        epoch: 1,
        revision,
        replicas: seeds.iter().map(|seed| key(*seed)).collect(),
        threshold: majority(seeds.len()),
        previous: None,
    }
}

fn state(statement: EpochStatement) -> AuthorityCommand {
    AuthorityCommand::State { statement, signed: b"signed".to_vec().into() }
}

fn stated(statement: EpochStatement) -> AuthorityEvent {
    AuthorityStated { statement, signed: b"signed".to_vec().into() }.into()
}

#[test]
fn a_statement_follows_the_one_before() {
    let first = statement(1, &[1]);
    let after = given::<Authority>([]).when(state(first.clone())).then([stated(first.clone())]);
    assert_eq!(after.statement, Some(first.clone()));
    assert_eq!(after.organization(), None);
    let second = statement(2, &[1, 2, 3]);
    given::<Authority>([stated(first)]).when(state(second.clone())).then([stated(second)]);
}

#[test]
fn what_does_not_follow_is_rejected() {
    let given = || given::<Authority>([stated(statement(1, &[1, 2, 3]))]);
    for revision in [0, 1, 3] {
        let late = statement(revision, &[1, 2]);
        given().when(state(late)).rejected(AuthorityRejection::NotNext);
    }
    let epoch = EpochStatement { epoch: 2, ..statement(2, &[1, 2]) };
    given().when(state(epoch)).rejected(AuthorityRejection::NotNext);
    let same = statement(2, &[1, 2, 3]);
    given().when(state(same)).rejected(AuthorityRejection::Unchanged);
}

#[test]
fn half_of_the_replicas_is_no_quorum() {
    for (seeds, threshold) in [(&[1, 2][..], 1), (&[1, 2, 3, 4], 2), (&[1, 2, 3], 4), (&[], 1)] {
        let wrong = EpochStatement { threshold, ..statement(1, seeds) };
        given::<Authority>([]).when(state(wrong)).rejected(AuthorityRejection::NotValid);
    }
}

#[test]
fn what_was_lost_is_given_up_once_for_each_timeline() {
    let accept = |timeline| AuthorityCommand::AcceptLoss { timeline };
    let accepted = |timeline| AuthorityEvent::from(LossAccepted { timeline });
    let after = given::<Authority>([]).when(accept(2)).then([accepted(2)]);
    assert_eq!((after.loss_accepted, after.statement), (Some(2), None));
    let again = given::<Authority>([accepted(2)]).when(accept(2));
    again.rejected(AuthorityRejection::AlreadyAccepted);
    given::<Authority>([accepted(2)]).when(accept(3)).then([accepted(3)]);
    // A restored log comes to a server that counts its timelines anew.
    given::<Authority>([accepted(2)]).when(accept(1)).then([accepted(1)]);
}
