use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
};

use rap_events::{
    Envelope,
    node::{NodeEvent, NodeRequested, Offer, RevocationReason},
    node_report::AuthorityChanged,
};
use rap_proto::{
    BitRate, Capability, Digest, LaneSet, Name, NodeId, NodeRole, OrganizationId, PoolId,
    Preference, PublicKey, Timestamp,
    snapshot::{Place, RoleScope},
};
use serde::{Deserialize, Serialize};

use super::{Corrupt, Stamp, stamp::created};

/// How long a rejected or revoked node is remembered, at least: 30 days.
pub const REVOKED_KEPT_MS: u64 = 30 * 24 * 3_600_000;

/// Every host that asked for enrollment, and what became of it.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Nodes {
    by_id: BTreeMap<NodeId, Node>,
    by_name: BTreeMap<Name, NodeId>,
    by_key: BTreeMap<Digest, NodeId>,
    by_pool: BTreeSet<(PoolId, NodeId)>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    pub id: NodeId,
    pub name: Name,
    pub standing: NodeStanding,
    /// Whose node it is; `None` for the platform's.
    pub organization: Option<OrganizationId>,
    pub key: PublicKey,
    pub addresses: Vec<SocketAddr>,
    pub capabilities: BTreeSet<Capability>,
    pub bus_key: String,
    pub agent_version: String,
    pub offer: Offer,
    pub roles: Vec<RoleScope>,
    pub pools: BTreeSet<PoolId>,
    pub renewal: u64,
    pub certificate_expires_at: Option<Timestamp>,
    pub draining: bool,
    pub revoked: Option<RevocationReason>,
    /// Of its cosignatures (Ed25519); `None` until its agent showed it.
    pub witness_key: Option<[u8; 32]>,
    /// The most that passes through it in each direction.
    pub bandwidth_cap: Option<BitRate>,
    pub region: Option<Name>,
    pub preference: Preference,
    pub relayed_lanes: LaneSet,
    /// The greatest place in its spool of an observation that is in the log.
    pub observed: u64,
    /// What it last told of control's authority there.
    pub authority: Option<AuthorityChanged>,
    /// The version of its snapshot: the position of the last event that touched it.
    pub version: u64,
    /// The time of that event.
    pub versioned_at: Timestamp,
    /// The position of the last event that changed what its snapshot says, renewals aside.
    pub content_version: u64,
    pub stamp: Stamp,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NodeStanding {
    Pending,
    Approved,
    Rejected,
    Revoked,
}

impl Node {
    pub fn is_approved(&self) -> bool {
        self.standing == NodeStanding::Approved
    }

    /// Whether it was assigned `role` for `organization`.
    pub fn serves(&self, role: NodeRole, organization: OrganizationId) -> bool {
        self.roles.iter().any(|scope| scope.role == role && scope.covers(organization))
    }

    /// What others are told of its place in the fleet.
    pub fn place(&self) -> Place {
        let Self { ref region, preference, draining, relayed_lanes, .. } = *self;
        Place { region: region.clone(), preference, draining, relayed_lanes }
    }

    fn requested(id: NodeId, event: &NodeRequested, stamp: Stamp) -> Self {
        Self {
            id,
            name: event.name.clone(),
            standing: NodeStanding::Pending,
            organization: event.offer.organization,
            key: event.key,
            addresses: event.addresses.clone(),
            capabilities: event.capabilities.clone(),
            bus_key: event.bus_key.clone(),
            agent_version: event.agent_version.clone(),
            offer: event.offer.clone(),
            roles: Vec::new(),
            pools: BTreeSet::new(),
            renewal: 0,
            certificate_expires_at: None,
            draining: false,
            revoked: None,
            witness_key: None,
            bandwidth_cap: None,
            region: None,
            preference: Preference::Neutral,
            relayed_lanes: LaneSet::ALL,
            observed: 0,
            authority: None,
            version: 0,
            versioned_at: Timestamp::default(),
            content_version: 0,
            stamp,
        }
    }
}

impl Nodes {
    pub fn get(&self, id: NodeId) -> Option<&Node> {
        self.by_id.get(&id)
    }

    /// The node that has this name now: pending or approved.
    pub fn named(&self, name: &Name) -> Option<&Node> {
        self.by_name.get(name).and_then(|id| self.by_id.get(id))
    }

    /// The node with this identity key, whatever became of it.
    pub fn with_key(&self, key: &PublicKey) -> Option<&Node> {
        self.by_key.get(&key.id()).and_then(|id| self.by_id.get(id))
    }

    /// In the order of their ids.
    pub fn iter(&self) -> impl Iterator<Item = &Node> {
        self.by_id.values()
    }

    pub fn approved(&self) -> impl Iterator<Item = &Node> {
        self.iter().filter(|node| node.is_approved())
    }

