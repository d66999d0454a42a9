use rap_proto::{Name, OrganizationId};
use serde::{Deserialize, Serialize};

use crate::aggregate::events;

events! {
    /// What happened to an egress pool.
    PoolEvent:
    Created(PoolCreated) = "pool.created" / 1;
    Removed(PoolRemoved) = "pool.removed" / 1;
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PoolCreated {
    pub organization: OrganizationId,
    pub name: Name,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PoolRemoved {}
