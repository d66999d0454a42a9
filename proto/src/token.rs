//! The access token: short-lived permission for one attachment, bound to the client's key.
//!
//! Control signs it, the client carries it, the entry checks it with the client's proof and
//! passes the original on, and the egress agent checks it again against its own snapshot. It can
//! be checked wholly offline.
//!
//! The proof is the client's signature over the token and a value that only this TLS connection
//! can export (RFC 8446, section 7.5), so a token that was read somewhere else is useless.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Deserializer, Serialize};

use crate::{
    AttachmentId, ChannelKind, ClusterId, Digest, Lane, Leased, MessageId, NodeId, OrganizationId,
    PublicKey, RefusalCode, ResourceId, ResourceKind, SessionId, Signer, Timestamp, UserId,
    signed::Payload,
};

/// How long after issue a token can be used to connect.
pub const CONNECT_TTL_MS: u64 = 120_000;
/// How long after issue new channels can be opened; the client refreshes before that.
pub const GRANT_TTL_MS: u64 = 600_000;
/// How far two honest clocks may differ.
pub const CLOCK_SKEW_MS: u64 = 5_000;
/// The label under which both ends export the connection's value.
pub const EXPORTER_LABEL: &[u8] = b"EXPORTER-rap-access-token-v1";
/// The most nodes that one token names on either side.
pub const MAX_AUDIENCE: usize = 16;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccessClaims {
    pub id: MessageId,
    pub cluster: ClusterId,
    pub authority_epoch: u64,
    pub organization: OrganizationId,
    pub user: UserId,
    pub session: SessionId,
    pub attachment: AttachmentId,
    pub resource: ResourceId,
    pub kind: ResourceKind,
    /// The nodes that may accept the client.
    pub entries: BTreeSet<NodeId>,
    /// The nodes that may reach the resource, and the snapshot version that each must have.
    pub egresses: BTreeMap<NodeId, u64>,
    /// Kinds that this release does not know are left out when a token is read.
    #[serde(deserialize_with = "known_channels")]
    pub channels: BTreeMap<ChannelKind, ChannelGrant>,
    pub not_before: Timestamp,
    pub connect_by: Timestamp,
    pub expires_at: Timestamp,
    /// The key that the client proves to hold.
    pub client_key: PublicKey,
    /// The lease under which the resource is reached, where a connection carries it. Every node
    /// asks its fence before it opens a channel.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leased: Option<Leased>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChannelGrant {
    /// Lanes that this release does not know are left out when a token is read.
    #[serde(deserialize_with = "known_lanes")]
    pub lanes: BTreeSet<Lane>,
    /// How many channels of this kind may be open at once.
    pub max_open: u32,
}

/// What a node does not know it does not permit; the rest of the token counts.
fn known_channels<'de, D>(deserializer: D) -> Result<BTreeMap<ChannelKind, ChannelGrant>, D::Error>
where
    D: Deserializer<'de>,
{
    let words = BTreeMap::<String, ChannelGrant>::deserialize(deserializer)?;
    Ok(words.into_iter().filter_map(|(word, grant)| Some((word.parse().ok()?, grant))).collect())
}

fn known_lanes<'de, D>(deserializer: D) -> Result<BTreeSet<Lane>, D::Error>
where
    D: Deserializer<'de>,
{
    let words = BTreeSet::<String>::deserialize(deserializer)?;
    Ok(words.iter().filter_map(|word| word.parse().ok()).collect())
}

/// The lanes of every token for a byte stream. Another one is its own only where a rule gave it.
pub const STREAM_LANES: [Lane; 2] = [Lane::Interactive, Lane::Bulk];

impl Payload for AccessClaims {
    const TYPE: &'static str = "application/vnd.rap.access-token.v1+msgpack";
    const MAX_BYTES: usize = 8 * 1024;
}

/// A client's proof that it holds the token's key, over one TLS connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proof {
    #[serde(with = "serde_bytes")]
    pub exported: [u8; 32],
    #[serde(with = "serde_bytes")]
    pub signature: [u8; 64],
}

impl Proof {
    pub fn make(token: &[u8], exported: [u8; 32], signer: &dyn Signer) -> Self {
        Self { exported, signature: signer.sign(&Self::message(token, &exported)) }
    }

    pub fn holds(&self, token: &[u8], key: &PublicKey) -> bool {
        key.verifies(&Self::message(token, &self.exported), &self.signature)
    }

    fn message(token: &[u8], exported: &[u8; 32]) -> Vec<u8> {
        let digest = Digest::of_parts(&[b"rap proof of possession v1", exported, token]);
        digest.as_bytes().to_vec()
    }
}

impl AccessClaims {
    /// The checks of time that every node makes before it accepts a new connection.
    pub fn check_connect(&self, now: Timestamp) -> Result<(), RefusalCode> {
        self.check_open(now)?;
        if now.unix_millis() > self.connect_by.unix_millis() + CLOCK_SKEW_MS.cast_signed() {
            return Err(RefusalCode::TokenExpired);
        }
        Ok(())
    }

    /// The checks of time that every node makes before it opens a channel.
    pub fn check_open(&self, now: Timestamp) -> Result<(), RefusalCode> {
        let skew = CLOCK_SKEW_MS.cast_signed();
        let lifetime = self.expires_at.since(self.not_before);
        if lifetime.as_millis() > u128::from(GRANT_TTL_MS + 2 * CLOCK_SKEW_MS) {
            return Err(RefusalCode::Malformed);
        }
        if now.unix_millis() + skew < self.not_before.unix_millis() {
            return Err(RefusalCode::TokenNotYetValid);
        }
        if now.unix_millis() > self.expires_at.unix_millis() + skew {
            return Err(RefusalCode::TokenExpired);
        }
        Ok(())
    }

    pub fn check_channel(&self, channel: ChannelKind, lane: Lane) -> Result<(), RefusalCode> {
        match self.channels.get(&channel) {
            Some(grant) if grant.lanes.contains(&lane) => Ok(()),
            _ => Err(RefusalCode::ChannelNotPermitted),
        }
    }
}
