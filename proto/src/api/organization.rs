use super::{Reference, bodies};
use crate::{Name, OrganizationId, OrganizationRole, PoolId, Timestamp, UserId};

bodies! {
    /// `POST /organizations`.
    pub struct NewOrganization {
        pub name: Name,
        /// Its first owner; without one, only platform roles can see to it.
        #[serde(default)]
        pub owner: Option<Reference>,
    }

    /// `PATCH /organizations/{organization}`.
    pub struct RenameOrganization {
        pub name: Name,
    }

    pub struct Organization {
        pub id: OrganizationId,
        pub name: Name,
        pub suspended: bool,
        pub created_at: Timestamp,
        pub revision: u64,
    }

    /// `PUT /organizations/{organization}/members/{user}`.
    pub struct SetMember {
        pub role: OrganizationRole,
    }

    pub struct Member {
        pub user: UserId,
        pub name: Name,
        pub role: OrganizationRole,
        pub revision: u64,
    }

    /// `POST /organizations/{organization}/pools`.
    pub struct NewPool {
        pub name: Name,
    }

    /// An egress pool: the logical place that resources are reached from.
    pub struct Pool {
        pub id: PoolId,
        pub organization: OrganizationId,
        pub name: Name,
        /// How many approved nodes serve it.
        pub nodes: u32,
        pub revision: u64,
    }
}
