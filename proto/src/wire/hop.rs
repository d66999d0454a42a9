//! Between a node and a relay, on ALPN `rap-hop/1`, mutually authenticated.
//!
//! Each bidirectional stream carries one [`Request`] and one [`Reply`]. A relayed flow is two UDP
//! sockets of the relay, one fixed to the asker's address and one to the target's; datagrams from
//! anywhere else never reach them. A relayed stream is two TCP connections: the asker's, which
//! begins with the ticket that it was given, and the relay's own to the target.
//!
//! A path over several relays is set up by the relays themselves: each one asks the next for what
//! is left of it, and what that one answers takes the target's place.

use serde::{Deserialize, Serialize};

use crate::{Lane, NodeId, OrganizationId, refusal::Refusal};

/// The most relays of one path.
pub const MAX_HOPS: usize = 3;

/// How long a flow lives without a refresh.
pub const FLOW_TTL_MS: u64 = 30_000;
/// How long the ticket of a stream waits for its connection.
pub const TICKET_TTL_MS: u64 = 5_000;

/// What is left of a path behind the relay that is asked for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Onward {
    /// The relays after that one, in their order: fewer than [`MAX_HOPS`], none twice. Each relay
    /// tells the next one fewer than it was told, and the last is told none.
    pub relays: Vec<NodeId>,
    pub target: NodeId,
    pub lane: Lane,
    /// Each relay asks its own snapshot whether it, its asker and whom it asks are for these.
    pub organization: OrganizationId,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// Relay between the asker and `target`. The asker sends from `from_port` of the address
    /// that this hop connection comes from.
    SetUpFlow {
        target: NodeId,
        lane: Lane,
        from_port: u16,
    },
    /// Keep a flow of this asker for another [`FLOW_TTL_MS`].
    RefreshFlow {
        flow: u64,
    },
    CloseFlow {
        flow: u64,
    },
    /// Relay one TCP connection between the asker and `target`, for as long as both sides keep it.
    SetUpStream {
        target: NodeId,
        lane: Lane,
    },
    /// [`Self::SetUpFlow`] on a path of several relays: of an entry, or of the relay before.
    SetUpFlowOnward {
        onward: Onward,
        from_port: u16,
    },
    /// [`Self::SetUpStream`] on such a path.
    SetUpStreamOnward {
        onward: Onward,
    },
}

impl Request {
    /// Whether it is about a path of several relays: the asked one may ask the next before it answers.
    pub const fn leads_on(&self) -> bool {
        matches!(self, Self::SetUpFlowOnward { .. } | Self::SetUpStreamOnward { .. })
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    /// Send to `port` of the relay's address.
    FlowReady {
        flow: u64,
        port: u16,
    },
    Done,
    Refused(Refusal),
    /// Connect to the relay within [`TICKET_TTL_MS`], from the address that this hop connection
    /// comes from, and send [`super::PREAMBLE`] and the ticket. It counts once.
    StreamReady {
        #[serde(with = "serde_bytes")]
        ticket: [u8; 32],
    },
    /// A relay further on refused, or did not answer the one before it.
    RefusedOnward {
        /// How many relays behind the asked one: from 1, less than [`MAX_HOPS`].
        hop: u8,
        refusal: Refusal,
    },
}
