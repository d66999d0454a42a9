use std::collections::BTreeSet;

use rap_proto::{LeaseClass, Name, NodeId, OrganizationId};

use crate::lease::Tenure;

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct VpnConnection {
    pub created: Option<Created>,
    /// Which nodes may carry it; empty for any.
    pub nodes: BTreeSet<NodeId>,
    pub enabled: bool,
    pub tenure: Tenure,
    /// Whether the present holder was asked to hand over.
    pub drain_requested: bool,
    pub removed: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Created {
    pub organization: OrganizationId,
    pub name: Name,
    pub class: LeaseClass,
}

impl VpnConnection {
    pub fn allows(&self, node: NodeId) -> bool {
        self.nodes.is_empty() || self.nodes.contains(&node)
    }
}
