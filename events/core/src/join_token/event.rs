use std::collections::BTreeSet;

use rap_proto::{Digest, Name, NodeId, OrganizationId, PoolId, Timestamp, snapshot::RoleScope};
use serde::{Deserialize, Serialize};

use crate::{Sensitive, aggregate::events};

events! {
    /// What happened to a join token.
    JoinTokenEvent:
    Created(JoinTokenCreated) = "join_token.created" / 1;
    Used(JoinTokenUsed) = "join_token.used" / 1;
    Revoked(JoinTokenRevoked) = "join_token.revoked" / 1;
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JoinTokenCreated {
    pub secret: Sensitive<Digest>,
    /// The roles that the host gets when it is approved, and the most that it can get that way.
    pub roles: Vec<RoleScope>,
    /// The egress pools that it then serves.
    pub pools: BTreeSet<PoolId>,
    /// Whose node it becomes; `None` for the platform's.
    pub organization: Option<OrganizationId>,
    /// The only name that the host may ask for, if there is one.
    pub host_name: Option<Name>,
    pub expires_at: Timestamp,
    /// Whether the host is approved without a person looking at it.
    pub auto_approve: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JoinTokenUsed {
    pub node: NodeId,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JoinTokenRevoked {}
