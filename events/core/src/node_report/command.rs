use rap_proto::{
    OrganizationId, RefusalCode, Timestamp,
    authority::{AuthorityChange, MAX_LAPSES_PER_HOUR},
    observation::{LogRefusal, SnapshotRefusal},
    paths::PathChange,
};

/// The most lapses of one node that are recorded within one hour of its clock, each with at most three events.
/// Hours of nodes begin at any minute, so it is two of them; an agent that is started again and again
/// counts anew each time.
pub const MAX_RECORDED_LAPSES_PER_HOUR: u32 = 2 * MAX_LAPSES_PER_HOUR;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NodeReportCommand {
    /// `sequence` is the observation's place in the node's spool; one that was recorded before
    /// records nothing. `organization` is whose node it is. `observed_at` is by the node's clock; where that is
    /// ahead by more than [`MAX_SEEN_SKEW_MS`](crate::session::MAX_SEEN_SKEW_MS), now is recorded.
    Record {
        organization: Option<OrganizationId>,
        sequence: u64,
        observed_at: Timestamp,
        report: Report,
    },
}

/// Nothing follows of a change of authority that is in the log already, nor of a lapse beyond
/// [`MAX_RECORDED_LAPSES_PER_HOUR`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Report {
    AccessRefused { code: RefusalCode },
    SnapshotRefused { version: u64, code: SnapshotRefusal },
    LogRefused { size: u64, known: u64, code: LogRefusal },
    WorkerExited { kind: String, sessions: u32 },
    PathChanged { change: PathChange },
    AuthorityChanged { change: AuthorityChange },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NodeReportRejection {
    #[error("a kind is at most 256 bytes without control characters")]
    TextNotPlain,
}
