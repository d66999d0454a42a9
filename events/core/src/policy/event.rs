use rap_proto::{Name, OrganizationId};
use serde::{Deserialize, Serialize};

use super::{PolicyDocument, PolicySpec};
use crate::aggregate::events;

events! {
    /// What happened to a policy.
    PolicyEvent:
    Created(PolicyCreated) = "policy.created" / 1;
    Changed(PolicyChanged) = "policy.changed" / 1;
    Removed(PolicyRemoved) = "policy.removed" / 1;
    Written(PolicyWritten) = "policy.written" / 1;
    Rewritten(PolicyRewritten) = "policy.rewritten" / 1;
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

/// Created with rules.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolicyWritten {
    pub organization: OrganizationId,
    pub name: Name,
    pub document: PolicyDocument,
}

/// Rules stand in place of what was there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolicyRewritten {
    pub document: PolicyDocument,
}
