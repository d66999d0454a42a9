//! The relays of a view in the shape that a route decision walks through: a thousand of them, and
//! few different sets of roles among them.

use std::collections::BTreeMap;

use rap_proto::{
    NodeId, NodeRole, OrganizationId,
    snapshot::{Peer, RoleScope},
};

/// INVARIANT: by id, and every place is one of `roles`.
#[derive(Debug, Clone)]
pub(super) struct Relays {
    /// Each with the place of its roles.
    nodes: Vec<(NodeId, usize)>,
    /// Each set of roles once, with [`NodeRole::RelayNode`] for somebody.
    roles: Vec<Vec<RoleScope>>,
}

impl Relays {
    /// Of peers that stand by their ids.
    pub(super) fn of<'p>(peers: impl Iterator<Item = &'p Peer>) -> Self {
        let mut places: BTreeMap<&[RoleScope], usize> = BTreeMap::new();
        let mut nodes = Vec::new();
        for peer in peers.filter(|peer| peer.roles.iter().any(is_relay)) {
            let next = places.len();
            nodes.push((peer.node, *places.entry(&peer.roles).or_insert(next)));
        }
        let mut roles = vec![Vec::new(); places.len()];
        for (scopes, place) in places {
            roles[place] = scopes.to_vec();
        }
        Self { nodes, roles }
    }

    /// Whom a set of roles makes a relay for is looked up once, and not for each who has it.
    pub(super) fn of_organization(
        &self,
        organization: OrganizationId,
    ) -> impl Iterator<Item = (NodeId, &[RoleScope])> {
        let serves = |scope: &RoleScope| is_relay(scope) && scope.covers(organization);
        let sets = self.roles.iter();
        let roles: Vec<Option<&[RoleScope]>> =
            sets.map(|set| set.iter().any(serves).then_some(&set[..])).collect();
        self.nodes.iter().filter_map(move |(node, place)| Some((*node, roles[*place]?)))
    }
}

fn is_relay(scope: &RoleScope) -> bool {
    scope.role == NodeRole::RelayNode
}
