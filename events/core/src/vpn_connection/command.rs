use std::collections::BTreeSet;

use rap_proto::{LeaseClass, Name, NodeId, OrganizationId, Timestamp};

use super::{FenceReason, ReleaseReason};
use crate::lease::TenureRejection;

/// The most nodes that one connection names.
pub const MAX_CONNECTION_NODES: usize = 64;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VpnConnectionCommand {
    /// Claims [`crate::keys::vpn_connection_name`].
    Create {
        organization: OrganizationId,
        name: Name,
        class: LeaseClass,
        /// Which nodes may carry it; empty for any.
        nodes: BTreeSet<NodeId>,
        enabled: bool,
    },
    AllowNodes {
        nodes: BTreeSet<NodeId>,
    },
    Enable,
    Disable,
    /// Comes with [`crate::lease::LeaseChange::Grant`]; times by the database's clock.
    GrantLease {
        node: NodeId,
        generation: u64,
        granted_at: Timestamp,
        valid_until: Timestamp,
    },
    /// The holder has stopped. Comes with [`crate::lease::LeaseChange::End`].
    ReleaseLease {
        generation: u64,
        reason: ReleaseReason,
        released_at: Timestamp,
    },
    /// The holder is not asked. Comes with [`crate::lease::LeaseChange::Fence`], or with the next
    /// grant when the lease has expired.
    FenceLease {
        generation: u64,
        reason: FenceReason,
        /// When the lease was valid at the latest, as the table says.
        valid_until: Timestamp,
    },
    /// Asks the holder to hand over, if there is one.
    RequestDrain,
    /// Releases the name.
    Remove,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum VpnConnectionRejection {
    #[error("the connection exists already")]
    AlreadyExists,
    #[error("there is no such connection")]
    NotFound,
    #[error("the connection names too many nodes")]
    TooManyEntries,
    #[error("the connection is disabled")]
    Disabled,
    #[error("the node may not carry the connection")]
    NodeNotAllowed,
    #[error("the lease is held")]
    LeaseHeld,
    #[error("the last holder may still be active")]
    StillValid,
    #[error("the generation is not the lease's")]
    StaleGeneration,
    #[error("the lease's time is out of range")]
    LifetimeOutOfRange,
}

impl From<TenureRejection> for VpnConnectionRejection {
    fn from(rejection: TenureRejection) -> Self {
        match rejection {
            TenureRejection::LeaseHeld => Self::LeaseHeld,
            TenureRejection::StillValid => Self::StillValid,
            TenureRejection::StaleGeneration => Self::StaleGeneration,
            TenureRejection::LifetimeOutOfRange => Self::LifetimeOutOfRange,
        }
    }
}
