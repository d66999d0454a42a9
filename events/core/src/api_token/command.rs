use std::collections::BTreeSet;

use rap_proto::{ApiScope, Digest, OrganizationId, Timestamp, UserId, api::MAX_API_TOKEN_SECONDS};

use crate::{Personal, Sensitive};

/// How long an API token may live, as the API says it.
pub const MAX_API_TOKEN_MS: u64 = MAX_API_TOKEN_SECONDS * 1_000;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ApiTokenCommand {
    Create {
        user: UserId,
        secret: Sensitive<Digest>,
        /// Sealed for [`super::LABEL`], or empty.
        label: Personal<String>,
        scopes: BTreeSet<ApiScope>,
        organization: Option<OrganizationId>,
        expires_at: Timestamp,
    },
    Revoke,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ApiTokenRejection {
    #[error("the API token exists already")]
    AlreadyExists,
    #[error("there is no such API token")]
    NotFound,
    #[error("an API token has at least one scope")]
    NoScopes,
    #[error("an API token lives for more than no time and for 366 days at most")]
    LifetimeOutOfRange,
    #[error("a label is at most 256 bytes without control characters")]
    TextNotPlain,
    #[error("a label is stored sealed, or is empty")]
    LabelNotSealed,
}
