//! What a node keeps to of bandwidth.

use rap_proto::{
    NodeRole, OrganizationId,
    bandwidth::{Bandwidth, BandwidthRule, OrganizationBandwidth},
    carriers::CarrierRules,
};

use crate::state::{Node, State};

/// Whether flows of the organization begin or end at the node.
pub(super) fn shapes(node: &Node, organization: OrganizationId) -> bool {
    let roles = [NodeRole::EntryNode, NodeRole::StreamWorker];
    roles.into_iter().any(|role| node.serves(role, organization))
}

/// Whether flows of any organization begin at the node: only there a carrier is chosen.
pub(super) fn is_entry(node: &Node) -> bool {
    node.roles.iter().any(|scope| scope.role == NodeRole::EntryNode)
}

/// Whether flows of the organization can end at the node.
fn is_egress(state: &State, node: &Node, organization: OrganizationId) -> bool {
    let serves = node.serves(NodeRole::StreamWorker, organization);
    serves && state.pools().of(organization).any(|pool| node.pools.contains(&pool.id))
}

/// Whether a rule names nobody, or somebody who may reach something now.
fn names_a_member(state: &State, organization: OrganizationId, rule: &BandwidthRule) -> bool {
    rule.traffic.user.is_none_or(|user| {
        let acts = state.users().get(user).is_some_and(|user| !user.disabled && !user.erased);
        acts && state.users().role(organization, user).is_some()
    })
}

/// Every rule of the organizations that the node serves. An entry is told of no user and no
/// resource: what names one is kept to where its flows end. Of who left nobody is told.
pub(super) fn bandwidth(state: &State, node: &Node) -> Bandwidth {
    let organizations = state
        .organizations()
        .iter()
        .filter(|found| shapes(node, found.id))
        .map(|found| {
            let is_egress = is_egress(state, node, found.id);
            let told = |rule: &&BandwidthRule| {
                !rule.traffic.names_somebody()
                    || (is_egress && names_a_member(state, found.id, rule))
            };
            let OrganizationBandwidth { granted, rules, carriers } = &found.bandwidth;
            let rules = rules.iter().filter(told).copied().collect();
            // One that is an entry for others alone chooses nothing here.
            let is_entry = node.serves(NodeRole::EntryNode, found.id);
            let carriers = if is_entry { *carriers } else { CarrierRules::default() };
            (found.id, OrganizationBandwidth { granted: *granted, rules, carriers })
        })
        .filter(|(_, said)| !said.is_empty())
        .collect();
    let carriers = if is_entry(node) { state.cluster().carriers } else { CarrierRules::default() };
    Bandwidth { node: node.bandwidth_cap, organizations, carriers }
}
