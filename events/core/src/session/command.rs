use rap_proto::{
    AttachmentId, OrganizationId, PublicKey, RefusalCode, ResourceId, ResourceKind, UserId,
    observation::{EndReason, Vantage},
    token::CLOCK_SKEW_MS,
};

use super::{Basis, Grant, Seen, TerminationCause};

/// How long after its last token expired a session is concluded to be over when no node said so:
/// the longest that a node's report is waited for.
pub const CONCLUDE_AFTER_MS: u64 = 120_000;
/// The same for a session that a node saw start: 24 hours, because control may be the one that
/// was away while the session went on.
pub const CONCLUDE_STARTED_AFTER_MS: u64 = 24 * 3_600_000;
/// How far what a node says of time may be from control's: as far as nodes accept tokens beyond
/// their times. Whatever is beyond is taken for now, or for the begin of the session's first token.
pub const MAX_SEEN_SKEW_MS: u64 = CLOCK_SKEW_MS;
/// The most refusals that are recorded for one session; the rest is noise of an attack.
pub const MAX_REFUSALS: u32 = 64;
/// The most starts and ends that are recorded of one entry's words on one session, by the event. One
/// end more is, so that what began within the limit can still be told to be over.
pub const MAX_WORDS: u32 = 256;
/// The most policies that a grant names.
pub const MAX_GRANT_POLICIES: usize = 64;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SessionCommand {
    Request {
        organization: OrganizationId,
        user: UserId,
        asked: String,
        resource: Option<ResourceId>,
        client_key: PublicKey,
        outcome: Outcome,
    },
    /// A newer token of the same session, for the same key.
    Refresh {
        user: UserId,
        client_key: PublicKey,
        grant: Grant,
        basis: Basis,
    },
    /// Takes effect for as long as a node may accept a token of the session, whether it is over or
    /// not.
    Terminate {
        cause: TerminationCause,
    },
    RecordStarted {
        seen: Seen,
        /// Absent in what a node of the release before tells.
        from: Option<Vantage>,
    },
    RecordRefused {
        seen: Seen,
        code: RefusalCode,
    },
    RecordEnded {
        seen: Seen,
        reason: EndReason,
        bytes_up: u64,
        bytes_down: u64,
    },
    /// Its last token expired [`CONCLUDE_AFTER_MS`] ago ([`CONCLUDE_STARTED_AFTER_MS`], if it was
    /// started) and no node said that it ended.
    Conclude,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    Authorized {
        resource: ResourceId,
        kind: ResourceKind,
        attachment: AttachmentId,
        grant: Grant,
        basis: Basis,
    },
    Denied {
        code: RefusalCode,
        reason: String,
        basis: Basis,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SessionRejection {
    #[error("the session exists already")]
    AlreadyExists,
    #[error("there is no such session")]
    NotFound,
    #[error("the session belongs to another user or key")]
    NotTheHolder,
    #[error("the session was denied, terminated or has ended")]
    Over,
    #[error("the session's access can still be used")]
    StillAlive,
    #[error("the node has no part in the session")]
    ForeignNode,
    #[error("the session lives at too many entries")]
    TooManyEntries,
    #[error("the entry said too often that the session started or ended")]
    TooManyWords,
    #[error("a grant names 1 to 16 entries and 1 to 16 egresses, and policies within their limit")]
    GrantSize,
    #[error("a grant's times are out of order or too far apart")]
    GrantLifetime,
    #[error("a text is at most 256 bytes without control characters")]
    TextNotPlain,
    #[error("a decision names at most 64 rules of at most 128 bytes")]
    BasisSize,
}
