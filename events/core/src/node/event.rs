use std::{collections::BTreeSet, net::SocketAddr};

use rap_proto::{
    BitRate, Capability, JoinTokenId, LaneSet, Name, OrganizationId, PoolId, Preference, PublicKey,
    Timestamp, snapshot::RoleScope,
};
use serde::{Deserialize, Serialize};

use crate::aggregate::events;

events! {
    /// What happened to a node.
    NodeEvent:
    Requested(NodeRequested) = "node.requested" / 1;
    Approved(NodeApproved) = "node.approved" / 1;
    Rejected(NodeRejected) = "node.rejected" / 1;
    CertificateIssued(CertificateIssued) = "node.certificate_issued" / 1;
    RolesAssigned(RolesAssigned) = "node.roles_assigned" / 1;
    PoolsAssigned(PoolsAssigned) = "node.pools_assigned" / 1;
    CapabilitiesReported(CapabilitiesReported) = "node.capabilities_reported" / 1;
    AddressesChanged(AddressesChanged) = "node.addresses_changed" / 1;
    DrainingStarted(DrainingStarted) = "node.draining_started" / 1;
    DrainingEnded(DrainingEnded) = "node.draining_ended" / 1;
    Revoked(NodeRevoked) = "node.revoked" / 1;
    WitnessKeyRecorded(WitnessKeyRecorded) = "node.witness_key_recorded" / 1;
    BandwidthCapped(NodeBandwidthCapped) = "node.bandwidth_capped" / 1;
    Placed(NodePlaced) = "node.placed" / 2, from 1 by NodePlacedV1;
}

/// A host showed a join token and asked to be enrolled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeRequested {
    pub name: Name,
    pub key: PublicKey,
    pub addresses: Vec<SocketAddr>,
    pub capabilities: BTreeSet<Capability>,
    /// The public half of the agent's bus key, in NATS' text form.
    pub bus_key: String,
    pub agent_version: String,
    pub join_token: JoinTokenId,
    pub offer: Offer,
}

/// What a join token holds for the host that uses it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Offer {
    /// Whose node it becomes; `None` for the platform's.
    pub organization: Option<OrganizationId>,
    pub roles: Vec<RoleScope>,
    pub pools: BTreeSet<PoolId>,
    pub auto_approve: bool,
}

/// The actor is the approver.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeApproved {
    /// Whether the join token said so, and no person did.
    pub automatic: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeRejected {
    pub reason: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CertificateIssued {
    /// 1 for the first certificate; the number of the certificate that it replaces, plus one.
    pub renewal: u64,
    #[serde(with = "serde_bytes")]
    pub serial: [u8; 16],
    pub issued_at: Timestamp,
    pub expires_at: Timestamp,
}

/// All roles that the node has from now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RolesAssigned {
    pub roles: Vec<RoleScope>,
}

/// All egress pools that the node serves from now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PoolsAssigned {
    pub pools: BTreeSet<PoolId>,
}

/// What the host is able to do, as its agent found out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CapabilitiesReported {
    pub capabilities: BTreeSet<Capability>,
    pub agent_version: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AddressesChanged {
    pub addresses: Vec<SocketAddr>,
}

/// The node takes nothing new; what runs on it goes on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DrainingStarted {}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DrainingEnded {}

/// Final: no other node speaks with it from now, and its connections are closed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeRevoked {
    pub reason: RevocationReason,
    pub note: String,
}

/// The key of the node's cosignatures, for as long as it is this node: whoever reads the log can
/// check who co-signed its tree heads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WitnessKeyRecorded {
    /// Ed25519.
    #[serde(with = "serde_bytes")]
    pub key: [u8; 32],
}

/// The most that passes through it in each direction, as it is from now; none for no bound.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeBandwidthCapped {
    pub cap: Option<BitRate>,
}

/// Where it is, how gladly paths are led through it, and which lanes it relays, from now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodePlaced {
    pub region: Option<Name>,
    pub preference: Preference,
    pub relayed_lanes: LaneSet,
}

/// Schema 1 of `node.placed`, from when every relay carried every lane.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NodePlacedV1 {
    region: Option<Name>,
    preference: Preference,
}

impl From<NodePlacedV1> for NodePlaced {
    fn from(old: NodePlacedV1) -> Self {
        let NodePlacedV1 { region, preference } = old;
        Self { region, preference, relayed_lanes: LaneSet::ALL }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RevocationReason {
    /// Somebody with authority decided so.
    Operator,
    /// A certificate was renewed twice from the same predecessor: two hosts hold the identity.
    IdentityCopied,
}
