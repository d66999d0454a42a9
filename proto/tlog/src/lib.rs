//! The Merkle tree over the log, as RFC 6962 (section 2.1) defines it with SHA-256.
//!
//! Leaf `n` is the event at position `n + 1`. The log's own transaction moves the tree's
//! [`Frontier`]; everything else follows from stored leaf hashes: [`tile`]s in the layout of
//! C2SP `tlog-tiles`, [`proof`]s cut from them, and [`head`]s, which are C2SP signed notes.
//!
//! The arithmetic and the note format are those of the crates `tlog_tiles` and `signed_note`;
//! this crate gives them our types, a P-256 signature line, and plans: which tiles a proof needs,
//! so that a caller can read them before it asks for the proof. It is pure.

pub mod cosignature;
pub mod frontier;
pub mod head;
pub mod proof;
pub mod proof_file;
pub mod tile;

use rap_proto::Digest;
use tlog_tiles::Hash;

pub use cosignature::{Cosignature, WitnessKey, WitnessVerifier};
pub use frontier::{Completed, Frontier};
pub use head::{HeadKey, OpenHeadError, TreeHead, VerifierKey};
pub use proof_file::ProofFile;
pub use tile::TileId;

/// The hash of a leaf that holds `entry`.
pub fn leaf_hash(entry: &[u8]) -> Digest {
    digest(tlog_tiles::record_hash(entry))
}

const fn digest(hash: Hash) -> Digest {
    Digest::from_bytes(hash.0)
}

const fn hash(digest: &Digest) -> Hash {
    Hash(*digest.as_bytes())
}

#[cfg(test)]
mod tests;
