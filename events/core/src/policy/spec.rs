use std::collections::BTreeSet;

use rap_proto::{OrganizationRole, ResourceId, ResourceKind, UserId};
use serde::{Deserialize, Serialize};

/// The most users, and the most resources, that one policy names.
pub const MAX_POLICY_ENTRIES: usize = 1_024;

/// Who may reach what: it permits when it matches the user **and** the resource.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolicySpec {
    /// The user matches by name here, or
    pub users: BTreeSet<UserId>,
    /// by the role that membership gives.
    pub roles: BTreeSet<OrganizationRole>,
    /// The resource matches by name here, or
    pub resources: BTreeSet<ResourceId>,
    /// by its kind.
    pub kinds: BTreeSet<ResourceKind>,
}

impl PolicySpec {
    /// Whether it permits a member with `role` to reach a resource of the same organization.
    pub fn permits(
        &self,
        user: UserId,
        role: OrganizationRole,
        resource: ResourceId,
        kind: ResourceKind,
    ) -> bool {
        self.matches_user(user, role) && self.matches_resource(resource, kind)
    }

    pub fn matches_user(&self, user: UserId, role: OrganizationRole) -> bool {
        self.users.contains(&user) || self.roles.contains(&role)
    }

    pub fn matches_resource(&self, resource: ResourceId, kind: ResourceKind) -> bool {
        self.resources.contains(&resource) || self.kinds.contains(&kind)
    }
}
