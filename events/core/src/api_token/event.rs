use std::collections::BTreeSet;

use rap_proto::{ApiScope, Digest, OrganizationId, Timestamp, UserId};
use serde::{Deserialize, Serialize};

use crate::{Sensitive, aggregate::events};

events! {
    /// What happened to an API token.
    ApiTokenEvent:
    Created(ApiTokenCreated) = "api_token.created" / 1;
    Revoked(ApiTokenRevoked) = "api_token.revoked" / 1;
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApiTokenCreated {
    pub user: UserId,
    pub secret: Sensitive<Digest>,
    /// What it is for, in its user's words.
    pub label: String,
    pub scopes: BTreeSet<ApiScope>,
    /// The one organization that it works in; `None` for all of its user's.
    pub organization: Option<OrganizationId>,
    pub expires_at: Timestamp,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApiTokenRevoked {}
