use super::{Reference, bodies};
use crate::{Name, OrganizationId, OrganizationRole, PolicyId, ResourceId, ResourceKind, UserId};

bodies! {
    /// Lets somebody reach something: (a user listed, or a member with a listed role) and (a
    /// resource listed, or of a listed kind). What no policy allows is denied.
    pub struct PolicyRules {
        #[serde(default)]
        pub users: Vec<Reference>,
        #[serde(default)]
        pub roles: Vec<OrganizationRole>,
        #[serde(default)]
        pub resources: Vec<Reference>,
        #[serde(default)]
        pub kinds: Vec<ResourceKind>,
    }

    /// `POST /organizations/{organization}/policies`.
    pub struct NewPolicy {
        pub name: Name,
        pub rules: PolicyRules,
    }

    /// `PUT /organizations/{organization}/policies/{policy}`.
    pub struct ChangePolicy {
        pub rules: PolicyRules,
    }

    pub struct Policy {
        pub id: PolicyId,
        pub organization: OrganizationId,
        pub name: Name,
        pub users: Vec<NamedUser>,
        pub roles: Vec<OrganizationRole>,
        pub resources: Vec<NamedResource>,
        pub kinds: Vec<ResourceKind>,
        pub revision: u64,
    }

    pub struct NamedUser {
        pub id: UserId,
        /// Absent when the user is gone.
        pub name: Option<Name>,
    }

    pub struct NamedResource {
        pub id: ResourceId,
        /// Absent when the resource is gone.
        pub name: Option<Name>,
    }
}
