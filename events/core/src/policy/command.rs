use rap_proto::{Name, OrganizationId};

use super::{PolicyDocument, PolicySpec};

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PolicyCommand {
    /// Claims [`crate::keys::policy_name`].
    Create {
        organization: OrganizationId,
        name: Name,
        spec: PolicySpec,
    },
    Change {
        spec: PolicySpec,
    },
    /// As `Create`, with rules in place of lists.
    Write {
        organization: OrganizationId,
        name: Name,
        document: PolicyDocument,
    },
    /// As `Change`, with rules in place of lists.
    Rewrite {
        document: PolicyDocument,
    },
    /// Releases the name.
    Remove,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PolicyRejection {
    #[error("the policy exists already")]
    AlreadyExists,
    #[error("there is no such policy")]
    NotFound,
    #[error("the policy names no users and no roles")]
    MatchesNobody,
    #[error("the policy names no resources and no kinds")]
    MatchesNothing,
    #[error("the policy names too many users or resources")]
    TooManyEntries,
    #[error("a document has 1 to 16384 bytes, without control characters but tabs and line ends")]
    DocumentInvalid,
    #[error("a document has at most 64 tests, described in at most 128 plain bytes each")]
    TestsInvalid,
}
