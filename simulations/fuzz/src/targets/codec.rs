//! The codec itself: depth, lengths, trailing bytes.

use std::collections::BTreeMap;

use rap_proto::{codec, wire};
use serde::{Deserialize, Serialize};

use crate::round_trip::{check, choose};

const LIMIT: usize = crate::MAX_INPUT_BYTES;

/// A value that nests as deep as its bytes say.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Tree {
    children: Vec<Tree>,
}

pub fn target(data: &[u8]) {
    choose(
        &[
            deep,
            check::<BTreeMap<String, Vec<u64>>, LIMIT>,
            check::<Vec<String>, LIMIT>,
            check::<Vec<(i64, Option<bool>)>, LIMIT>,
            trailing,
            frame_head,
        ],
        data,
    );
}

fn deep(bytes: &[u8]) {
    if let Ok(tree) = codec::decode::<Tree>(bytes, LIMIT) {
        assert!(depth(&tree) <= codec::MAX_DEPTH, "deeper than {}", codec::MAX_DEPTH);
    }
    check::<Tree, LIMIT>(bytes);
}

fn depth(tree: &Tree) -> usize {
    1 + tree.children.iter().map(depth).max().unwrap_or(0)
}

/// A value followed by anything is no value.
fn trailing(bytes: &[u8]) {
    if codec::decode::<Vec<u64>>(bytes, LIMIT).is_ok() {
        let longer = [bytes, &[0xc0]].concat();
        assert!(codec::decode::<Vec<u64>>(&longer, LIMIT).is_err());
        let shorter = &bytes[..bytes.len() - 1];
        assert!(codec::decode::<Vec<u64>>(shorter, LIMIT).is_err());
    }
}

fn frame_head(bytes: &[u8]) {
    let Some((head, _)) = bytes.split_first_chunk::<4>() else { return };
    match wire::frame_length(*head) {
        Ok(length) => assert!(length <= wire::MAX_FRAME_BYTES),
        Err(_) => assert!(u32::from_be_bytes(*head) as usize > wire::MAX_FRAME_BYTES),
    }
}
