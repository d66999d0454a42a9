//! Through flows: a client's TLS connection that ends at the egress. The entry opens the way, vouches
//! for the client and joins two sockets; it sees no plaintext.
//!
//! 1. On a stream of its session the client sends [`Ask`], in the place of an `OpenChannel`. The entry
//!    checks it like a channel, reaches the egress on TCP, and answers [`Answer`].
//! 2. The client connects to the entry's TCP port with the preamble and the [`Way`]'s ticket, as nodes
//!    do at relays. What follows is TLS with the egress, ALPN [`THROUGH_ALPN`].
//! 3. There its first frame is [`OpenThrough`], and the answer a `FlowReply`.
//!
//! The stream of step 1 stays open for as long as its way is used. By it the entry says [`Word`], and
//! the client, by closing it, that it needs the way no more.

use serde::{Deserialize, Serialize};

use crate::{
    ChannelKind, ClusterId, Lane, NodeId, PublicKey, SessionId, Timestamp,
    refusal::Refusal,
    signed::Payload,
    wire::{lane::OpenFlow, resume::FlowId},
};

/// A client's connection to an egress, on TCP only.
pub const THROUGH_ALPN: &[u8] = b"rap-through/1";
/// How long a ticket waits for whoever it was given to, in milliseconds.
pub const TICKET_TTL_MS: u64 = 4_000;
/// How long a voucher counts, in milliseconds: its client connects at once.
pub const VOUCHER_TTL_MS: u64 = 30_000;

/// A message of one key, which no `OpenChannel` is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ask {
    Through(Wanted),
}

/// What a way is wanted for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wanted {
    pub channel: ChannelKind,
    pub lane: Lane,
    pub flow: FlowId,
    /// Where the flow is already. Without it, the flow is to be opened.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub egress: Option<NodeId>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    Way(Way),
    /// No flow of this kind leads there now; an ordinary channel may.
    Plain,
    Refused(Refusal),
}

/// A way to an egress that waits for its client.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Way {
    pub egress: NodeId,
    #[serde(with = "serde_bytes")]
    pub ticket: [u8; 32],
    /// A sealed [`Voucher`], for the egress.
    #[serde(with = "serde_bytes")]
    pub voucher: Vec<u8>,
}

/// What an entry says about a way that it opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Word {
    /// There is a better one, or this one is about to end: ask for another, and leave this one then.
    Leave,
}

/// An entry's word that it serves this session and admitted this flow, signed with its node key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Voucher {
    pub cluster: ClusterId,
    pub entry: NodeId,
    /// The key of the signature. The egress' snapshot says by its id whether it is the entry's.
    pub entry_key: PublicKey,
    pub egress: NodeId,
    pub session: SessionId,
    pub flow: FlowId,
    pub channel: ChannelKind,
    pub lane: Lane,
    /// After this it opens nothing.
    pub until: Timestamp,
}

impl Payload for Voucher {
    const TYPE: &'static str = "application/vnd.rap.voucher.v1+msgpack";
    const MAX_BYTES: usize = 1024;
}

/// What a client asks an egress for on a through connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenThrough {
    #[serde(with = "serde_bytes")]
    pub voucher: Vec<u8>,
    /// Its proof is over this very connection.
    pub flow: OpenFlow,
}
