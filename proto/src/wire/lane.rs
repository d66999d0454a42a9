//! Between an entry and an egress, end to end, on a lane's own connection.
//!
//! Each bidirectional stream is one channel: [`OpenFlow`], [`FlowReply`], raw bytes. The egress
//! believes the token and its own snapshot, not the entry.
//!
//! A stream that begins with [`Request`] is none: by it the two look for a direct path.

use std::net::SocketAddr;

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

/// What an entry asks besides flows. A message of one key, which no [`OpenFlow`] is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// Make a hole: the egress says where its own port is seen, and knocks at what is named here,
    /// with the round's secret of this connection's keys.
    Meet { round: u32, seen: Seen },
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RequestReply {
    Met(Seen),
    Refused(Refusal),
}

/// The most addresses that one side names.
pub const MAX_ADDRESSES: usize = 4;

/// From where relays see one UDP socket.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Seen {
    /// At most [`MAX_ADDRESSES`]; of more, the first count.
    pub addresses: Vec<SocketAddr>,
    pub mapping: Mapping,
}

/// What the NATs in front of a socket do with its port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mapping {
    /// Too few relays looked.
    #[default]
    Unknown,
    /// All relays see the same port, which may be the socket's own.
    Steady,
    /// Each destination sees another.
    Symmetric,
}

impl Mapping {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Steady => "steady",
            Self::Symmetric => "symmetric",
        }
    }
}

/// The label under which both sides take a knock's secret from the lane's keys (RFC 8446, section
/// 7.5); the context is [`knock_context`].
pub const KNOCK_LABEL: &[u8] = b"EXPORTER-rap-lane-knock";

/// Who knocks: nobody's knock can be sent back to him as the other's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Knocker {
    Entry,
    Egress,
}

/// The context of a round's secret: the side, and the round in network order.
pub fn knock_context(by: Knocker, round: u32) -> [u8; 5] {
    let mut context = [0; 5];
    context[0] = match by {
        Knocker::Entry => 0,
        Knocker::Egress => 1,
    };
    context[1..].copy_from_slice(&round.to_be_bytes());
    context
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
