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
    UseRefused(JoinTokenUseRefused) = "join_token.use_refused" / 1;
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

/// A host showed the secret and did not become a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JoinTokenUseRefused {
    pub reason: UseRefusal,
    /// What the host asked to be called.
    pub name: Name,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UseRefusal {
    /// Another host used the token before.
    Used,
    Revoked,
    Expired,
    /// The token is for a host of another name.
    WrongHostName,
    /// The host's key is a node's already.
    KeyEnrolled,
}
