//! Who is there in which role, and whom each node is told of.

use std::{collections::BTreeSet, sync::Arc};

use rap_mesh_core::View;
use rap_proto::NodeRole;

use crate::kit::Chance;

use super::{
    mutation::Mutation,
    node::index_of,
    organization::MAX_OF_A_ROLE,
    scope::Scope,
    snapshot::{self, Told},
    world::World,
};

/// The most others of one role that a node is told of.
const MAX_TOLD: usize = 24;

impl World {
    pub(super) fn tell(&mut self, index: usize) {
        if self.nodes[index].is_up() {
            let now = self.stage.now();
            let view = self.view(index);
            self.nodes[index].obey(now, &view.mesh);
            self.settle(index, true);
            self.stage.checkers.told(index, named(&view));
            self.nodes[index].take(now, view);
            if !self.nodes[index].planted(Mutation::PathKept) {
                self.leave_forbidden(index);
            }
            self.settle(index, true);
        }
    }

    pub(super) fn view(&self, index: usize) -> Arc<View> {
        let told = |index: usize| Told {
            index,
            role: self.nodes[index].role,
            scope: self.nodes[index].scope,
            region: self.network.hosts[index].region,
        };
        let known = self.told[index].iter().filter(|other| !self.withdrawn.contains(other));
        let peers = known.map(|other| match (told(*other), self.stage.mutation) {
            (peer, Some(Mutation::RoleNotChecked)) => Told { role: NodeRole::RelayNode, ..peer },
            (peer, Some(Mutation::ScopeForgotten)) => Told { scope: Scope::Everybody, ..peer },
            (peer, _) => peer,
        });
        snapshot::view(told(index), self.version, self.mesh.clone(), peers)
    }

    pub(super) fn with_role(&self, role: NodeRole) -> Vec<usize> {
        self.nodes.iter().filter(|node| node.role == role).map(|node| node.index).collect()
    }
}

pub(super) fn named(view: &View) -> BTreeSet<usize> {
    view.peers().map(|peer| index_of(peer.node)).collect()
}

/// A tenth relays and a quarter workers, at least three of each; the others are entries.
pub(super) fn cast(nodes: usize) -> Vec<NodeRole> {
    let (relays, workers) = ((nodes / 10).max(3), (nodes / 4).max(3));
    let role = |index| match index {
        index if index < relays => NodeRole::RelayNode,
        index if index < relays + workers => NodeRole::StreamWorker,
        _ => NodeRole::EntryNode,
    };
    (0..nodes.max(10)).map(role).collect()
}

/// Whether every node may know all that its role speaks with.
pub(super) fn is_whole(cast: &[NodeRole]) -> bool {
    let count = |role| cast.iter().filter(|other| **other == role).count();
    [NodeRole::EntryNode, NodeRole::StreamWorker, NodeRole::RelayNode]
        .into_iter()
        .all(|role| count(role) <= MAX_TOLD)
}

/// Relays are for everybody or for one organization alone, the others for everybody.
pub(super) fn scopes(cast: &[NodeRole], chance: &mut Chance) -> Vec<Scope> {
    let scope = |role: &NodeRole| match role {
        NodeRole::RelayNode => Scope::draw(chance),
        _ => Scope::Everybody,
    };
    cast.iter().map(scope).collect()
}

/// The nodes of a role that control is asked about.
pub(super) fn first_of(cast: &[NodeRole], role: NodeRole) -> Vec<usize> {
    (0..cast.len()).filter(|index| cast[*index] == role).take(MAX_OF_A_ROLE).collect()
}

/// Whom a node may know: those that its role speaks with, and never all of a large fleet.
pub(super) fn told(index: usize, cast: &[NodeRole], chance: &mut Chance) -> Vec<usize> {
    let roles: &[NodeRole] = match cast[index] {
        NodeRole::RelayNode => &[NodeRole::EntryNode, NodeRole::StreamWorker, NodeRole::RelayNode],
        NodeRole::EntryNode => &[NodeRole::RelayNode, NodeRole::StreamWorker],
        _ => &[NodeRole::EntryNode, NodeRole::RelayNode],
    };
    let mut told = Vec::new();
    for role in roles {
        let mut of_role: Vec<usize> =
            (0..cast.len()).filter(|other| cast[*other] == *role && *other != index).collect();
        while of_role.len() > MAX_TOLD {
            let places = of_role.len() as u64;
            of_role.swap_remove(usize::try_from(chance.below(places)).unwrap_or(0));
        }
        told.extend(of_role);
    }
    told.sort_unstable();
    told
}
