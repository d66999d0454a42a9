use std::collections::BTreeSet;

use rap_proto::{LeaseClass, Name, NodeId, OrganizationId, Timestamp};
use serde::{Deserialize, Serialize};

use crate::aggregate::events;

events! {
    /// What happened to a connection.
    VpnConnectionEvent:
    Created(VpnConnectionCreated) = "vpn_connection.created" / 1;
    NodesAllowed(NodesAllowed) = "vpn_connection.nodes_allowed" / 1;
    Enabled(VpnConnectionEnabled) = "vpn_connection.enabled" / 1;
    Disabled(VpnConnectionDisabled) = "vpn_connection.disabled" / 1;
    LeaseGranted(LeaseGranted) = "vpn_connection.lease_granted" / 1;
    LeaseReleased(LeaseReleased) = "vpn_connection.lease_released" / 1;
    LeaseFenced(LeaseFenced) = "vpn_connection.lease_fenced" / 1;
    DrainRequested(DrainRequested) = "vpn_connection.drain_requested" / 1;
    Removed(VpnConnectionRemoved) = "vpn_connection.removed" / 1;
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VpnConnectionCreated {
    pub organization: OrganizationId,
    pub name: Name,
    pub class: LeaseClass,
    /// Empty for any.
    pub nodes: BTreeSet<NodeId>,
    pub enabled: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodesAllowed {
    /// Empty for any.
    pub nodes: BTreeSet<NodeId>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VpnConnectionEnabled {}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VpnConnectionDisabled {}

/// Times are the database's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LeaseGranted {
    pub node: NodeId,
    pub generation: u64,
    pub granted_at: Timestamp,
    /// When it expires unless it is renewed, which is no event.
    pub valid_until: Timestamp,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LeaseReleased {
    pub generation: u64,
    pub reason: ReleaseReason,
    /// By when the holder had stopped.
    pub released_at: Timestamp,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReleaseReason {
    Drained,
    Disabled,
    NodeStopping,
    /// The holder could not keep the connection up.
    Failed,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LeaseFenced {
    pub generation: u64,
    pub reason: FenceReason,
    /// When the lease was valid at the latest, all renewals included.
    pub valid_until: Timestamp,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FenceReason {
    Expired,
    NodeRevoked,
    Requested,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DrainRequested {
    pub generation: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VpnConnectionRemoved {}
