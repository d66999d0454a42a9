//! What a node keeps of its peers on disk, so that it finds them again fast after a restart.
//!
//! ```text
//! {"format": 1, "peers": [{"node_id", "cluster_id", "endpoint_candidates", "roles", "region",
//!   "last_success_at", "last_latency_ms", "packet_loss", "reliability_score", "fingerprint",
//!   "policy_scope", "last_seen_config_version"}, …]}        MessagePack with named fields
//! ```
//!
//! Never a source of truth: who is a peer, with which key, roles and addresses, is the directory's
//! to say. What the directory does not name is dropped when it is read.

use std::{collections::BTreeSet, net::SocketAddr};

use rap_proto::{
    ClusterId, KeyId, Name, NodeId, NodeRole, OrganizationId, Timestamp,
    codec::{self, DecodeError},
};
use serde::{Deserialize, Serialize};

/// The format that is written.
pub const FORMAT: u32 = 1;
/// The most peers that are kept.
pub const MAX_KEPT: usize = 256;
/// The most bytes that are kept: peers that do not fit, the last ones, are left out.
pub const MAX_CACHE_BYTES: usize = 96 * 1024;
/// The most addresses that are kept of one peer.
pub const MAX_ENDPOINTS: usize = 8;

/// One peer as it was last seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptPeer {
    pub node_id: NodeId,
    pub cluster_id: ClusterId,
    pub endpoint_candidates: Vec<SocketAddr>,
    pub roles: BTreeSet<NodeRole>,
    pub region: Option<Name>,
    pub last_success_at: Option<Timestamp>,
    pub last_latency_ms: Option<u32>,
    /// Of a million.
    pub packet_loss: Option<u32>,
    /// Of a thousand.
    pub reliability_score: Option<u16>,
    /// Of the key that its certificate binds.
    pub fingerprint: KeyId,
    /// The organizations that its roles are for; `None` for all of them.
    pub policy_scope: Option<BTreeSet<OrganizationId>>,
    pub last_seen_config_version: u64,
}

/// The whole file's content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Kept {
    format: u32,
    peers: Vec<KeptPeer>,
}

/// Each of them means: begin without a cache.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeCacheError {
    #[error(transparent)]
    Content(#[from] DecodeError),
    #[error("the cache is of format {0}")]
    UnknownFormat(u32),
    #[error("the cache holds more than {MAX_KEPT} peers")]
    TooMany,
}

/// Writes as many of the peers as fit, from the front.
pub fn encode(peers: &[KeptPeer]) -> Vec<u8> {
    let mut room = MAX_CACHE_BYTES - codec::encode(&Kept { format: FORMAT, peers: vec![] }).len();
    // The length of a longer list takes more bytes.
    room -= 4;
    let fitting = peers.iter().take(MAX_KEPT).take_while(|peer| {
        let bytes = codec::encode(peer).len();
        let fits = bytes <= room;
        room = room.saturating_sub(bytes);
        fits
    });
    codec::encode(&Kept { format: FORMAT, peers: fitting.cloned().collect() })
}

pub fn decode(bytes: &[u8]) -> Result<Vec<KeptPeer>, DecodeCacheError> {
    let kept: Kept = codec::decode(bytes, MAX_CACHE_BYTES)?;
    if kept.format != FORMAT {
        return Err(DecodeCacheError::UnknownFormat(kept.format));
    }
    if kept.peers.len() > MAX_KEPT {
        return Err(DecodeCacheError::TooMany);
    }
    Ok(kept.peers)
}
