use bytes::Bytes;
use rap_proto::{ClusterId, CommandId, Digest, Timestamp};
use rap_tlog::{Frontier, TileId, TreeHead, leaf_hash, tile::Content};
use uuid::Uuid;

use crate::{
    entry,
    export::{Flaw, Verification},
    log::{Actor, Envelope, StreamId},
};

fn envelope(position: u64) -> Envelope {
    Envelope {
        position,
        // Three streams in turn.
        stream: StreamId::new("thing", Uuid::from_u128(u128::from(position % 3))),
        revision: (position - 1) / 3 + 1,
        event_type: "thing.happened".to_owned(),
        schema: 1,
        payload: Bytes::from(position.to_be_bytes().to_vec()),
        organization: None,
        actor: Actor::Setup,
        allowed: None,
        command: CommandId::from_u128(u128::from(position)),
        causation: None,
        at: Timestamp::from_unix_millis(position.cast_signed()),
    }
}

/// An exported log: what its files hold.
#[derive(Clone)]
struct Export {
    entries: Vec<Vec<u8>>,
    leaves: Vec<Digest>,
    payloads: Vec<Vec<u8>>,
    above: Vec<Digest>,
    head: TreeHead,
}

impl Export {
    fn of(envelopes: &[Envelope]) -> Self {
        let entries: Vec<_> = envelopes.iter().map(entry::encode).collect();
        let leaves: Vec<_> = entries.iter().map(|entry| leaf_hash(entry)).collect();
        let mut frontier = Frontier::default();
        let above = leaves.iter().flat_map(|leaf| frontier.push(*leaf)).map(|tile| tile.root);
        let above = above.collect();
        let (size, root) = (frontier.size(), frontier.root());
        let payloads = envelopes.iter().map(|event| event.payload.to_vec()).collect();
        let head = TreeHead { cluster: ClusterId::from_u128(1), size, root, said_epoch: Some(1) };
        Self { entries, leaves, payloads, above, head }
    }

    fn of_size(size: u64) -> Self {
        Self::of(&(1..=size).map(envelope).collect::<Vec<_>>())
    }

    fn verify(&self, known: Option<TreeHead>) -> Result<TreeHead, Flaw> {
        let mut verification = Verification::new(self.head.clone(), known);
        for (number, entry) in self.entries.iter().enumerate() {
            let payload = self.payloads.get(number).map(Vec::as_slice);
            verification.take(entry, self.leaves.get(number), payload)?;
        }
        let is_whole = verification.taken() == self.head.size;
        for tile in verification.tiles_above().into_iter().filter(|_| is_whole) {
            verification.check_tile(tile, &self.above)?;
        }
        verification.finish()
    }
}

const SIZE: u64 = 300;

#[test]
fn an_untouched_export_is_what_it_says() {
    let export = Export::of_size(SIZE);
    assert_eq!(export.verify(None), Ok(export.head.clone()));
    assert_eq!(Export::of_size(0).verify(None).map(|head| head.size), Ok(0));
    let known = Export::of_size(7).head;
    assert_eq!(export.verify(Some(known)), Ok(export.head));
}

#[test]
fn one_flipped_byte_is_found_at_its_position() {
    let export = Export::of_size(SIZE);
    for position in [1, 2, 255, 256, 257, SIZE] {
        let index = usize::try_from(position - 1).unwrap();
        let mut changed = export.clone();
        let last = changed.entries[index].len() - 1;
        changed.entries[index][last] ^= 1;
        assert_eq!(changed.verify(None), Err(Flaw::NotTheLeaf { position }));
        let mut changed = export.clone();
        changed.payloads[index][7] ^= 1;
        assert_eq!(changed.verify(None), Err(Flaw::Payload { position }));
        let mut changed = export.clone();
        changed.leaves[index] = Digest::of(b"other");
        assert_eq!(changed.verify(None), Err(Flaw::NotTheLeaf { position }));
    }
    let mut changed = export;
    changed.above[0] = Digest::of(b"other");
    let tile = "tile/1/000.p/1".to_owned();
    assert_eq!(changed.verify(None), Err(Flaw::Tile { tile, position: 1 }));
}

