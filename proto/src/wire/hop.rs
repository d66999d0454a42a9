//! Between a node and a relay, on ALPN `rap-hop/1`, mutually authenticated.
//!
//! Each bidirectional stream carries one [`Request`] and one [`Reply`]. A relayed flow is two UDP
//! sockets of the relay, one fixed to the asker's address and one to the target's; datagrams from
//! anywhere else never reach them. A relayed stream is two TCP connections: the asker's, which
//! begins with the ticket that it was given, and the relay's own to the target.

use serde::{Deserialize, Serialize};

use crate::{Lane, NodeId, refusal::Refusal};

/// How long a flow lives without a refresh.
pub const FLOW_TTL_MS: u64 = 30_000;
/// How long the ticket of a stream waits for its connection.
pub const TICKET_TTL_MS: u64 = 5_000;

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
}
