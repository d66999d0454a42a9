//! What a node currently knows and may do: one verified snapshot in the shape the mesh asks it.

mod relays;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
};

use rap_proto::{
    Authority, ClusterId, KeyId, Lane, LaneSet, Name, NodeId, NodeRole, OrganizationId, ResourceId,
    Timestamp,
    bandwidth::Bandwidth,
    carriers::CarrierRuling,
    mesh::Mesh,
    paths::{DirectPaths, Paths},
    signed::Trusted,
    snapshot::{
        Assignment, Manifest, Peer, Peers, Place, Places, Resource, Resources, StalePolicy, Trust,
    },
};

use crate::score;
use relays::Relays;

pub use relays::RelayKind;

/// The sections of one snapshot, decoded.
#[derive(Debug, Clone)]
pub struct Sections {
    pub assignment: Assignment,
    pub trust: Trust,
    pub peers: Peers,
    /// Empty on a node that serves no egress pool.
    pub resources: Resources,
    /// Empty where nothing is shaped.
    pub bandwidth: Bandwidth,
    /// Empty where nothing is said of any.
    pub places: Places,
    /// Empty where nothing is said.
    pub paths: Paths,
    /// Empty where nothing is said.
    pub mesh: Mesh,
}

/// One accepted snapshot. It never changes; a newer snapshot is another view.
#[derive(Debug, Clone)]
pub struct View {
    pub cluster: ClusterId,
    /// The node whose snapshot this is.
    pub node: NodeId,
    pub authority_epoch: u64,
    pub version: u64,
    pub expires_at: Timestamp,
    pub stale_policy: StalePolicy,
    /// What control's word is worth, as far as its beat tells.
    pub authority: Authority,
    pub assignment: Assignment,
    pub trust: Trust,
    pub bandwidth: Bandwidth,
    pub paths: Paths,
    pub mesh: Mesh,
    /// What makes a path the better one, as `mesh` has it.
    pub weights: score::Policy,
    places: BTreeMap<NodeId, Place>,
    /// Without the denied ones.
    peers: BTreeMap<NodeId, Peer>,
    relays: Relays,
    resources: BTreeMap<ResourceId, Resource>,
    control_keys: Trusted,
}

impl View {
    /// From a manifest and sections that the caller has verified.
    pub fn new(manifest: &Manifest, sections: Sections) -> Self {
        let Sections { assignment, trust, peers, resources, bandwidth, places, paths, mesh } =
            sections;
        let admitted = peers.peers.into_iter().filter(|it| !trust.denied_nodes.contains(&it.node));
        let peers: BTreeMap<NodeId, Peer> = admitted.map(|peer| (peer.node, peer)).collect();
        Self {
            cluster: manifest.cluster,
            node: manifest.node,
            authority_epoch: manifest.authority_epoch,
            version: manifest.version,
            expires_at: manifest.expires_at,
            stale_policy: manifest.stale_policy,
            authority: Authority::default(),
            control_keys: Trusted::new(trust.control_keys.iter().copied(), 1),
            assignment,
            trust,
            bandwidth,
            paths,
            weights: score::Policy::of(&mesh),
            mesh,
            relays: Relays::of(peers.values(), &places.nodes),
            places: places.nodes,
            peers,
            resources: resources.resources.into_iter().map(|one| (one.id, one)).collect(),
        }
    }

    /// Adds this node as its own peer: a node that is both entry and egress is checked by itself
    /// no less than any other would be.
    pub fn add_self(&mut self, key: KeyId, address: SocketAddr) {
        if self.is_denied(self.node) {
            return;
        }
        let roles = self.assignment.roles.clone();
        let own = Peer { node: self.node, key, roles, addresses: vec![address] };
        self.peers.insert(self.node, own);
        self.relays = Relays::of(self.peers.values(), &self.places);
    }

    /// The keys that sign access tokens; one signature is enough.
    pub fn control_keys(&self) -> &Trusted {
        &self.control_keys
    }

    /// Whether nothing new may be accepted any more.
    pub fn is_stale(&self, now: Timestamp) -> bool {
        now > self.expires_at
    }

    /// Whether running sessions have to end because the snapshot is stale, or the node isolated.
    pub fn must_stop(&self, now: Timestamp) -> bool {
        let cut_off = self.is_stale(now) || self.authority.is_isolated();
        cut_off && self.stale_policy == StalePolicy::Stop
    }

    pub fn is_denied(&self, node: NodeId) -> bool {
        self.trust.denied_nodes.contains(&node)
    }

    /// A peer that this node may speak with: known, and not revoked.
    pub fn peer(&self, node: NodeId) -> Option<&Peer> {
        self.peers.get(&node)
    }

    /// Whether lanes may lead over no other node.
    pub const fn allows_direct(&self) -> bool {
        self.direct_rule().are_allowed()
    }

    /// What the platform says of paths over no other node.
    pub const fn direct_rule(&self) -> DirectPaths {
        self.paths.rule.direct
    }

    /// The addresses at which lanes reach a node over no other one: none where that is forbidden.
    pub fn direct_to(&self, node: NodeId) -> &[SocketAddr] {
        let peer = self.peer(node).filter(|_| self.allows_direct());
        peer.map_or(&[], |peer| &peer.addresses)
    }

