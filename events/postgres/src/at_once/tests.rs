#![allow(clippy::unwrap_used)]

use bytes::Bytes;
use rap_events::{lease::LeaseGuard, personal::SubjectChange};
use rap_proto::Digest;
use uuid::Uuid;

use super::*;
use crate::batch::tests::{append, stream};

fn known() -> Head {
    let mut head = Head { position: 9, ..Head::default() };
    (0..9).for_each(|_| drop(head.frontier.push(Digest::default())));
    head
}

fn decide(appends: &[Append]) -> Option<AtOnce> {
    AtOnce::decide(&known(), &appends.iter().collect::<Vec<_>>())
}

#[test]
fn each_stream_is_expected_where_the_first_append_expects_it() {
    let decided = decide(&[append(1, 1, 4, 2), append(2, 1, 6, 1), append(3, 2, 0, 1)]).unwrap();
    assert_eq!(decided.expected, [(stream(1), 4), (stream(2), 0)].into());
    assert_eq!(decided.known, known());
    let places = decided.outcomes.iter().map(|outcome| outcome.clone().unwrap());
    let places: Vec<_> = places.map(|appended| (appended.first, appended.last)).collect();
    assert_eq!(places, [(10, 11), (12, 12), (13, 13)]);
    assert_eq!(decided.batch.head().position, 13);
}

#[test]
fn it_is_what_would_be_decided_under_the_lock() {
    let appends = [append(1, 1, 4, 2), append(2, 1, 6, 1)];
    let decided = decide(&appends).unwrap();
    let streams = [(stream(1), 4)].into();
    let mut locked = Batch::new(Found { head: known(), streams, ..Found::default() });
    appends.iter().for_each(|append| drop(locked.admit(append).unwrap()));
    assert_eq!(decided.batch.head(), locked.head());
    assert_eq!(decided.batch.events, locked.events);
}

#[test]
fn a_stream_that_is_only_checked_is_expected_too() {
    let decided = decide(&[append(1, 1, 0, 1), append(2, 2, 3, 0)]).unwrap();
    assert_eq!(decided.expected, [(stream(1), 0), (stream(2), 3)].into());
}

#[test]
fn a_stream_begins_only_with_an_event_at_its_first_revision() {
    let begins = |appends: &[Append]| decide(appends).unwrap().only_begins_streams();
    assert!(begins(&[append(1, 1, 0, 1), append(2, 1, 1, 1), append(3, 2, 0, 2)]));
    assert!(!begins(&[append(1, 1, 0, 1), append(2, 2, 3, 1)]));
    assert!(!begins(&[append(1, 1, 0, 1), append(2, 2, 0, 0)]), "nothing would look at stream 2");
}

#[test]
fn what_hangs_on_more_than_streams_is_left_to_the_lock() {
    let lease = StreamId::new("lease", Uuid::from_u128(7));
    let wrapped = SubjectChange::Destroy { subject: Uuid::from_u128(8) };
    let change: [fn(&mut Append, StreamId, SubjectChange); 4] = [
        |append, _, _| append.claim = vec!["key".to_owned()],
        |append, _, _| append.release = vec!["key".to_owned()],
        |append, lease, _| {
            append.guards = vec![LeaseGuard { lease, generation: 1, holder: Uuid::from_u128(9) }];
        },
        |append, _, subject| append.subjects = vec![subject],
    ];
    for change in change {
        let mut special = append(1, 1, 0, 1);
        change(&mut special, lease.clone(), wrapped.clone());
        assert!(decide(&[append(2, 2, 0, 1), special]).is_none());
    }
    let mut granted = append(1, 1, 0, 1);
    granted.leases = vec![rap_events::lease::LeaseChange::Fence { lease, generation: 1 }];
    assert!(decide(&[granted]).is_none());
}

#[test]
fn what_moves_no_head_and_what_is_refused_is_left_to_the_lock() {
    assert!(decide(&[append(1, 1, 0, 0)]).is_none());
    assert!(decide(&[append(1, 1, 0, 1), append(2, 1, 0, 1)]).is_none());
}

#[test]
fn what_is_found_where_it_was_put_was_stored_by_this_batch() {
    let decided = decide(&[append(1, 1, 0, 1), append(2, 2, 0, 1)]).unwrap();
    let found =
        |first: u64| Ok(Appended { first, last: first, replayed: true, reply: Bytes::new() });
    assert_eq!(decided.recognise(vec![found(10), found(11)]), decided.outcomes);
    // Somebody else stored the second one before.
    let again = decided.recognise(vec![found(10), found(5)]);
    assert_eq!(again, [decided.outcomes[0].clone(), found(5)]);
}
