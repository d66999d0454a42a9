use std::collections::BTreeMap;

use rap_proto::{Name, OrganizationId, PoolId, ResourceKind, VpnConnectionId, snapshot::Target};

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Resource {
    pub created: Option<Created>,
    pub labels: BTreeMap<Name, Name>,
    pub carried: Option<VpnConnectionId>,
    pub removed: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Created {
    pub organization: OrganizationId,
    pub name: Name,
    pub kind: ResourceKind,
    pub target: Target,
    pub pool: PoolId,
}
