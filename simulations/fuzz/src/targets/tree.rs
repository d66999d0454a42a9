//! What an auditor and a node read of the log's tree: notes, keys, proofs, paths, bundles.

use rap_events::entry;
use rap_proto::wire::node_api::{TreeReply, TreeRequest};
use rap_proto::{ClusterId, Digest, wire::node_api::MAX_BODY_BYTES};
use rap_tlog::{
    Frontier, ProofFile, TileId, TreeHead, VerifierKey, WitnessVerifier,
    proof::{check_consistency, check_inclusion},
    tile::{bundle_from_bytes, bundle_to_bytes, hashes_from_bytes},
};

use crate::round_trip::{check, choose};

/// The log of the golden tree head, and the key that signed it.
const CLUSTER: ClusterId = ClusterId::from_u128(3);

pub fn target(data: &[u8]) {
    choose(
        &[
            head,
            key,
            proof_file,
            path,
            bundle,
            entry_of,
            proofs,
            frontier,
            check::<TreeRequest, MAX_BODY_BYTES>,
            check::<TreeReply, MAX_BODY_BYTES>,
            cosigned,
        ],
        data,
    );
}

/// Nothing is believed that nobody signed: only the golden note has a known signature.
fn head(bytes: &[u8]) {
    let text = include_str!("../../../../proto/tlog/golden/keys.txt");
    let keys: Vec<VerifierKey> =
        text.lines().map(|line| line.parse().expect("a golden key")).collect();
    if let Ok(head) = TreeHead::open(bytes, CLUSTER, &keys) {
        assert_eq!((head.cluster, head.size), (CLUSTER, 42));
    }
}

/// Nor is anybody said to have co-signed who did not: the golden witness did so once.
fn cosigned(bytes: &[u8]) {
    let golden = include_str!("../../../../proto/tlog/golden/cosigned.txt");
    let witness = golden.lines().next().and_then(|line| line.parse::<WitnessVerifier>().ok());
    if let Ok(Some(found)) = witness.expect("a golden key").find(bytes) {
        assert_eq!(found.at.unix_millis(), 1_700_000_000_000);
    }
}

fn key(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(key) = text.parse::<VerifierKey>() {
        assert_eq!(key.to_string(), text);
    }
    if let Ok(key) = text.parse::<WitnessVerifier>() {
        assert_eq!(key.to_string(), text);
    }
}

fn proof_file(bytes: &[u8]) {
    if let Ok(file) = ProofFile::from_bytes(bytes) {
        assert_eq!(ProofFile::from_bytes(&file.to_bytes()), Ok(file));
    }
}

fn path(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(tile) = TileId::from_path(text) {
        assert_eq!(tile.path(), text);
        assert!(!text.contains("..") && text.starts_with("tile/"));
    }
}

fn bundle(bytes: &[u8]) {
    if let Ok(entries) = bundle_from_bytes(bytes) {
        assert_eq!(bundle_to_bytes(entries).as_deref(), Ok(bytes));
    }
}

fn entry_of(bytes: &[u8]) {
    if let Ok(entry) = entry::decode(bytes) {
        assert_eq!(entry::decode(bytes), Ok(entry), "decoding is the same every time");
    }
}

/// Sizes of sixteen bytes, then two roots, then hashes: no proof of it may hold or panic.
fn proofs(bytes: &[u8]) {
    let Some((earlier, rest)) = bytes.split_first_chunk::<8>() else { return };
    let Some((size, rest)) = rest.split_first_chunk::<8>() else { return };
    let (earlier, size) = (u64::from_be_bytes(*earlier), u64::from_be_bytes(*size));
    let whole = rest.len() / 32 * 32;
    let Some(hashes) = hashes_from_bytes(&rest[..whole]) else { return };
    let [first, second, proof @ ..] = &hashes[..] else { return };
    let _ = check_consistency(proof, (earlier, first), (size, second));
    let _ = check_inclusion(proof, (size, second), (earlier, first));
}

fn frontier(bytes: &[u8]) {
    let Some((size, rest)) = bytes.split_first_chunk::<8>() else { return };
    let Ok(mut frontier) = Frontier::from_bytes(u64::from_be_bytes(*size), rest) else { return };
    assert_eq!(frontier.to_bytes(), rest);
    if frontier.size() < u64::MAX {
        frontier.push(Digest::of(bytes));
    }
}
