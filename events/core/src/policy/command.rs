use rap_proto::{Name, OrganizationId};

use super::PolicySpec;

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
}
