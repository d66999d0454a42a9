//! What nodes saw: facts that the control plane records, though no node decides anything by them.

use serde::{Deserialize, Serialize};

use crate::{
    OrganizationId, RefusalCode, ResourceId, SessionId, Timestamp, UserId,
    authority::AuthorityChange, paths::PathChange, term::terms,
};

/// One observation with its place in the node's spool. Positions never repeat, also across
/// restarts of the agent, so recording it twice records it once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spooled {
    pub sequence: u64,
    pub at: Timestamp,
    pub observation: Observation,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Observation {
    /// The first channel of a session reached its resource.
    SessionStarted {
        session: SessionId,
        /// Absent in what a node of the release before tells.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        from: Option<Vantage>,
    },
    /// The last channel closed and the client is gone. Only an entry can tell.
    SessionEnded { session: SessionId, reason: EndReason, bytes_up: u64, bytes_down: u64 },
    /// A node refused somebody. Only verified claims are repeated; the rest is left out.
    AccessRefused { code: RefusalCode, claimed: Option<Claimed> },
    /// A snapshot was offered that this node did not accept.
    SnapshotRefused { version: u64, code: SnapshotRefusal },
    /// A tree head was shown that this node did not accept; it had seen one of `known` events.
    LogRefused { size: u64, known: u64, code: LogRefusal },
    /// An adapter worker ended, and how many sessions ended with it.
    WorkerExited { kind: String, sessions: u32 },
    /// A lane took a direct path or left it, where the platform has that audited.
    PathChanged { change: PathChange },
    /// Control's authority ended at the node, or began again.
    AuthorityChanged { change: AuthorityChange },
}

/// What the refused token said, once its signature was verified.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claimed {
    pub organization: OrganizationId,
    pub user: UserId,
    pub session: SessionId,
    pub resource: ResourceId,
}

terms! {
    /// From which end of the path a node sees a session. A node can be at both.
    Vantage, "vantage":
    Entry = "entry",
    Egress = "egress",
}

terms! {
    /// Why a session ended.
    EndReason, "end reason":
    /// The client closed it.
    ClientClosed = "client_closed",
    /// The client was lost.
    ClientLost = "client_lost",
    /// The resource closed it.
    TargetClosed = "target_closed",
    /// The adapter worker died.
    WorkerDied = "worker_died",
    /// The mesh path between entry and egress was lost.
    PathLost = "path_lost",
    /// Somebody with authority ended it, or withdrew the access.
    Terminated = "terminated",
    /// A node was drained or revoked.
    NodeLeft = "node_left",
    /// It was authorized but no client came.
    NotUsed = "not_used",
    /// The lease under which the resource was reached is over, or another node holds it by now.
    LeaseLost = "lease_lost",
}

terms! {
    /// Why a node did not accept a snapshot.
    SnapshotRefusal, "snapshot refusal":
    Malformed = "malformed",
    NotTrusted = "not_trusted",
    WrongCluster = "wrong_cluster",
    WrongNode = "wrong_node",
    Expired = "expired",
    /// Older than one that was accepted before.
    Rollback = "rollback",
    /// The same version with other content: somebody signed twice.
    Equivocation = "equivocation",
    MissingSection = "missing_section",
    /// The log that it follows from was rewritten.
    LogRefused = "log_refused",
}

terms! {
    /// Why a node did not accept a tree head.
    LogRefusal, "log refusal":
    Malformed = "malformed",
    NotTrusted = "not_trusted",
    /// The log is shorter than it was.
    Shorter = "shorter",
    /// The log did not grow out of the one that was seen.
    Forked = "forked",
}
