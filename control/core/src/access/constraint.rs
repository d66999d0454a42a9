//! What rules a node out for another, as control knows it.
//!
//! A node that is asked says of its peers which constraint rules them out. Most never get so far: whom
//! the two roles, the organizations or a revocation keep apart, a snapshot does not name, and the node
//! knows nothing of them. Only control can say why.

use rap_proto::{Constraint, Lane, NodeRole, OrganizationId, Timestamp};

use crate::{
    snapshot::{speaks_with, visible_roles},
    state::{Node, NodeStanding, Resource, State},
};

/// Whether `viewer` may use `other`, for a resource or for anything.
#[derive(Debug, Clone, Copy)]
pub struct Pair<'a> {
    pub viewer: &'a Node,
    pub other: &'a Node,
    pub resource: Option<&'a Resource>,
    pub now: Timestamp,
    /// Whether control grants nothing at the moment.
    pub frozen: bool,
}

/// One constraint that rules a node out, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RuledOut {
    pub constraint: Constraint,
    pub reason: &'static str,
}

impl Pair<'_> {
    /// Every constraint that rules the other one out, in the order in which they are asked.
    pub fn ruled_out(&self, state: &State) -> Vec<RuledOut> {
        let findings = [
            (Constraint::ClusterMembership, self.membership()),
            (Constraint::IdentityTrust, self.trust()),
            (Constraint::CertificateValidity, self.certificate()),
            (Constraint::OrganizationScope, self.scope()),
            (Constraint::RoleAssignment, self.assignment()),
            (Constraint::Lane, self.relayed(Lane::Interactive)),
            (Constraint::Lane, self.relayed(Lane::Media)),
            (Constraint::Lane, self.relayed(Lane::Bulk)),
            (Constraint::Placement, self.placement(state)),
            (Constraint::AuthorityState, self.authority()),
        ];
        let found = findings.into_iter();
        found
            .filter_map(|(constraint, why)| why.map(|reason| RuledOut { constraint, reason }))
            .collect()
    }

    fn membership(&self) -> Option<&'static str> {
        match self.other.standing {
            NodeStanding::Pending => Some("its enrollment waits for approval"),
            NodeStanding::Rejected => Some("its enrollment was rejected"),
            NodeStanding::Approved | NodeStanding::Revoked => None,
        }
    }

    fn trust(&self) -> Option<&'static str> {
        (self.other.standing == NodeStanding::Revoked).then_some("its enrollment was revoked")
    }

    fn certificate(&self) -> Option<&'static str> {
        let is_over = self.other.certificate_expires_at.is_some_and(|end| end < self.now);
        is_over.then_some("its certificate was not renewed in time")
    }

    /// A role for other organizations is a matter of scope; none at all is one of assignment.
    fn scope(&self) -> Option<&'static str> {
        if !self.are_to_speak() {
            return None;
        }
        if let Some((role, organization)) = self.wanted()
            && has_role(self.other, role)
        {
            let serves = self.other.serves(role, organization);
            return (!serves).then_some("its role is not for the resource's organization");
        }
        let share = !visible_roles(self.viewer, self.other).is_empty();
        (!share).then_some("the two serve no organization together")
    }

    fn assignment(&self) -> Option<&'static str> {
        if self.other.roles.is_empty() {
            return Some("no role was assigned to it");
        }
        if self.viewer.roles.is_empty() {
            return Some("no role was assigned to the node that asks");
        }
        if !self.are_to_speak() {
            return Some("nodes with the roles of these two have nothing to say to each other");
        }
        let (role, _) = self.wanted()?;
        (!has_role(self.other, role)).then_some("it has not the role of an egress")
    }

    /// Of a relay: for this lane alone.
    fn relayed(&self, lane: Lane) -> Option<&'static str> {
        if !is_relay_alone(self.other) || self.other.relayed_lanes.has(lane) {
            return None;
        }
        Some(match lane {
            Lane::Interactive => "it does not relay the lane interactive",
            Lane::Media => "it does not relay the lane media",
            Lane::Bulk => "it does not relay the lane bulk",
        })
    }

    /// Of an egress: the resource's pool, and the holder of its connection's lease.
    fn placement(&self, state: &State) -> Option<&'static str> {
        let resource = self.resource.filter(|_| !has_role(self.other, NodeRole::RelayNode))?;
        if !self.other.pools.contains(&resource.pool) {
            return Some("the resource is reached from another egress pool");
        }
        let connection = state.vpn_connections().get(resource.carried?)?;
        match connection.lease {
            None => Some("nobody holds the lease of the resource's connection"),
            Some(lease) if lease.node != self.other.id => {
                Some("another node holds the lease of the resource's connection")
            }
            Some(_) => None,
        }
    }

    fn authority(&self) -> Option<&'static str> {
        self.frozen.then_some("control has no quorum and grants nothing new")
    }

    /// What the other one is needed as for the resource; a relay is none for being the egress.
    fn wanted(&self) -> Option<(NodeRole, OrganizationId)> {
        let organization = self.resource?.organization;
        let is_relay = is_relay_alone(self.other);
        let role = if is_relay { NodeRole::RelayNode } else { NodeRole::StreamWorker };
        Some((role, organization))
    }

    fn are_to_speak(&self) -> bool {
        let others = || self.other.roles.iter();
        self.viewer.roles.iter().any(|own| others().any(|other| speaks_with(own.role, other.role)))
    }
}

/// An egress that is a relay as well is asked about as the egress.
fn is_relay_alone(node: &Node) -> bool {
    has_role(node, NodeRole::RelayNode) && !has_role(node, NodeRole::StreamWorker)
}

fn has_role(node: &Node, role: NodeRole) -> bool {
    node.roles.iter().any(|scope| scope.role == role)
}

#[cfg(test)]
mod tests;
