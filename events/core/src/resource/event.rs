use std::collections::BTreeMap;

use rap_proto::{Name, OrganizationId, PoolId, ResourceKind, VpnConnectionId, snapshot::Target};
use serde::{Deserialize, Serialize};

use crate::aggregate::events;

events! {
    /// What happened to a resource.
    ResourceEvent:
    Created(ResourceCreated) = "resource.created" / 2, from 1 by ResourceCreatedV1;
    Changed(ResourceChanged) = "resource.changed" / 1;
    Removed(ResourceRemoved) = "resource.removed" / 1;
    Labelled(ResourceLabelled) = "resource.labelled" / 1;
    Carried(ResourceCarried) = "resource.carried" / 1;
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResourceCreated {
    pub organization: OrganizationId,
    pub name: Name,
    pub kind: ResourceKind,
    pub target: Target,
    pub pool: PoolId,
}

/// All of a resource but its name and organization, as it is from now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResourceChanged {
    pub kind: ResourceKind,
    pub target: Target,
    pub pool: PoolId,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResourceRemoved {}

/// All labels, as they are from now: words by which policies speak of several resources.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResourceLabelled {
    pub labels: BTreeMap<Name, Name>,
}

/// Which connection carries it from now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResourceCarried {
    pub connection: Option<VpnConnectionId>,
}

/// Schema 1 of `resource.created`, from before a resource could allow local addresses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ResourceCreatedV1 {
    pub(super) organization: OrganizationId,
    pub(super) name: Name,
    pub(super) kind: ResourceKind,
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) pool: PoolId,
}

impl From<ResourceCreatedV1> for ResourceCreated {
    fn from(old: ResourceCreatedV1) -> Self {
        Self {
            organization: old.organization,
            name: old.name,
            kind: old.kind,
            // Nobody had permitted local addresses when this was written.
            target: Target { host: old.host, port: old.port, allow_local: false },
            pool: old.pool,
        }
    }
}
