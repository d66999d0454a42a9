//! Who may know of whom.

use std::collections::BTreeSet;

use rap_proto::{NodeRole, OrganizationId, snapshot::RoleScope};

use crate::state::Node;

/// Which roles a node with a role has to speak with.
const SPEAKS_WITH: &[(NodeRole, &[NodeRole])] = &[
    (NodeRole::EntryNode, &[NodeRole::StreamWorker, NodeRole::RelayNode]),
    // A path may lead over several relays, each of which asks the next.
    (NodeRole::RelayNode, &[NodeRole::EntryNode, NodeRole::StreamWorker, NodeRole::RelayNode]),
    // An egress that nobody reaches from outside keeps itself reachable at relays.
    (NodeRole::StreamWorker, &[NodeRole::EntryNode, NodeRole::RelayNode]),
];

/// Whether a node with the role `own` has to speak with one that has the role `other`.
pub(crate) fn speaks_with(own: NodeRole, other: NodeRole) -> bool {
    SPEAKS_WITH.iter().any(|(role, others)| *role == own && others.contains(&other))
}

/// What of `other`'s roles `viewer` is told: those that it has to speak with, and of each scope the
/// organizations that both serve. Empty when it is told nothing of the node at all.
///
/// The standing of the nodes does not matter here: a revoked node was known to the same viewers.
pub(crate) fn visible_roles(viewer: &Node, other: &Node) -> Vec<RoleScope> {
    if viewer.id == other.id {
        return Vec::new();
    }
    visible_to(&viewer.roles, other)
}

/// The same for every other node that has these roles.
pub(super) fn visible_to(roles: &[RoleScope], other: &Node) -> Vec<RoleScope> {
    other.roles.iter().filter_map(|offered| visible_scope(roles, offered)).collect()
}

fn visible_scope(roles: &[RoleScope], offered: &RoleScope) -> Option<RoleScope> {
    let needed = roles.iter().filter(|own| speaks_with(own.role, offered.role));
    let shared: Vec<Scope> = needed.filter_map(|own| shared(own, offered)).collect();
    let organizations = shared.into_iter().reduce(union)?;
    Some(RoleScope { role: offered.role, organizations })
}

/// `None` is every organization.
type Scope = Option<BTreeSet<OrganizationId>>;

fn shared(own: &RoleScope, offered: &RoleScope) -> Option<Scope> {
    let shared = match (&own.organizations, &offered.organizations) {
        (None, None) => return Some(None),
        (Some(set), None) | (None, Some(set)) => set.clone(),
        (Some(own), Some(offered)) => own.intersection(offered).copied().collect(),
    };
    (!shared.is_empty()).then_some(Some(shared))
}

fn union(left: Scope, right: Scope) -> Scope {
    Some(left?.into_iter().chain(right?).collect())
}