    /// What is said of a node's place, its own among them.
    pub fn place(&self, node: NodeId) -> Option<&Place> {
        self.places.get(&node)
    }

    /// Whether a node takes nothing new, as far as this one was told.
    pub fn is_draining(&self, node: NodeId) -> bool {
        self.place(node).is_some_and(|place| place.draining)
    }

    /// The lanes whose flows a node relays: every one, where nothing else is said.
    pub fn relayed_lanes(&self, node: NodeId) -> LaneSet {
        self.place(node).map(|place| place.relayed_lanes).unwrap_or_default()
    }

    pub fn region(&self) -> Option<&Name> {
        self.place(self.node)?.region.as_ref()
    }

    /// Every node that this one may speak with, itself included once it was added.
    pub fn peers(&self) -> impl ExactSizeIterator<Item = &Peer> {
        self.peers.values()
    }

    /// Whether a node is a relay for anybody.
    pub fn is_relay(&self, node: NodeId) -> bool {
        let mut roles = self.peer(node).into_iter().flat_map(|peer| &peer.roles);
        roles.any(|scope| scope.role == NodeRole::RelayNode)
    }

    /// Whether both views know the same peers at the same addresses, for the same lanes.
    pub fn same_peers(&self, other: &Self) -> bool {
        let same_lanes = |node: &NodeId| self.relayed_lanes(*node) == other.relayed_lanes(*node);
        self.peers == other.peers && self.peers.keys().all(same_lanes)
    }

    /// Whether a lane of `organization` to `egress` has the same ways in both: the egress itself,
    /// and relays, at the same addresses.
    pub fn same_ways(
        &self,
        other: &Self,
        egress: NodeId,
        (organization, lane): (OrganizationId, Lane),
    ) -> bool {
        let relays = |view: &'_ Self| -> Vec<_> { view.relays(organization, lane).collect() };
        let nodes = relays(self);
        nodes == relays(other)
            && nodes.iter().chain([&egress]).all(|node| self.peer(*node) == other.peer(*node))
    }

    /// Whether one who relayed this lane for `organization` in `before` does not any more.
    pub fn has_lost_relay(&self, before: &Self, organization: OrganizationId, lane: Lane) -> bool {
        let mut left = self.relays(organization, lane);
        // Both are in the order of ids.
        !before.relays(organization, lane).all(|relay| left.any(|other| other == relay))
    }

    /// Whether flows of `organization` in this lane may lead over these: each is a peer, a relay for it, and
    /// one that relays the lane.
    pub fn may_lead_over(
        &self,
        relays: &[NodeId],
        organization: OrganizationId,
        lane: Lane,
    ) -> bool {
        relays.iter().all(|relay| {
            let peer = self.peer(*relay).filter(|_| *relay != self.node);
            peer.is_some_and(|peer| peer_has_role(peer, NodeRole::RelayNode, organization))
                && self.relayed_lanes(*relay).has(lane)
        })
    }

    /// What the platform and an organization say of the carriers of a lane.
    pub fn carrier_ruling(&self, organization: OrganizationId, lane: Lane) -> CarrierRuling {
        let own = self.bandwidth.organizations.get(&organization);
        let own = own.and_then(|said| said.carriers.of(lane));
        CarrierRuling::of(self.bandwidth.carriers.of(lane), own)
    }

    pub fn resource(&self, resource: ResourceId) -> Option<&Resource> {
        self.resources.get(&resource)
    }

    /// The organizations whose resources this node reaches, as far as it is an egress for them.
    pub fn served(&self) -> BTreeSet<OrganizationId> {
        let theirs = self.resources.values().map(|resource| resource.organization);
        theirs.filter(|it| self.assignment.has_role(NodeRole::StreamWorker, *it)).collect()
    }

    /// The relays that may carry flows of `organization` in this lane, by id.
    pub fn relays(&self, organization: OrganizationId, lane: Lane) -> impl Iterator<Item = NodeId> {
        let kinds = self.relay_kinds();
        let relays = self.relays_by_kind(organization);
        relays.filter(move |(_, kind)| kinds[*kind].relayed_lanes.has(lane)).map(|(relay, _)| relay)
    }

    /// The relays for `organization`, whatever they relay for it, each with the place of its kind among
    /// [`Self::relay_kinds`].
    pub(crate) fn relays_by_kind(
        &self,
        organization: OrganizationId,
    ) -> impl Iterator<Item = (NodeId, usize)> {
        self.relays.of_organization(organization)
    }

    /// The place of one relay's kind, if it is a relay for `organization`.
    pub(crate) fn relay_by_kind(
        &self,
        organization: OrganizationId,
        node: NodeId,
    ) -> Option<usize> {
        self.relays.place_for(organization, node)
    }

    pub(crate) fn relay_kinds(&self) -> &[RelayKind] {
        self.relays.kinds()
    }

    /// What kind of relay a node is, if it is one for anybody.
    pub(crate) fn relay_kind(&self, node: NodeId) -> Option<&RelayKind> {
        self.relays.kind(node)
    }
}

/// Whether a peer was assigned `role` for `organization`.
pub fn peer_has_role(peer: &Peer, role: NodeRole, organization: OrganizationId) -> bool {
    peer.roles.iter().any(|scope| scope.role == role && scope.covers(organization))
}
