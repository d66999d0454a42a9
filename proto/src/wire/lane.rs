//! Between an entry and an egress, end to end, on a lane's own connection.
//!
//! Each bidirectional stream is one channel: [`OpenFlow`], [`FlowReply`], raw bytes. The egress
//! believes the token and its own snapshot, not the entry.

use serde::{Deserialize, Serialize};

use crate::{ChannelKind, refusal::Refusal, token::Proof, wire::resume::Resume};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenFlow {
    /// The client's original token.
    #[serde(with = "serde_bytes")]
    pub token: Vec<u8>,
    /// The client's proof towards the entry: it shows that the key's holder connected.
    pub proof: Proof,
    pub channel: ChannelKind,
    #[serde(default)]
    pub traceparent: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resume: Option<Resume>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FlowReply {
    Opened,
    Refused(Refusal),
    /// Opened, or found again, as a flow that outlives this connection.
    Attached {
        received: u64,
    },
    /// There is no such flow any more.
    Gone,
}
