//! What a node is told of paths.

use rap_proto::{NodeRole, paths::Paths};

use crate::state::{Node, State};

/// Whether lanes of anybody begin or end at the node.
pub(super) fn ends_paths(node: &Node) -> bool {
    let ends = [NodeRole::EntryNode, NodeRole::StreamWorker];
    node.roles.iter().any(|scope| ends.contains(&scope.role))
}

/// An entry chooses its paths; an egress helps in making holes.
pub(super) fn paths(state: &State, node: &Node) -> Paths {
    if ends_paths(node) { Paths { rule: state.cluster().paths } } else { Paths::default() }
}
