//! The relays of a view in the shape that a route decision walks through: a thousand of them, and
//! few kinds among them.

use std::collections::BTreeMap;

use rap_proto::{
    LaneSet, Name, NodeId, NodeRole, OrganizationId, Preference,
    snapshot::{Peer, Place, RoleScope},
};

use crate::score::candidate::preference;

/// All that a view says of a relay beside its id and how it is reached: the same of many.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RelayKind {
    /// With [`NodeRole::RelayNode`] for somebody.
    pub roles: Vec<RoleScope>,
    pub region: Option<Name>,
    pub preference: Preference,
    pub relayed_lanes: LaneSet,
}

/// INVARIANT: by id, and every place is one of `kinds`.
#[derive(Debug, Clone)]
pub(super) struct Relays {
    /// Each with the place of its kind.
    nodes: Vec<(NodeId, usize)>,
    /// Each kind once.
    kinds: Vec<RelayKind>,
}

impl Relays {
    /// Of peers that stand by their ids.
    pub(super) fn of<'p>(
        peers: impl Iterator<Item = &'p Peer>,
        said: &BTreeMap<NodeId, Place>,
    ) -> Self {
        let nowhere = Place::default();
        let mut places: BTreeMap<_, usize> = BTreeMap::new();
        let mut nodes = Vec::new();
        for peer in peers.filter(|peer| peer.roles.iter().any(is_relay)) {
            let place = said.get(&peer.node).unwrap_or(&nowhere);
            let kind = (&peer.roles, &place.region, preference(place), place.relayed_lanes);
            let next = places.len();
            nodes.push((peer.node, *places.entry(kind).or_insert(next)));
        }
        let mut by_place: Vec<_> = places.into_iter().map(|(kind, place)| (place, kind)).collect();
        by_place.sort_unstable_by_key(|(place, _)| *place);
        let kinds = by_place.into_iter().map(|(_, kind)| {
            let (roles, region, preference, relayed_lanes) = kind;
            RelayKind { roles: roles.clone(), region: region.clone(), preference, relayed_lanes }
        });
        Self { nodes, kinds: kinds.collect() }
    }

    pub(super) fn kinds(&self) -> &[RelayKind] {
        &self.kinds
    }

    /// The kind of one relay.
    pub(super) fn kind(&self, node: NodeId) -> Option<&RelayKind> {
        Some(&self.kinds[self.place(node)?])
    }

    /// The place of one relay's kind, if it leads for this organization.
    pub(super) fn place_for(&self, organization: OrganizationId, node: NodeId) -> Option<usize> {
        self.place(node).filter(|place| self.kinds[*place].serves(organization))
    }

    fn place(&self, node: NodeId) -> Option<usize> {
        let found = self.nodes.binary_search_by_key(&node, |(node, _)| *node).ok()?;
        Some(self.nodes[found].1)
    }

    /// Each with the place of its kind. Whom a kind leads for is looked up once, and not for each
    /// who is of it.
    pub(super) fn of_organization(
        &self,
        organization: OrganizationId,
    ) -> impl Iterator<Item = (NodeId, usize)> {
        let serving: Vec<bool> = self.kinds.iter().map(|kind| kind.serves(organization)).collect();
        self.nodes.iter().copied().filter(move |(_, kind)| serving[*kind])
    }
}

impl RelayKind {
    fn serves(&self, organization: OrganizationId) -> bool {
        self.roles.iter().any(|scope| is_relay(scope) && scope.covers(organization))
    }
}

fn is_relay(scope: &RoleScope) -> bool {
    scope.role == NodeRole::RelayNode
}
