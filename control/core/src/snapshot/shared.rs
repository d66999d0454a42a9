//! What the snapshots of one state have in common, worked out once.
//!
//! Nodes with the same roles are told of the same peers, and nodes that serve the same pools of the
//! same resources. A fleet has many nodes and few such classes, and what one class is told takes a
//! look at the whole fleet.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use rap_proto::{
    Digest, NodeId, OrganizationId, PoolId, SessionId, UserId,
    snapshot::{Peer, Peers, Place, Places, Resource, Resources, RoleScope, Section},
};

use super::scope::visible_to;
use crate::{
    access::{permitted_users, ruled_users},
    state::{Node, NodeStanding, Policy, State},
};

/// The most classes of either kind that are remembered. With one more, all are worked out anew.
pub const MAX_CLASSES: usize = 1_024;

/// INVARIANT: everything in here follows from the state at `position`.
#[derive(Debug, Default)]
pub(super) struct Shared {
    position: u64,
    fleets: BTreeMap<Vec<RoleScope>, Arc<Fleet>>,
    resources: BTreeMap<Vec<PoolId>, Arc<Encoded>>,
    denied: Option<BTreeMap<NodeId, BTreeSet<SessionId>>>,
}

/// What nodes with the same roles know of others.
#[derive(Debug)]
pub(super) struct Fleet {
    peers: Peers,
    encoded: Encoded,
    places: Places,
    pub(super) revoked: BTreeSet<NodeId>,
}

/// A section as it is stored.
#[derive(Debug, Clone)]
pub(super) struct Encoded {
    pub(super) digest: Digest,
    pub(super) bytes: Vec<u8>,
}

impl Encoded {
    pub(super) fn of(section: &impl Section) -> Self {
        let bytes = section.to_bytes();
        Self { digest: Digest::of(&bytes), bytes }
    }
}

impl Fleet {
    fn of(state: &State, roles: &[RoleScope]) -> Self {
        let peer = |other: &Node| {
            let roles = visible_to(roles, other);
            (!roles.is_empty()).then(|| Peer {
                node: other.id,
                key: other.key.id(),
                roles,
                addresses: other.addresses.clone(),
            })
        };
        let peers = Peers { peers: state.nodes().approved().filter_map(peer).collect() };
        let revoked = state
            .nodes()
            .iter()
            .filter(|other| other.standing == NodeStanding::Revoked)
            .filter(|other| !visible_to(roles, other).is_empty())
            .map(|other| other.id)
            .collect();
        let named = peers.peers.iter().filter_map(|peer| state.nodes().get(peer.node));
        let places = named.map(|node| (node.id, node.place()));
        let places = Places { nodes: places.filter(|(_, place)| !place.is_unsaid()).collect() };
        Self { encoded: Encoded::of(&peers), peers, places, revoked }
    }

    /// The places that one of the nodes is told of: its peers' and its own.
    pub(super) fn places(&self, viewer: &Node) -> Places {
        let mut places = self.places.clone();
        // That it is draining itself it is told as its assignment.
        let own = Place { draining: false, ..viewer.place() };
        places.nodes.remove(&viewer.id);
        if !own.is_unsaid() {
            places.nodes.insert(viewer.id, own);
        }
        places
    }

    /// The peers that one of the nodes is told of: all but itself.
    pub(super) fn peers(&self, viewer: NodeId) -> Encoded {
        if !self.peers.peers.iter().any(|peer| peer.node == viewer) {
            return self.encoded.clone();
        }
        let others = self.peers.peers.iter().filter(|peer| peer.node != viewer);
        Encoded::of(&Peers { peers: others.cloned().collect() })
    }
}

impl Shared {
    /// Forgets what followed from another state.
    pub(super) fn follow(&mut self, state: &State) {
        if self.position != state.position() {
            *self = Self { position: state.position(), ..Self::default() };
        }
    }

    pub(super) fn fleet(&mut self, state: &State, roles: &[RoleScope]) -> Arc<Fleet> {
        if let Some(known) = self.fleets.get(roles) {
            return known.clone();
        }
        let fleet = Arc::new(Fleet::of(state, roles));
        remember(&mut self.fleets, roles.to_vec(), fleet)
    }

    /// The resources of these pools.
    pub(super) fn resources(&mut self, state: &State, pools: Vec<PoolId>) -> Arc<Encoded> {
        if let Some(known) = self.resources.get(&pools) {
            return known.clone();
        }
        let encoded = Arc::new(Encoded::of(&resources(state, &pools)));
        remember(&mut self.resources, pools, encoded)
    }

    /// The sessions that were denied and that this node may carry.
    pub(super) fn denied(&mut self, state: &State, node: NodeId) -> BTreeSet<SessionId> {
        let denied = self.denied.get_or_insert_with(|| {
            let mut nodes = BTreeMap::<_, BTreeSet<_>>::new();
            for (session, denied) in state.sessions().denied() {
                for node in &denied.nodes {
                    nodes.entry(*node).or_default().insert(session);
                }
            }
            nodes
        });
        denied.get(&node).cloned().unwrap_or_default()
    }
}

fn remember<K: Ord, V>(known: &mut BTreeMap<K, Arc<V>>, key: K, value: Arc<V>) -> Arc<V> {
    if known.len() >= MAX_CLASSES {
        known.clear();
    }
    known.insert(key, value.clone());
    value
}

fn resources(state: &State, pools: &[PoolId]) -> Resources {
    let mut users = UsersOf { state, known: BTreeMap::new() };
    let mut resources: Vec<Resource> = pools
        .iter()
        .filter_map(|pool| state.pools().get(*pool))
        .flat_map(|pool| state.resources().in_pool(pool.id).map(move |found| (pool, found)))
        .filter(|(pool, found)| pool.organization == found.organization)
        .map(|(_, found)| Resource {
            id: found.id,
            organization: found.organization,
            kind: found.kind,
            target: found.target.clone(),
            users: users.of(found.organization, found),
            carried: found.carried,
        })
        .collect();
    resources.sort_by_key(|resource| resource.id);
    Resources { resources }
}

/// The users of each policy, worked out once for all resources of an organization.
struct UsersOf<'a> {
    state: &'a State,
    known: BTreeMap<OrganizationId, Vec<(&'a Policy, BTreeSet<UserId>)>>,
}

impl UsersOf<'_> {
    fn of(
        &mut self,
        organization: OrganizationId,
        resource: &crate::state::Resource,
    ) -> BTreeSet<UserId> {
        let state = self.state;
        if state.policies().rules(organization).has_documents() {
            return ruled_users(state, resource);
        }
        let policies = self.known.entry(organization).or_insert_with(|| {
            let policies = state.policies().of(organization);
            policies.map(|policy| (policy, permitted_users(state, policy))).collect()
        });
        policies
            .iter()
            .filter(|(policy, _)| policy.spec.matches_resource(resource.id, resource.kind))
            .flat_map(|(_, users)| users.iter().copied())
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_classes_are_remembered_and_then_all_are_forgotten() {
        let mut known = BTreeMap::new();
        for class in 0..MAX_CLASSES {
            remember(&mut known, class, Arc::new(class));
        }
        assert_eq!(known.len(), MAX_CLASSES);
        remember(&mut known, MAX_CLASSES, Arc::new(MAX_CLASSES));
        assert_eq!(known.len(), 1);
    }
}
