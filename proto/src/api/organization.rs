use super::{Reference, bodies};
use crate::{Name, OrganizationId, OrganizationRole, PoolId, Timestamp, UserId};

/// The greatest quota of any kind.
pub const MAX_QUOTA: u32 = 1_000_000;

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

    /// `PUT /organizations/{organization}/quotas`: what is absent stays; none above
    /// [`MAX_QUOTA`].
    pub struct SetQuotas {
        #[cfg_attr(feature = "openapi", schema(schema_with = quota))]
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[serde(deserialize_with = "super::whole::deserialize_option")]
        pub nodes: Option<u32>,
        #[cfg_attr(feature = "openapi", schema(schema_with = quota))]
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[serde(deserialize_with = "super::whole::deserialize_option")]
        pub sessions: Option<u32>,
        #[cfg_attr(feature = "openapi", schema(schema_with = rate_quota))]
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[serde(deserialize_with = "super::whole::deserialize_option")]
        pub events_per_second: Option<u32>,
    }

    /// How much an organization may take of what all share, and what it has at the moment.
    pub struct Quotas {
        pub nodes: u32,
        pub nodes_used: u32,
        /// Sessions that are open at once.
        pub sessions: u32,
        pub sessions_used: u32,
        /// Events that its members' commands may add to the log in a second.
        pub events_per_second: u32,
        /// The organization's.
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

#[cfg(feature = "openapi")]
fn quota() -> utoipa::openapi::schema::Object {
    quota_from(0)
}

/// No rate may be 0: nothing could be undone.
#[cfg(feature = "openapi")]
fn rate_quota() -> utoipa::openapi::schema::Object {
    quota_from(1)
}

#[cfg(feature = "openapi")]
fn quota_from(least: u32) -> utoipa::openapi::schema::Object {
    use utoipa::openapi::schema::{ObjectBuilder, SchemaType, Type};

    ObjectBuilder::new()
        .schema_type(SchemaType::from_iter([Type::Integer, Type::Null]))
        .minimum(Some(least))
        .maximum(Some(MAX_QUOTA))
        .build()
}
