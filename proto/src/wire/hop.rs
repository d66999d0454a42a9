//! Between a node and a relay, on ALPN `rap-hop/1`, mutually authenticated.
//!
//! Each bidirectional stream carries one [`Request`] and one [`Reply`]; on TCP a connection does, and
//! further heartbeats may follow a heartbeat's reply. A relayed flow is two UDP
//! sockets of the relay, one fixed to the asker's address and one to the target's; datagrams from
//! anywhere else never reach them. A relayed stream is two TCP connections: the asker's, which
//! begins with the ticket that it was given, and the relay's own to the target.
//!
//! A path over several relays is set up by the relays themselves: each one asks the next for what
//! is left of it, and what that one answers takes the target's place.
//!
//! A node that nobody reaches from outside keeps one stream open: after the reply to
//! [`Request::KeepReachable`] the relay sends a [`Call`] on it whenever somebody wants that node.

use std::{fmt, net::SocketAddr};

use serde::{Deserialize, Serialize};

use crate::{Lane, NodeId, OrganizationId, refusal::Refusal};

/// The most relays of one path.
pub const MAX_HOPS: usize = 3;

/// How long a flow lives without a refresh.
pub const FLOW_TTL_MS: u64 = 30_000;
/// How long the ticket of a stream waits for its connection.
pub const TICKET_TTL_MS: u64 = 5_000;
/// How long a relay waits for what it called for.
pub const CALL_TTL_MS: u64 = 1_000;

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
    /// that this hop connection comes from. A relay that sees this connection come from another port
    /// than `hop_port` answers [`Reply::KnockHere`] first, and forwards to wherever the knock comes from.
    SetUpFlow {
        target: NodeId,
        lane: Lane,
        from_port: u16,
        /// The port of the asker's own socket that this hop connection runs on. `None` from askers
        /// that do not knock, as those of earlier releases.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        hop_port: Option<u16>,
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
        #[serde(default, skip_serializing_if = "Option::is_none")]
        hop_port: Option<u16>,
    },
    /// [`Self::SetUpStream`] on such a path.
    SetUpStreamOnward {
        onward: Onward,
    },
    /// The asker is an egress that may not be reachable from outside: after [`Reply::Done`], this
    /// stream stays open and brings [`Call`]s, until either side ends it. The newest of one node
    /// counts.
    KeepReachable {},
    /// Say from where the datagrams of one of the asker's sockets come: [`Reply::KnockHere`] is
    /// followed on the same stream by [`Reply::SeenAt`], once the asker knocked there.
    SeeMe {},
    /// Say whether you are there, and how busy. A node of an earlier release closes the stream.
    Heartbeat {},
}

impl Request {
    /// Whether it is about a path of several relays: the asked one may ask the next before it answers.
    pub const fn leads_on(&self) -> bool {
        matches!(self, Self::SetUpFlowOnward { .. } | Self::SetUpStreamOnward { .. })
    }

    /// Whether its answer may wait for somebody else: the next relay, or a node that is called.
    pub const fn may_wait(&self) -> bool {
        self.leads_on() || matches!(self, Self::SetUpFlow { .. } | Self::SeeMe {})
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
    /// Send [`knock`] of `secret` to `port` of the relay's address within [`CALL_TTL_MS`], from the
    /// address that this hop connection comes from.
    KnockHere {
        port: u16,
        #[serde(with = "serde_bytes")]
        secret: [u8; 16],
    },
    /// The knock came from there.
    SeenAt {
        address: SocketAddr,
    },
    /// What the asked one says of itself; nobody proves it.
    Here {
        /// Of 1,000, how much of what it can forward is taken.
        load: u16,
        /// What it forwards at the most for one asker, in kbit/s.
        bandwidth_kbps: u32,
    },
}

/// What a relay wants of a node that keeps itself reachable there. Nothing is answered on the
/// stream: what is asked for arrives elsewhere, or does not.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Call {
    /// Send [`knock`] of `secret` to `port` of the relay's address, from the UDP port that lanes
    /// come in on: the relay forwards to wherever it comes from.
    Knock {
        port: u16,
        #[serde(with = "serde_bytes")]
        secret: [u8; 16],
    },
    /// The knock at `port` was heard, or is not waited for any more.
    Heard { port: u16 },
    /// Connect to the relay's TCP port within [`CALL_TTL_MS`], send [`super::PREAMBLE`] and the
    /// ticket, and serve what comes as if it had been accepted.
    ConnectBack {
        #[serde(with = "serde_bytes")]
        ticket: [u8; 32],
    },
}

/// Neither the secret nor the ticket.
impl fmt::Debug for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Knock { port, .. } => {
                f.debug_struct("Knock").field("port", port).finish_non_exhaustive()
            }
            Self::Heard { port } => f.debug_struct("Heard").field("port", port).finish(),
            Self::ConnectBack { .. } => f.debug_struct("ConnectBack").finish_non_exhaustive(),
        }
    }
}

/// The bytes of a knock: too few for a stateless reset (RFC 9000, section 10.3), so that whoever
/// gets it by mistake stays silent.
pub const KNOCK_BYTES: usize = 20;
/// What a knock begins with: nothing that QUIC begins with, and what whoever shares a port between
/// protocols drops (RFC 9443, section 3).
const KNOCK_PREFIX: [u8; 4] = *b"\x0bRAP";

/// The datagram that shows a relay where a node's datagrams come from.
pub fn knock(secret: &[u8; 16]) -> [u8; KNOCK_BYTES] {
    let mut datagram = [0; KNOCK_BYTES];
    datagram[..KNOCK_PREFIX.len()].copy_from_slice(&KNOCK_PREFIX);
    datagram[KNOCK_PREFIX.len()..].copy_from_slice(secret);
    datagram
}
