use std::sync::Arc;

use rap_proto::Digest;
use rap_tlog::{
    Frontier, TileId,
    proof::{check_consistency, check_inclusion},
    tile::{Content, WIDTH, bundle_from_bytes, hashes_from_bytes},
};

use super::{all, command, head, stored, with_keys, write};
use crate::{
    entry,
    log::{AppendError, Log, MAX_EVENTS_PER_APPEND, MAX_READ_EVENTS},
    tree::{TreeError, frontier_at, prove_consistency, prove_inclusion, read_tile},
};

pub(super) async fn the_tree_grows_with_the_log(log: Arc<dyn Log>) {
    let mut expected = Frontier::default();
    assert_eq!(frontier(&log).await, expected);
    for number in 1..=20 {
        let texts = vec!["a"; usize::try_from(number % 4).expect("a small number")];
        stored(&log, command(number, vec![write(number, 0, &texts)])).await;
        let events = log.read(expected.size(), MAX_READ_EVENTS).await.expect("the log is read");
        events.iter().for_each(|event| drop(expected.push(entry::leaf(event))));
        assert_eq!(frontier(&log).await, expected);
    }
    assert_eq!(expected.size(), head(&log).await);
}

pub(super) async fn what_stores_nothing_leaves_the_tree(log: Arc<dyn Log>) {
    let append = with_keys(command(1, vec![write(1, 0, &["a"])]), &["name/a"], &[]);
    stored(&log, append.clone()).await;
    let before = frontier(&log).await;
    stored(&log, append).await;
    stored(&log, command(2, Vec::new())).await;
    let conflict = log.append(command(3, vec![write(1, 0, &["b"])])).await;
    assert!(matches!(conflict, Err(AppendError::Conflict { .. })));
    let taken = with_keys(command(4, vec![write(2, 0, &["b"])]), &["name/a"], &[]);
    assert!(matches!(log.append(taken).await, Err(AppendError::Claimed { .. })));
    assert_eq!(frontier(&log).await, before);
}

pub(super) async fn full_tiles_become_hashes_of_the_next_level(log: Arc<dyn Log>) {
    let expected = fill(&log, 2 * u128::from(WIDTH) + 3).await;
    assert_eq!(frontier(&log).await, expected.frontier);
    assert_eq!(hashes(&log, 0, 0).await, expected.leaves[..256]);
    assert_eq!(hashes(&log, 0, 512).await, expected.leaves[512..]);
    assert_eq!(hashes(&log, 1, 0).await, expected.tiles);
    assert_eq!(hashes(&log, 1, 1).await, expected.tiles[1..]);
    assert_eq!(hashes(&log, 2, 0).await, []);
    assert_eq!(hashes(&log, 0, 600).await, []);
}

pub(super) async fn tiles_hold_what_was_stored(log: Arc<dyn Log>) {
    let expected = fill(&log, u128::from(WIDTH) + 2).await;
    let tile = |content, index, width| TileId { content, index, width };
    let leaves = Content::Hashes { level: 0 };
    let bytes = read_tile(log.as_ref(), tile(leaves, 1, 2)).await.expect("a tile");
    assert_eq!(hashes_from_bytes(&bytes).expect("whole hashes"), expected.leaves[256..]);
    let bytes = read_tile(log.as_ref(), tile(Content::Entries, 0, 256)).await.expect("a tile");
    let entries = bundle_from_bytes(&bytes).expect("a bundle");
    let events = all(&log).await;
    for ((bytes, event), leaf) in entries.iter().zip(&events).zip(&expected.leaves) {
        assert_eq!(entry::decode(bytes), Ok(event.into()));
        assert_eq!(rap_tlog::leaf_hash(bytes), *leaf);
    }
    for absent in [
        tile(leaves, 1, 3),
        tile(leaves, 2, 1),
        tile(Content::Entries, 1, 3),
        tile(Content::Hashes { level: 1 }, 0, 2),
        tile(Content::Hashes { level: 7 }, 0, 1),
    ] {
        let missing = read_tile(log.as_ref(), absent).await;
        assert_eq!(missing, Err(TreeError::NoSuchTile), "{}", absent.path());
    }
}

pub(super) async fn every_event_and_every_earlier_tree_is_proven(log: Arc<dyn Log>) {
    let expected = fill(&log, u128::from(WIDTH) + 9).await;
    let (size, root) = (expected.frontier.size(), expected.frontier.root());
    let mut earlier = Frontier::default();
    for (leaf, position) in expected.leaves.iter().zip(1..) {
        earlier.push(*leaf);
        if position % 37 != 1 && position % u64::from(WIDTH) > 1 {
            continue;
        }
        assert_eq!(frontier_at(log.as_ref(), position).await.as_ref(), Ok(&earlier));
        let proof = prove_inclusion(log.as_ref(), position, size).await.expect("it is there");
        check_inclusion(&proof, (size, &root), (position - 1, leaf)).expect("the proof holds");
        let proof = prove_consistency(log.as_ref(), position, size).await.expect("it is earlier");
        let before = (position, &earlier.root());
        check_consistency(&proof, before, (size, &root)).expect("the proof holds");
    }
    for position in [0, size + 1] {
        let none = prove_inclusion(log.as_ref(), position, size).await;
        assert!(matches!(none, Err(TreeError::Prove(_))), "{position}");
    }
    assert_eq!(frontier_at(log.as_ref(), 0).await, Ok(Frontier::default()));
    let later = frontier_at(log.as_ref(), size + 1).await;
    assert_eq!(later, Err(TreeError::NoSuchTile));
    let later = prove_consistency(log.as_ref(), size + 1, size).await;
    assert!(matches!(later, Err(TreeError::Prove(_))));
}

/// What the tree over some events must be.
struct Expected {
    leaves: Vec<Digest>,
    /// The roots of the full tiles of leaf hashes.
    tiles: Vec<Digest>,
    frontier: Frontier,
}

/// Stores `count` events in few appends.
async fn fill(log: &Arc<dyn Log>, count: u128) -> Expected {
    let events: Vec<String> = (0..count).map(|number| number.to_string()).collect();
    let texts: Vec<&str> = events.iter().map(String::as_str).collect();
    for (chunk, number) in texts.chunks(MAX_EVENTS_PER_APPEND - 56).zip(1_000..) {
        stored(log, command(number, vec![write(number, 0, chunk)])).await;
    }
    let leaves: Vec<Digest> = all(log).await.iter().map(entry::leaf).collect();
    let mut frontier = Frontier::default();
    let completed = leaves.iter().flat_map(|leaf| frontier.push(*leaf)).collect::<Vec<_>>();
    let tiles = completed.iter().map(|tile| tile.root).collect();
    Expected { leaves, tiles, frontier }
}

async fn frontier(log: &Arc<dyn Log>) -> Frontier {
    log.frontier().await.expect("the log has a tree")
}

async fn hashes(log: &Arc<dyn Log>, level: u8, first: u64) -> Vec<Digest> {
    log.hashes(level, first, WIDTH).await.expect("the tree can be read")
}
