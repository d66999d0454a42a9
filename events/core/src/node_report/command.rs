use rap_proto::{
    OrganizationId, RefusalCode, Timestamp,
    observation::{LogRefusal, SnapshotRefusal},
    paths::PathChange,
};

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NodeReportCommand {
    /// `sequence` is the observation's place in the node's spool; one that was recorded before
    /// records nothing. `organization` is whose node it is.
    Record {
        organization: Option<OrganizationId>,
        sequence: u64,
        observed_at: Timestamp,
        report: Report,
    },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Report {
    AccessRefused { code: RefusalCode },
    SnapshotRefused { version: u64, code: SnapshotRefusal },
    LogRefused { size: u64, known: u64, code: LogRefusal },
    WorkerExited { kind: String, sessions: u32 },
    PathChanged { change: PathChange },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NodeReportRejection {
    #[error("a kind is at most 256 bytes without control characters")]
    TextNotPlain,
}
