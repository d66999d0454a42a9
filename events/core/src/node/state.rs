use std::{collections::BTreeSet, net::SocketAddr};

use rap_proto::{
    BitRate, Capability, LaneSet, Name, PoolId, Preference, PublicKey, Timestamp,
    snapshot::RoleScope,
};

use super::Offer;

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Node {
    pub standing: Standing,
    pub name: Option<Name>,
    pub key: Option<PublicKey>,
    pub offer: Option<Offer>,
    pub addresses: Vec<SocketAddr>,
    pub capabilities: BTreeSet<Capability>,
    pub agent_version: String,
    pub roles: Vec<RoleScope>,
    pub pools: BTreeSet<PoolId>,
    pub certificate: Option<Certificate>,
    pub draining: bool,
    /// Ed25519; `None` until the agent showed it.
    pub witness_key: Option<[u8; 32]>,
    pub bandwidth_cap: Option<BitRate>,
    pub region: Option<Name>,
    pub preference: Preference,
    pub relayed_lanes: LaneSet,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Standing {
    #[default]
    Absent,
    Pending,
    Approved,
    Rejected,
    Revoked,
}

/// The newest certificate of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Certificate {
    pub renewal: u64,
    pub issued_at: Timestamp,
    pub expires_at: Timestamp,
}
