use rap_proto::{Name, OrganizationId};
use serde::{Deserialize, Serialize};

use super::PolicySpec;
use crate::aggregate::events;

events! {
    /// What happened to a policy.
    PolicyEvent:
    Created(PolicyCreated) = "policy.created" / 1;
    Changed(PolicyChanged) = "policy.changed" / 1;
    Removed(PolicyRemoved) = "policy.removed" / 1;
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolicyCreated {
    pub organization: OrganizationId,
    pub name: Name,
    pub spec: PolicySpec,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolicyChanged {
    pub spec: PolicySpec,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolicyRemoved {}
