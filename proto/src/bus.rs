//! Messages on the bus: signed, because the bus is not trusted.
//!
//! The bus carries doorbells and observations, never truth: a lost message costs time and
//! nothing else. Each message names its audience, so it cannot be replayed to another; its
//! (sender, incarnation, sequence) is accepted once.

mod explained;

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::{
    Capability, ClusterId, Digest, Generation, IncarnationId, InquiryId, LeaseClass, NodeId,
    Timestamp, VpnConnectionId, beat::FIRST_AUTHORITY_EPOCH, observation::Spooled, signed::Payload,
};

pub use explained::{
    ExplainedHole, ExplainedLane, ExplainedPeer, Explanation, MAX_CLASSES, MAX_PARTS, MAX_TOLD,
    MAX_WORD_BYTES,
};

/// How long a message is acceptable after it was made.
pub const MESSAGE_TTL_MS: u64 = 30_000;
/// The most observations in one message.
pub const MAX_OBSERVATIONS: usize = 64;
/// The most connections in one lease report, and so the most that a node may carry.
pub const MAX_REPORTED_CONNECTIONS: usize = 256;

/// From a node to the control plane, signed with the node's identity key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeMessage {
    pub cluster: ClusterId,
    /// That of the snapshot which the node acts on. Releases that left it out knew the first alone.
    #[serde(default = "first_epoch")]
    pub authority_epoch: u64,
    pub sender: NodeId,
    pub incarnation: IncarnationId,
    /// Rises by at least one with each message of this incarnation.
    pub sequence: u64,
    pub issued_at: Timestamp,
    pub expires_at: Timestamp,
    pub body: NodeBody,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NodeBody {
    Heartbeat(Heartbeat),
    /// Resent until [`ControlBody::ObservationsRecorded`] covers them.
    Observations(Vec<Spooled>),
    Leases(LeaseReport),
    /// The answer to [`ControlBody::Explain`].
    Explained(Explanation),
}

/// How a node stands to the connections that it may carry: said each second and after a change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseReport {
    /// It takes no lease and gives up those that it has.
    pub draining: bool,
    /// Those that it leaves out it cannot carry.
    pub connections: Vec<ReportedConnection>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReportedConnection {
    pub connection: VpnConnectionId,
    /// It would take over: its driver was probed, and nothing is activated for that.
    pub ready: bool,
    /// The newest generation that it agreed to.
    pub floor: Generation,
    /// The generation that it holds or is about to hold.
    pub holding: Option<Generation>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heartbeat {
    pub agent_version: String,
    pub snapshot_version: u64,
    /// Of the manifest of that version, as the node verified it. Absent without a snapshot, and in
    /// what a node of a release before tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot_digest: Option<Digest>,
    pub capabilities: BTreeSet<Capability>,
    pub open_sessions: u32,
    pub draining: bool,
}

impl Payload for NodeMessage {
    const TYPE: &'static str = "application/vnd.rap.node-message.v1+msgpack";
    const MAX_BYTES: usize = 64 * 1024;
}

/// From the control plane to one node, signed with a control key of the node's snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ControlMessage {
    pub cluster: ClusterId,
    /// That of the sender's log. Releases that left it out knew the first alone.
    #[serde(default = "first_epoch")]
    pub authority_epoch: u64,
    pub audience: NodeId,
    pub incarnation: IncarnationId,
    pub sequence: u64,
    pub issued_at: Timestamp,
    pub expires_at: Timestamp,
    pub body: ControlBody,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ControlBody {
    /// A doorbell: the node asks for what it lacks.
    SnapshotAvailable { version: u64 },
    /// Every observation up to and including this one is in the log.
    ObservationsRecorded { through: u64 },
    /// A doorbell: a beat that is worth hearing before the next poll.
    BeatAvailable { sequence: u64 },
    /// The node was granted this lease. It makes nobody active: the node asks to renew first.
    LeaseOffered { connection: VpnConnectionId, generation: Generation, class: LeaseClass },
    /// Stop carrying the connection, then release the lease.
    ReleaseAsked { connection: VpnConnectionId, generation: Generation },
    /// An operator asks what the node makes of another one.
    Explain { inquiry: InquiryId, node: NodeId },
}

impl Payload for ControlMessage {
    const TYPE: &'static str = "application/vnd.rap.control-message.v1+msgpack";
    const MAX_BYTES: usize = 4 * 1024;
}

const fn first_epoch() -> u64 {
    FIRST_AUTHORITY_EPOCH
}

/// The subject on which a node speaks.
pub fn up_subject(cluster: ClusterId, node: NodeId) -> String {
    format!("rap.{cluster}.node.{node}.up")
}

/// The subject on which a node listens.
pub fn down_subject(cluster: ClusterId, node: NodeId) -> String {
    format!("rap.{cluster}.node.{node}.down")
}

/// The subject on which the control plane hears every node of a cluster.
pub fn all_up_subjects(cluster: ClusterId) -> String {
    format!("rap.{cluster}.node.*.up")
}
