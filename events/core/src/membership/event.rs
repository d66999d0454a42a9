use rap_proto::{OrganizationId, OrganizationRole, UserId};
use serde::{Deserialize, Serialize};

use crate::aggregate::events;

events! {
    /// What happened to a user's membership of an organization.
    MembershipEvent:
    Granted(MembershipGranted) = "membership.granted" / 1;
    Changed(MembershipChanged) = "membership.changed" / 1;
    Revoked(MembershipRevoked) = "membership.revoked" / 1;
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MembershipGranted {
    pub organization: OrganizationId,
    pub user: UserId,
    pub role: OrganizationRole,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MembershipChanged {
    pub organization: OrganizationId,
    pub user: UserId,
    pub role: OrganizationRole,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MembershipRevoked {
    pub organization: OrganizationId,
    pub user: UserId,
}
