#![allow(clippy::unwrap_used)]

use bytes::Bytes;
use rap_events::log::{NewEvent, StreamWrite};
use rap_proto::{Digest, Timestamp};

use super::*;

pub(crate) fn stream(id: u128) -> StreamId {
    StreamId::new("thing", Uuid::from_u128(id))
}

pub(crate) fn append(command: u128, id: u128, expected: u64, events: usize) -> Append {
    let event = NewEvent {
        event_type: "thing.happened".to_owned(),
        schema: 1,
        payload: Bytes::from_static(b"\x80"),
        organization: None,
    };
    Append {
        request_hash: Digest::of(&command.to_be_bytes()),
        reply: Bytes::from(format!("reply {command}")),
        ..Append::plain(
            CommandId::from_u128(command),
            Timestamp::from_unix_millis(5),
            vec![StreamWrite { stream: stream(id), expected, events: vec![event; events] }],
        )
    }
}

/// A head whose tree has the same leaf everywhere.
fn at(position: u64) -> Head {
    let mut head = Head { position, ..Head::default() };
    (0..position).for_each(|_| drop(head.frontier.push(Digest::default())));
    head
}

fn keys(mut append: Append, claim: &[&str], release: &[&str]) -> Append {
    append.claim = claim.iter().map(|&key| key.to_owned()).collect();
    append.release = release.iter().map(|&key| key.to_owned()).collect();
    append
}

#[test]
fn each_append_sees_the_ones_before_it() {
    let mut batch = Batch::new(Found { head: at(10), ..Found::default() });
    let first = batch.admit(&append(1, 1, 0, 2)).unwrap();
    assert_eq!((first.first, first.last, first.replayed), (11, 12, false));
    let stale = batch.admit(&append(2, 1, 0, 1)).unwrap_err();
    assert_eq!(stale, AppendError::Conflict { stream: stream(1), actual: 2 });
    let second = batch.admit(&append(3, 1, 2, 1)).unwrap();
    assert_eq!((second.first, second.last), (13, 13));
    let places: Vec<_> = batch
        .events
        .iter()
        .map(|row| &row.envelope)
        .map(|event| (event.position, event.revision))
        .collect();
    assert_eq!(places, [(11, 1), (12, 2), (13, 3)]);
    assert_eq!(batch.streams, [(stream(1), 3)].into());
}

#[test]
fn a_refused_append_leaves_nothing_behind() {
    let mut batch = Batch::new(Found { claims: ["a".to_owned()].into(), ..Found::default() });
    let claimed = batch.admit(&keys(append(1, 1, 0, 1), &["b", "a"], &[])).unwrap_err();
    assert_eq!(claimed, AppendError::Claimed { key: "a".to_owned() });
    assert_eq!((batch.head().position, batch.events.len(), batch.keys.len()), (0, 0, 0));
    assert!(batch.commands.is_empty());
    batch.admit(&keys(append(2, 1, 0, 1), &["b"], &[])).unwrap();
}

#[test]
fn a_command_repeated_within_a_batch_is_stored_once() {
    let mut batch = Batch::new(Found::default());
    let first = batch.admit(&append(1, 1, 0, 1)).unwrap();
    let again = batch.admit(&append(1, 1, 0, 1)).unwrap();
    assert_eq!(again, Appended { replayed: true, ..first });
    let mut other = append(1, 1, 0, 1);
    other.request_hash = Digest::of(b"something else");
    assert_eq!(batch.admit(&other).unwrap_err(), AppendError::CommandReused);
    assert_eq!(batch.events.len(), 1);
}

#[test]
fn keys_end_where_the_last_append_left_them() {
    let mut batch = Batch::new(Found { claims: ["a".to_owned()].into(), ..Found::default() });
    batch.admit(&keys(append(1, 1, 0, 1), &[], &["a"])).unwrap();
    batch.admit(&keys(append(2, 2, 0, 1), &["a", "b"], &[])).unwrap();
    batch.admit(&keys(append(3, 2, 1, 1), &["b"], &["b"])).unwrap();
    batch.admit(&keys(append(4, 2, 2, 1), &[], &["a"])).unwrap();
    let ends: Vec<_> = batch.keys.into_iter().collect();
    assert_eq!(ends, [("a".to_owned(), None), ("b".to_owned(), Some(Uuid::from_u128(3)))]);
}

#[test]
fn a_key_cannot_be_claimed_twice_at_once() {
    let mut batch = Batch::new(Found::default());
    let twice = batch.admit(&keys(append(1, 1, 0, 1), &["a", "a"], &[])).unwrap_err();
    assert_eq!(twice, AppendError::Claimed { key: "a".to_owned() });
}

#[test]
fn an_append_without_events_is_remembered_at_the_head() {
    let mut batch = Batch::new(Found { head: at(7), ..Found::default() });
    let appended = batch.admit(&append(1, 1, 0, 0)).unwrap();
    assert_eq!((appended.first, appended.last), (8, 7));
    assert_eq!((batch.head().position, batch.commands.len(), batch.streams.len()), (7, 1, 0));
}

#[test]
fn the_tree_moves_with_what_is_admitted_and_with_nothing_else() {
    let mut batch = Batch::new(Found { head: at(254), ..Found::default() });
    batch.admit(&append(1, 1, 0, 3)).unwrap();
    batch.admit(&append(2, 1, 0, 1)).unwrap_err();
    let mut expected = at(254).frontier;
    let completed: Vec<_> = batch.events.iter().flat_map(|row| expected.push(row.leaf)).collect();
    assert_eq!(batch.head().frontier, expected);
    assert_eq!(completed.iter().map(|tile| (tile.level, tile.index)).collect::<Vec<_>>(), [(0, 0)]);
    assert_eq!(batch.completed, completed);
    assert!(batch.events.iter().all(|row| row.leaf == entry::leaf(&row.envelope)));
}
