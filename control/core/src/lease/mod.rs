//! Which node holds which connection, and when another one may.
//!
//! | Part | Decides |
//! |---|---|
//! | [`Grantor`] | when the table is read, and what is granted, asked for and fenced |
//! | [`Watch`] | how long nobody renewed, by this process' own clock; whether the table went back |
//! | [`Nodes`] | which nodes could take a connection over |
//! | [`wishes`] | what the state says that people want |
//! | [`commands`] | what one append holds for a grant, a fence, a release |
//! | [`Reason`] | why each connection is as it is, for the operator |
//!
//! A lease is granted again only when two clocks agree that it is over: the database's, which
//! says that it ran out, and the grantor's own, on which nothing was renewed for
//! [`LeaseClass::hold_off`]. Either may be wrong on its own, and then nobody is granted anything
//! too early.
//!
//! Every [`Moment`](rap_proto::Moment) here is of CLOCK_BOOTTIME, like a holder's.

mod carriers;
pub mod commands;
mod decide;
mod grantor;
mod nodes;
mod reason;
#[cfg(test)]
mod tests;
mod watch;
pub mod wishes;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use rap_proto::{Generation, LeaseClass, NodeId, Timestamp, VpnConnectionId};

pub use carriers::{carriers, is_wanted, may_carry, may_renew};
pub use grantor::Grantor;
pub use nodes::{Nodes, Readiness};
pub use reason::Reason;
pub use watch::Watch;

/// How often the table is read, besides the moments when something is due.
pub const READ_EVERY: Duration = Duration::from_secs(1);
/// How long a read or a command may take before it is taken for lost.
pub const ANSWER_LIMIT: Duration = Duration::from_secs(2);
/// How soon a command that was answered and changed nothing is given again; each time after twice
/// as long, up to [`READ_EVERY`].
pub const COMMAND_AGAIN: Duration = Duration::from_millis(200);
/// How soon a holder that does not react is asked again for its lease, or told of it.
pub const TELL_AGAIN: Duration = Duration::from_secs(1);
/// A node that has not reported for so long is not granted anything.
pub const READY_FOR: Duration = Duration::from_secs(3);
/// A node that lost a connection unplanned comes after the others for so long, and within so
/// long a connection changes its holder unplanned at most [`MAX_LOSSES`] times.
pub const FLAP_WINDOW: Duration = Duration::from_secs(30);
/// See [`FLAP_WINDOW`].
pub const MAX_LOSSES: usize = 4;
/// The most nodes whose reports are kept.
pub const MAX_NODES: usize = 16_384;
/// The most commands that follow from one read; the others follow from the next.
pub const MAX_COMMANDS: usize = 256;
/// How long a holder that may hold its connection no longer is renewed, so that it can hand over.
pub const HAND_OVER_LIMIT: Duration = Duration::from_secs(10);

/// The lease table as one read of the database found it. All times are the database's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// Rises when another server takes over as the primary.
    pub timeline: u64,
    pub now: Timestamp,
    pub rows: BTreeMap<VpnConnectionId, Row>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    pub generation: Generation,
    pub holder: NodeId,
    /// Of the connection's stream: a command names it, and is refused when it moved.
    pub revision: u64,
    pub hold: Hold,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hold {
    Held {
        renewed_at: Timestamp,
        valid_until: Timestamp,
    },
    /// Released or fenced.
    Ended,
}

/// What people want of one connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Desired {
    pub class: LeaseClass,
    pub enabled: bool,
    /// The nodes that may hold it, the preferred ones first. Shared: those that any connector of
    /// an organization may carry have one list.
    pub nodes: Arc<[NodeId]>,
    /// The generation whose holder shall hand over to another node.
    pub drain: Option<Generation>,
}

/// Pairs a read with its result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ReadId(pub u64);

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// All connections, anew.
    Desired(BTreeMap<VpnConnectionId, Desired>),
    Read {
        read: ReadId,
        table: Table,
    },
    /// What one node says of its holders; connections that it leaves out it cannot hold.
    Reported {
        node: NodeId,
        connections: BTreeMap<VpnConnectionId, Readiness>,
    },
    /// A node takes nothing new and gives up what it has, or does so no more.
    Draining {
        node: NodeId,
        draining: bool,
    },
    /// A command of this connection was answered, whatever the answer, or its holder released it.
    Changed(VpnConnectionId),
    /// Whether this replica acts; one that does not goes on watching, so that it can take over
    /// without waiting.
    Leading(bool),
    /// Somebody with authority gave up what the database lost before it came to this timeline.
    LossAccepted {
        timeline: u64,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    Read {
        read: ReadId,
    },
    /// Command: grant, if the lease is over by the database's clock, the connection's revision
    /// is still that one (none: nothing is there yet), and so is the timeline: what was decided
    /// before a failover may rest on what the failover lost. A lease that ran out is fenced by
    /// the same command.
    Grant {
        connection: VpnConnectionId,
        node: NodeId,
        generation: Generation,
        class: LeaseClass,
        revision: Option<u64>,
        timeline: u64,
        reason: Reason,
    },
    /// Command: end a lease that ran out and that nobody takes over.
    Fence {
        connection: VpnConnectionId,
        generation: Generation,
        revision: u64,
        reason: Reason,
    },
    /// To the holder: stop, then release.
    AskRelease {
        connection: VpnConnectionId,
        node: NodeId,
        generation: Generation,
        reason: Reason,
    },
    /// To the holder, which has not said yet that it knows.
    Offer {
        connection: VpnConnectionId,
        node: NodeId,
        generation: Generation,
        class: LeaseClass,
    },
}