#[test]
fn a_removed_and_a_reordered_event_are_found_although_the_tiles_were_made_anew() {
    let events: Vec<_> = (1..=SIZE).map(envelope).collect();
    let mut removed = events.clone();
    removed.remove(99);
    let removed = Export::of(&removed);
    assert_eq!(removed.verify(None), Err(Flaw::Misplaced { position: 100, found: 101 }));
    let mut reordered = events.clone();
    reordered.swap(99, 100);
    let reordered = Export::of(&reordered);
    assert_eq!(reordered.verify(None), Err(Flaw::Misplaced { position: 100, found: 101 }));
    // Positions were written anew, too: the stream tells.
    let mut renumbered = events;
    renumbered.remove(99);
    for (event, position) in renumbered.iter_mut().zip(1..) {
        event.position = position;
    }
    let stream = envelope(100).stream;
    let found = Flaw::Revision { position: 102, stream, due: 34, found: 35 };
    assert_eq!(Export::of(&renumbered).verify(None), Err(found));
}

#[test]
fn a_truncated_log_is_found_at_its_end() {
    let mut export = Export::of_size(SIZE);
    export.entries.truncate(200);
    let missing = Flaw::Missing { position: 201, size: SIZE };
    assert_eq!(export.verify(None), Err(missing));
    // With a head of its own it is a whole log, but not the one that was known.
    let known = Some(Export::of_size(SIZE).head);
    let missing = Flaw::Missing { position: 201, size: SIZE };
    assert_eq!(Export::of_size(200).verify(known), Err(missing));
}

#[test]
fn a_forked_log_is_not_the_one_that_was_known() {
    let mut events: Vec<_> = (1..=SIZE).map(envelope).collect();
    events[149].payload = Bytes::from_static(b"another history");
    let forked = Export::of(&events);
    assert_eq!(forked.verify(None), Ok(forked.head.clone()), "it is a log of its own");
    let known = Some(Export::of_size(200).head);
    assert_eq!(forked.verify(known), Err(Flaw::Forked { size: 200 }));
    let before = Some(Export::of_size(149).head);
    assert_eq!(forked.verify(before), Ok(forked.head));
}

#[test]
fn an_earlier_head_that_came_with_the_export_must_be_of_the_same_tree() {
    let export = Export::of_size(10);
    let verify = |earlier: &[TreeHead]| {
        let mut verification = Verification::new(export.head.clone(), None);
        earlier.iter().try_for_each(|earlier| verification.expect(earlier))?;
        for (entry, leaf) in export.entries.iter().zip(&export.leaves) {
            verification.take(entry, Some(leaf), None)?;
        }
        verification.finish()
    };
    let (empty, before) = (Export::of_size(0).head, Export::of_size(7).head);
    let all = [empty.clone(), before.clone(), before.clone(), export.head.clone()];
    assert_eq!(verify(&all), Ok(export.head.clone()));
    for size in [0, 7, 10] {
        let other = TreeHead { size, root: Digest::of(b"other"), ..before.clone() };
        assert_eq!(verify(&[empty.clone(), before.clone(), other]), Err(Flaw::Forked { size }));
    }
}

#[test]
fn a_head_of_another_tree_is_found() {
    let mut export = Export::of_size(10);
    export.head.root = Digest::of(b"other");
    assert_eq!(export.verify(None), Err(Flaw::Root { size: 10 }));
    let mut export = Export::of_size(10);
    export.head = Export::of_size(9).head;
    assert_eq!(export.verify(None), Err(Flaw::Root { size: 9 }));
}

#[test]
fn what_is_no_entry_is_told_apart_when_the_tree_commits_to_it() {
    let mut export = Export::of_size(3);
    export.entries[1] = b"no entry".to_vec();
    assert_eq!(export.verify(None), Err(Flaw::NotTheLeaf { position: 2 }));
    export.leaves[1] = leaf_hash(b"no entry");
    let found = export.verify(None);
    assert!(matches!(found, Err(Flaw::Unreadable { position: 2, .. })), "{found:?}");
}

#[test]
fn the_tiles_above_are_those_of_the_head() {
    let head = TreeHead { size: 70_000, ..Export::of_size(1).head };
    let tiles = Verification::new(head, None).tiles_above();
    let levels = |of: u8| {
        tiles.iter().filter(move |tile| tile.content == Content::Hashes { level: of }).count()
    };
    assert_eq!((levels(0), levels(1), levels(2)), (0, 2, 1));
    assert!(tiles.iter().all(|tile: &TileId| tile.fits(70_000)));
}
