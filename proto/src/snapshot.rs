//! The snapshot: the signed, scoped configuration of one node.
//!
//! A signed [`Manifest`] names each section by the hash of its bytes, so an unchanged section is
//! never sent twice. A snapshot's version is the log position of the last event that touched
//! anything in it: versions only rise, and the log alone can rebuild any of them.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{
    ClusterId, Digest, Generation, KeyId, LaneSet, LeaseClass, Name, NodeId, NodeRole,
    OrganizationId, PoolId, Preference, PublicKey, ResourceId, ResourceKind, SessionId, Timestamp,
    UserId, VpnConnectionId,
    codec::{self, DecodeError},
    signed::Payload,
};

/// The largest section, in bytes.
pub const MAX_SECTION_BYTES: usize = 8 * 1024 * 1024;
/// The most sections in one manifest.
pub const MAX_SECTIONS: usize = 32;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    pub cluster: ClusterId,
    pub node: NodeId,
    pub authority_epoch: u64,
    pub version: u64,
    pub issued_at: Timestamp,
    /// After this the node accepts nothing new; what is running goes on as `stale_policy` says.
    pub expires_at: Timestamp,
    pub stale_policy: StalePolicy,
    /// By section name. A node ignores names that it does not know.
    pub sections: BTreeMap<String, Digest>,
}

impl Payload for Manifest {
    const TYPE: &'static str = "application/vnd.rap.snapshot.v1+msgpack";
    const MAX_BYTES: usize = 16 * 1024;
}

crate::term::terms! {
    /// What becomes of what runs at a node whose snapshot has expired, or that has not heard from a quorum of
    /// control for too long. Nothing begins there either way.
    #[derive(Default)]
    StalePolicy, "stale policy":
    /// Sessions that are open stay open.
    #[default]
    KeepSessions = "keep_sessions",
    /// Everything ends.
    Stop = "stop",
}

/// One part of a snapshot, with its place in the manifest.
pub trait Section: Serialize + DeserializeOwned {
    const NAME: &'static str;

    fn to_bytes(&self) -> Vec<u8> {
        codec::encode(self)
    }

    fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        codec::decode(bytes, MAX_SECTION_BYTES)
    }
}

/// What this node is and may do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assignment {
    pub name: Name,
    pub draining: bool,
    pub roles: Vec<RoleScope>,
    /// The egress pools that this node serves.
    pub pools: BTreeSet<PoolId>,
}

/// A role and the organizations for which it was assigned.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RoleScope {
    pub role: NodeRole,
    /// `None` means every organization: a node of the platform.
    pub organizations: Option<BTreeSet<OrganizationId>>,
}

impl RoleScope {
    pub fn covers(&self, organization: OrganizationId) -> bool {
        self.organizations.as_ref().is_none_or(|set| set.contains(&organization))
    }
}

impl Assignment {
    pub fn has_role(&self, role: NodeRole, organization: OrganizationId) -> bool {
        self.roles.iter().any(|scope| scope.role == role && scope.covers(organization))
    }
}

impl Section for Assignment {
    const NAME: &'static str = "assignment";
}

/// Whom this node believes, and whom no longer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trust {
    /// The cluster's CA certificates, DER.
    pub authorities: Vec<serde_bytes::ByteBuf>,
    /// The keys that sign snapshots and access tokens.
    pub control_keys: Vec<PublicKey>,
    pub denied_nodes: BTreeSet<NodeId>,
    /// Sessions that were ended by authority and could still be alive.
    pub denied_sessions: BTreeSet<SessionId>,
}

impl Section for Trust {
    const NAME: &'static str = "trust";
}

/// The nodes that this one may speak with: no others are known to it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Peers {
    pub peers: Vec<Peer>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peer {
    pub node: NodeId,
    pub key: KeyId,
    pub roles: Vec<RoleScope>,
    /// Where its QUIC endpoint listens, best first.
    pub addresses: Vec<SocketAddr>,
}

impl Section for Peers {
    const NAME: &'static str = "peers";
}

/// What this node may reach, and for whom. Only on nodes that serve an egress pool.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Resources {
    pub resources: Vec<Resource>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resource {
    pub id: ResourceId,
    pub organization: OrganizationId,
    pub kind: ResourceKind,
    pub target: Target,
    /// The users that some policy lets reach it, compiled.
    pub users: BTreeSet<UserId>,
    /// The connection that carries it: only the holder of its lease reaches it, for tokens of
    /// that very lease.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub carried: Option<VpnConnectionId>,
}

/// Where a resource is, and whether its address may be one of the node's own network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// A DNS name or an IP address.
    pub host: String,
    pub port: u16,
    /// Whether loopback and link-local addresses may be dialled for it. Never metadata services.
    pub allow_local: bool,
}

impl Section for Resources {
    const NAME: &'static str = "resources";
}

/// The connections that this node may carry. Only on nodes that may carry any.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Connections {
    pub connections: Vec<Connection>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Connection {
    pub id: VpnConnectionId,
    pub organization: OrganizationId,
    pub class: LeaseClass,
    /// Whether anybody shall carry it.
    pub enabled: bool,
    /// The generation that this node was granted and that has not ended, as far as the log says.
    pub granted: Option<Generation>,
}

impl Section for Connections {
    const NAME: &'static str = "connections";
}

/// Where nodes are, and how gladly paths are led through them: this one and its peers, as far as
/// anything is said of them. There only where it is.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Places {
    pub nodes: BTreeMap<NodeId, Place>,
}

/// What the platform says of a node's place in the fleet.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Place {
    /// Regions with the same part before the first dash are near each other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<Name>,
    #[serde(default, skip_serializing_if = "Preference::is_neutral")]
    pub preference: Preference,
    /// Whether it takes on nothing new.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub draining: bool,
    /// The lanes whose flows it relays. A node of a release before this relays every one.
    #[serde(default, skip_serializing_if = "LaneSet::is_all")]
    pub relayed_lanes: LaneSet,
}

impl Place {
    pub fn is_unsaid(&self) -> bool {
        *self == Self::default()
    }
}

impl Section for Places {
    const NAME: &'static str = "places";
}

/// A snapshot in transit: the manifest's envelope, and those sections that the node lacks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bundle {
    #[serde(with = "serde_bytes")]
    pub manifest: Vec<u8>,
    pub sections: Vec<serde_bytes::ByteBuf>,
}
