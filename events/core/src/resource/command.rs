use std::collections::BTreeMap;

use rap_proto::{Name, OrganizationId, PoolId, ResourceKind, VpnConnectionId, snapshot::Target};

/// The longest host of a target, in bytes: a DNS name.
pub const MAX_HOST_BYTES: usize = 253;
/// The most labels of one resource.
pub const MAX_LABELS: usize = 16;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ResourceCommand {
    /// Claims [`crate::keys::resource_name`].
    Create {
        organization: OrganizationId,
        name: Name,
        kind: ResourceKind,
        target: Target,
        pool: PoolId,
    },
    Change {
        kind: ResourceKind,
        target: Target,
        pool: PoolId,
    },
    /// Replaces all labels.
    Label {
        labels: BTreeMap<Name, Name>,
    },
    /// Puts it on a connection, or on none: only the node that holds that connection's lease
    /// reaches it from then on.
    Carry {
        connection: Option<VpnConnectionId>,
    },
    /// Releases the name.
    Remove,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ResourceRejection {
    #[error("the resource exists already")]
    AlreadyExists,
    #[error("there is no such resource")]
    NotFound,
    #[error("the target's host is neither a DNS name nor an IP address")]
    HostInvalid,
    #[error("the target's port is from 1 to 65535")]
    PortInvalid,
    #[error("a resource has at most 16 labels")]
    TooManyLabels,
}
