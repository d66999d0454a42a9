//! What rules a candidate out, whatever it is worth.

use std::collections::BTreeSet;

pub use rap_proto::Constraint;
use rap_proto::{Authority, ClusterId, Lane, Name, NodeId, NodeRole, OrganizationId, Timestamp};

use super::{Candidate, ChannelClass, Identity};

/// What a path is wanted for.
#[derive(Debug, Clone, Copy)]
pub struct Question<'a> {
    pub now: Timestamp,
    pub cluster: ClusterId,
    /// `None` for a node's own traffic: then any role's scope will do.
    pub organization: Option<OrganizationId>,
    /// `None` when the candidate is to be spoken to, and to do nothing more.
    pub role: Option<NodeRole>,
    /// What the candidate is to relay; `None` for nothing.
    pub relayed: Option<Lane>,
    pub placement: Placement<'a>,
    pub authority_epoch: u64,
    pub authority: Authority,
    pub class: ChannelClass,
    /// Where the asking node is.
    pub region: Option<&'a Name>,
}

/// Where policy allows the service.
#[derive(Debug, Clone, Copy)]
pub enum Placement<'a> {
    Anywhere,
    Only(&'a BTreeSet<NodeId>),
}

impl Question<'_> {
    /// The first constraint that rules `candidate` out.
    pub fn excludes(&self, candidate: &Candidate<'_>) -> Option<Constraint> {
        if candidate.cluster != self.cluster {
            return Some(Constraint::ClusterMembership);
        }
        if candidate.identity < Identity::Listed {
            return Some(Constraint::IdentityTrust);
        }
        if self.is_over(candidate.certificate_until) {
            return Some(Constraint::CertificateValidity);
        }
        if let Some(missing) = self.lacks_role(candidate) {
            return Some(missing);
        }
        if self.relayed.is_some_and(|lane| !candidate.relayed_lanes.has(lane)) {
            return Some(Constraint::Lane);
        }
        if let Placement::Only(allowed) = self.placement
            && !allowed.contains(&candidate.node)
        {
            return Some(Constraint::Placement);
        }
        if candidate.authority_epoch != self.authority_epoch || self.authority.is_isolated() {
            return Some(Constraint::AuthorityState);
        }
        None
    }

    /// Whether a certificate that was shown has ended.
    pub fn is_over(&self, certificate_until: Option<Timestamp>) -> bool {
        certificate_until.is_some_and(|until| until < self.now)
    }

    /// A role for other organizations is a matter of scope; none at all is one of assignment.
    fn lacks_role(&self, candidate: &Candidate<'_>) -> Option<Constraint> {
        let mut assigned = false;
        for scope in candidate.roles.iter() {
            if self.role.is_none_or(|wanted| wanted == scope.role) {
                if self.organization.is_none_or(|organization| scope.covers(organization)) {
                    return None;
                }
                assigned = true;
            }
        }
        // A node without any role may still be spoken to, in no organization's name.
        let nothing_asked = self.role.is_none() && self.organization.is_none();
        match assigned {
            true => Some(Constraint::OrganizationScope),
            false if nothing_asked => None,
            false => Some(Constraint::RoleAssignment),
        }
    }
}
