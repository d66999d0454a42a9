//! What a node keeps to of bandwidth.

use rap_proto::{
    NodeRole, OrganizationId,
    bandwidth::{Bandwidth, BandwidthRule, OrganizationBandwidth},
};

use crate::state::{Node, State};

/// Whether flows of the organization begin or end at the node.
pub(super) fn shapes(node: &Node, organization: OrganizationId) -> bool {
    let roles = [NodeRole::EntryNode, NodeRole::StreamWorker];
    roles.into_iter().any(|role| node.serves(role, organization))
}

/// Every rule of the organizations that the node serves. An entry is told of no user and no
/// resource: what names one is kept to where its flows end.
pub(super) fn bandwidth(state: &State, node: &Node) -> Bandwidth {
    let organizations = state
        .organizations()
        .iter()
        .filter(|found| shapes(node, found.id))
        .map(|found| {
            let is_egress = node.serves(NodeRole::StreamWorker, found.id);
            let told = |rule: &&BandwidthRule| is_egress || !rule.traffic.names_somebody();
            let OrganizationBandwidth { granted, rules } = &found.bandwidth;
            let rules = rules.iter().filter(told).copied().collect();
            (found.id, OrganizationBandwidth { granted: *granted, rules })
        })
        .filter(|(_, said)| !said.is_empty())
        .collect();
    Bandwidth { node: node.bandwidth_cap, organizations }
}
