use rap_proto::{Generation, NodeRole, OrganizationId, Timestamp};

use super::HAND_OVER_LIMIT;
use crate::state::{Node, State, VpnConnection};

/// Whether a node may carry a connection at all.
pub fn may_carry(node: &Node, connection: &VpnConnection) -> bool {
    node.is_approved()
        && connection.allows(node.id)
        && node.serves(NodeRole::VpnConnector, connection.organization)
}

/// The nodes that may carry a connection, in the order of their ids. Where it names nodes, only
/// these are looked at.
pub fn carriers<'a>(
    state: &'a State,
    connection: &'a VpnConnection,
) -> impl Iterator<Item = &'a Node> {
    let named = connection.nodes.iter().filter_map(|id| state.nodes().get(*id));
    let named = named.filter(|node| may_carry(node, connection));
    let any = connection.nodes.is_empty().then(|| connectors(state, connection.organization));
    named.chain(any.into_iter().flatten())
}

/// The nodes that may carry what an organization leaves to any of them, in the order of their ids.
pub(super) fn connectors(
    state: &State,
    organization: OrganizationId,
) -> impl Iterator<Item = &Node> {
    let connects = move |node: &&Node| node.serves(NodeRole::VpnConnector, organization);
    state.nodes().approved().filter(connects)
}

/// Whether anybody shall carry a connection now.
pub fn is_wanted(state: &State, connection: &VpnConnection) -> bool {
    connection.enabled && state.organizations().is_active(connection.organization)
}

/// Whether a node's lease of a connection is renewed. When the connection or its organization
/// changed so that the node may hold it no longer, the node is asked for it, and renewed for as long
/// as handing over may take; one that does not react loses it then. A node that lost the role loses
/// it at once. A state that does not know of the generation yet may not know of the permission
/// either, which stands before it in the log: then the row alone decides.
pub fn may_renew(
    state: &State,
    node: &Node,
    (connection, generation): (&VpnConnection, Generation),
    now: Timestamp,
) -> bool {
    let behind = connection.generation < generation.number();
    if behind || may_carry(node, connection) && is_wanted(state, connection) {
        return true;
    }
    let serves = node.is_approved() && node.serves(NodeRole::VpnConnector, connection.organization);
    let organization = state.organizations().get(connection.organization);
    let changed = organization.map_or(Timestamp::default(), |found| found.stamp.changed_at);
    let changed = changed.max(connection.stamp.changed_at);
    serves && now.since(changed) < HAND_OVER_LIMIT
}
