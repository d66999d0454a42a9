use rap_proto::{
    OrganizationId, RefusalCode, Timestamp,
    authority::AuthorityChange,
    observation::{LogRefusal, SnapshotRefusal},
    paths::PathChange,
};
use serde::{Deserialize, Serialize};

use crate::aggregate::events;

events! {
    /// What a node reported.
    NodeReportEvent:
    AccessRefused(UnclaimedAccessRefused) = "node_report.access_refused" / 3,
        from 1 by UnclaimedAccessRefusedV2, from 2 by UnclaimedAccessRefusedV2;
    SnapshotRefused(SnapshotRefused) = "node_report.snapshot_refused" / 1;
    LogRefused(LogRefused) = "node_report.log_refused" / 1;
    WorkerExited(WorkerExited) = "node_report.worker_exited" / 1;
    PathChanged(PathChanged) = "node_report.path_changed" / 1;
    AuthorityChanged(AuthorityChanged) = "node_report.authority_changed" / 1;
}

/// The node refused somebody whose claims could not be verified.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UnclaimedAccessRefused {
    /// Whose node it is; `None` for the platform's.
    pub organization: Option<OrganizationId>,
    /// The observation's place in the node's spool.
    pub sequence: u64,
    /// By the node's clock.
    pub observed_at: Timestamp,
    pub code: RefusalCode,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SnapshotRefused {
    /// Whose node it is; `None` for the platform's.
    pub organization: Option<OrganizationId>,
    /// The observation's place in the node's spool.
    pub sequence: u64,
    /// By the node's clock.
    pub observed_at: Timestamp,
    pub version: u64,
    pub code: SnapshotRefusal,
}

/// The node was shown a log that did not grow out of the one that it had seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogRefused {
    /// Whose node it is; `None` for the platform's.
    pub organization: Option<OrganizationId>,
    /// The observation's place in the node's spool.
    pub sequence: u64,
    /// By the node's clock.
    pub observed_at: Timestamp,
    /// How many events the log that it was shown has; zero when that could not be believed.
    pub size: u64,
    /// How many events the log had that it had seen.
    pub known: u64,
    pub code: LogRefusal,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WorkerExited {
    /// Whose node it is; `None` for the platform's.
    pub organization: Option<OrganizationId>,
    /// The observation's place in the node's spool.
    pub sequence: u64,
    /// By the node's clock.
    pub observed_at: Timestamp,
    /// Such as `stream`.
    pub kind: String,
    /// How many sessions ended with it.
    pub sessions: u32,
}

/// A lane of the node, an entry, took a direct path or left it. It is the platform's whosever node that is:
/// no organization is told how nodes reach each other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PathChanged {
    /// The observation's place in the node's spool.
    pub sequence: u64,
    /// By the node's clock.
    pub observed_at: Timestamp,
    pub change: PathChange,
}

/// Control's authority ended at the node, or began again. It is the platform's whosever node that is: how
/// control is reached is no organization's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuthorityChanged {
    /// The observation's place in the node's spool.
    pub sequence: u64,
    /// By the node's clock.
    pub observed_at: Timestamp,
    pub change: AuthorityChange,
}

/// Schemas 1 and 2 of `node_report.access_refused`: no code of either says that a lane is not relayed, and none of
/// schema 1 that nothing serves a channel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct UnclaimedAccessRefusedV2 {
    organization: Option<OrganizationId>,
    sequence: u64,
    observed_at: Timestamp,
    code: RefusalCode,
}

impl From<UnclaimedAccessRefusedV2> for UnclaimedAccessRefused {
    fn from(old: UnclaimedAccessRefusedV2) -> Self {
        let UnclaimedAccessRefusedV2 { organization, sequence, observed_at, code } = old;
        Self { organization, sequence, observed_at, code }
    }
}