    /// The approved nodes that were assigned a pool.
    pub fn in_pool(&self, pool: PoolId) -> impl Iterator<Item = &Node> {
        let least = NodeId::from_u128(0);
        let greatest = NodeId::from_u128(u128::MAX);
        self.by_pool
            .range((pool, least)..=(pool, greatest))
            .filter_map(|(_, id)| self.by_id.get(id))
            .filter(|node| node.is_approved())
    }

    pub(super) fn fold(&mut self, event: &NodeEvent, envelope: &Envelope) -> Result<(), Corrupt> {
        let id = NodeId::from_uuid(envelope.stream.id);
        if let NodeEvent::Requested(event) = event {
            let node = Node::requested(id, event, Stamp::first(envelope)?);
            self.by_name.insert(node.name.clone(), id);
            self.by_key.insert(node.key.id(), id);
            self.by_id.insert(id, node);
            return Ok(());
        }
        let node = created(self.by_id.get_mut(&id), envelope)?;
        node.stamp.advance(envelope)?;
        match event {
            NodeEvent::Requested(_) => {}
            NodeEvent::Approved(_) => node.standing = NodeStanding::Approved,
            NodeEvent::Rejected(_) => {
                node.standing = NodeStanding::Rejected;
                self.by_name.remove(&node.name);
                self.by_key.remove(&node.key.id());
            }
            NodeEvent::CertificateIssued(event) => {
                node.renewal = event.renewal;
                node.certificate_expires_at = Some(event.expires_at);
            }
            NodeEvent::RolesAssigned(event) => node.roles = event.roles.clone(),
            NodeEvent::PoolsAssigned(event) => {
                for pool in &node.pools {
                    self.by_pool.remove(&(*pool, id));
                }
                node.pools = event.pools.clone();
                self.by_pool.extend(node.pools.iter().map(|pool| (*pool, id)));
            }
            NodeEvent::CapabilitiesReported(event) => {
                node.capabilities = event.capabilities.clone();
                node.agent_version = event.agent_version.clone();
            }
            NodeEvent::AddressesChanged(event) => node.addresses = event.addresses.clone(),
            NodeEvent::DrainingStarted(_) => node.draining = true,
            NodeEvent::DrainingEnded(_) => node.draining = false,
            NodeEvent::Revoked(event) => {
                node.standing = NodeStanding::Revoked;
                node.revoked = Some(event.reason);
                self.by_name.remove(&node.name);
            }
            NodeEvent::WitnessKeyRecorded(event) => node.witness_key = Some(event.key),
            NodeEvent::BandwidthCapped(event) => node.bandwidth_cap = event.cap,
            NodeEvent::Placed(event) => {
                node.region = event.region.clone();
                node.preference = event.preference;
                node.relayed_lanes = event.relayed_lanes;
            }
        }
        Ok(())
    }

    /// Remembers how far a node's observations were recorded.
    pub(super) fn observe(&mut self, id: NodeId, sequence: u64) {
        if let Some(node) = self.by_id.get_mut(&id) {
            node.observed = node.observed.max(sequence);
        }
    }

    /// Remembers what a node told of control's authority.
    pub(super) fn lapsed(&mut self, id: NodeId, event: &AuthorityChanged) {
        if let Some(node) = self.by_id.get_mut(&id) {
            node.authority = Some(event.clone());
        }
    }

    /// Raises the snapshot versions of `touched` nodes to the position of this event, and what a
    /// token may rest on where the event changes what the node decides.
    pub(super) fn touch(
        &mut self,
        touched: &BTreeSet<NodeId>,
        envelope: &Envelope,
        decides_otherwise: impl Fn(NodeId) -> bool,
    ) {
        for id in touched {
            let Some(node) = self.by_id.get_mut(id) else { continue };
            node.version = envelope.position;
            node.versioned_at = envelope.at;
            if decides_otherwise(*id) {
                node.content_version = envelope.position;
            }
        }
    }

    /// Forgets the nodes that were rejected or revoked long before `at`. Called where every
    /// snapshot is made anew, because a revoked node stands in the others' deny lists.
    pub(super) fn forget_gone(&mut self, at: Timestamp) {
        let gone: Vec<NodeId> = self
            .by_id
            .values()
            .filter(|node| {
                matches!(node.standing, NodeStanding::Rejected | NodeStanding::Revoked)
                    && at.since(node.stamp.changed_at).as_millis() > u128::from(REVOKED_KEPT_MS)
            })
            .map(|node| node.id)
            .collect();
        for id in gone {
            let Some(node) = self.by_id.remove(&id) else { continue };
            self.by_key.remove(&node.key.id());
            for pool in &node.pools {
                self.by_pool.remove(&(*pool, id));
            }
        }
    }
}
