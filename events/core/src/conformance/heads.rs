//! What every place for sealed heads must do.

use std::sync::Arc;

use rap_proto::{NodeId, Timestamp};
use rap_tlog::cosignature::MAX_COSIGNATURES;

use crate::heads::{Heads, MAX_READ_HEADS, MAX_SEALED_HEADS};

const AT: Timestamp = Timestamp::from_unix_millis(1_700_000_000_123);

/// Runs over an empty place.
pub async fn run(heads: Arc<dyn Heads>) {
    nothing_is_sealed_at_first(&heads).await;
    a_sealed_head_stays_as_it_is(&heads).await;
    cosignatures_belong_to_a_head_and_a_node(&heads).await;
    only_so_many_cosignatures_are_kept(&heads).await;
    the_oldest_heads_go_first(&heads).await;
}

async fn seal(heads: &Arc<dyn Heads>, size: u64, note: &str) {
    heads.seal(size, note.as_bytes().to_vec(), AT).await.expect("it is kept");
}

async fn cosign(heads: &Arc<dyn Heads>, size: u64, node: u128, line: &str) {
    let line = line.as_bytes().to_vec();
    heads.cosign(size, NodeId::from_u128(node), line).await.expect("it is kept or left out");
}

async fn sizes(heads: &Arc<dyn Heads>, below: Option<u64>, limit: usize) -> Vec<u64> {
    let found = heads.heads(below, limit).await.expect("heads are read");
    found.iter().map(|head| head.size).collect()
}

async fn nothing_is_sealed_at_first(heads: &Arc<dyn Heads>) {
    assert_eq!(sizes(heads, None, 10).await, [0; 0]);
    cosign(heads, 7, 1, "of no head").await;
    assert_eq!(sizes(heads, None, 10).await, [0; 0]);
}

async fn a_sealed_head_stays_as_it_is(heads: &Arc<dyn Heads>) {
    for (size, note) in [(3, "three"), (8, "eight"), (5, "five"), (3, "another three")] {
        seal(heads, size, note).await;
    }
    assert_eq!(sizes(heads, None, 10).await, [8, 5, 3]);
    assert_eq!(sizes(heads, Some(8), 1).await, [5]);
    let found = heads.heads(Some(4), 10).await.expect("heads are read");
    assert_eq!((found.len(), found[0].note.as_slice(), found[0].sealed_at), (1, &b"three"[..], AT));
}

async fn cosignatures_belong_to_a_head_and_a_node(heads: &Arc<dyn Heads>) {
    for (size, node, line) in [(5, 2, "b\n"), (5, 1, "old\n"), (5, 1, "a\n"), (8, 1, "c\n")] {
        cosign(heads, size, node, line).await;
    }
    let found = heads.heads(None, 10).await.expect("heads are read");
    let checkpoints: Vec<String> = found
        .iter()
        .map(|head| String::from_utf8(head.checkpoint()).expect("these are texts"))
        .collect();
    assert_eq!(checkpoints, ["eightc\n", "fivea\nb\n", "three"]);
}

async fn only_so_many_cosignatures_are_kept(heads: &Arc<dyn Heads>) {
    for node in 0..=MAX_COSIGNATURES as u128 {
        cosign(heads, 8, node + 1, "line\n").await;
    }
    cosign(heads, 8, 1, "anew\n").await;
    let found = heads.heads(None, 1).await.expect("heads are read");
    assert_eq!(found[0].cosignatures.len(), MAX_COSIGNATURES);
    assert_eq!(found[0].cosignatures[&NodeId::from_u128(1)], b"anew\n", "it had a place");
}

async fn the_oldest_heads_go_first(heads: &Arc<dyn Heads>) {
    let last = MAX_SEALED_HEADS as u64 + 8;
    for size in 9..=last {
        seal(heads, size, "note").await;
    }
    assert_eq!(sizes(heads, None, usize::MAX).await.len(), MAX_READ_HEADS);
    assert_eq!(sizes(heads, Some(10), 10).await, [9], "as many as are kept");
    seal(heads, last + 1, "note").await;
    assert_eq!(sizes(heads, Some(11), 10).await, [10]);
}
