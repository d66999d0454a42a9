use std::collections::BTreeSet;

use rap_proto::{ApiScope, Digest, OrganizationId, Timestamp, UserId};
use serde::{Deserialize, Serialize};

use crate::{Personal, Sensitive, aggregate::events};

/// The place that an API token's label is sealed for.
pub const LABEL: &str = "api_token.label";

events! {
    /// What happened to an API token.
    ApiTokenEvent:
    Created(ApiTokenCreated) = "api_token.created" / 2, from 1 by ApiTokenCreatedV1;
    Revoked(ApiTokenRevoked) = "api_token.revoked" / 1;
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApiTokenCreated {
    pub user: UserId,
    pub secret: Sensitive<Digest>,
    /// What it is for, in its user's words; may be empty. It is sealed under the user's key.
    pub label: Personal<String>,
    pub scopes: BTreeSet<ApiScope>,
    /// The one organization that it works in; `None` for all of its user's.
    pub organization: Option<OrganizationId>,
    pub expires_at: Timestamp,
}

/// As it was written while labels stood there in clear.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ApiTokenCreatedV1 {
    user: UserId,
    secret: Sensitive<Digest>,
    label: String,
    scopes: BTreeSet<ApiScope>,
    organization: Option<OrganizationId>,
    expires_at: Timestamp,
}

impl From<ApiTokenCreatedV1> for ApiTokenCreated {
    fn from(old: ApiTokenCreatedV1) -> Self {
        let ApiTokenCreatedV1 { user, secret, label, scopes, organization, expires_at } = old;
        Self { user, secret, label: Personal::Clear(label), scopes, organization, expires_at }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApiTokenRevoked {}
