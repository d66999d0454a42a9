use std::collections::BTreeMap;

use super::{Reference, bodies};
use crate::{Name, OrganizationId, PoolId, ResourceId, ResourceKind, VpnConnectionId, term::terms};

terms! {
    /// All that an organization learns of how its resources are reached.
    Availability, "availability":
    /// As it is meant to be.
    Available = "available",
    /// It works with less than is meant: an egress of its pool is gone or takes nobody new, or
    /// control grants nothing new at the moment.
    Degraded = "degraded",
    /// No entry takes clients, or no egress reaches it.
    Unavailable = "unavailable",
}

bodies! {
    /// Where a resource is, as seen from its egress pool.
    pub struct TargetSpec {
        /// A DNS name or an IP address.
        pub host: String,
        #[cfg_attr(feature = "openapi", schema(maximum = 65535))]
        #[serde(deserialize_with = "super::whole::deserialize")]
        pub port: u16,
        /// Whether loopback and link-local addresses may be dialled. Never metadata services.
        #[serde(default)]
        pub allow_local: bool,
    }

    /// `POST /organizations/{organization}/resources`.
    pub struct NewResource {
        pub name: Name,
        pub kind: ResourceKind,
        pub target: TargetSpec,
        /// The egress pool that it is reached from.
        pub pool: Reference,
        /// Words by which rules speak of several resources.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        pub labels: BTreeMap<Name, Name>,
    }

    /// `PATCH /organizations/{organization}/resources/{resource}`: what is absent stays.
    pub struct ChangeResource {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub kind: Option<ResourceKind>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub target: Option<TargetSpec>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub pool: Option<Reference>,
        /// Replaces all labels.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub labels: Option<BTreeMap<Name, Name>>,
    }

    /// `PUT /organizations/{organization}/resources/{resource}/connection`.
    pub struct SetResourceConnection {
        /// The connection that carries it from now on; none for none.
        pub connection: Option<Reference>,
    }

    pub struct Resource {
        pub id: ResourceId,
        pub organization: OrganizationId,
        pub name: Name,
        pub kind: ResourceKind,
        pub target: TargetSpec,
        pub pool: PoolId,
        pub pool_name: Name,
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        pub labels: BTreeMap<Name, Name>,
        /// The connection that carries it: it is reached from the node that holds that one's lease
        /// and from no other.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub connection: Option<VpnConnectionId>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub connection_name: Option<Name>,
        /// Absent in the answer to a creation, which is repeated as it was.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub availability: Option<Availability>,
        pub revision: u64,
    }

    /// `event: availability` of `GET /events?availability=true`: how resources of the organization can be
    /// reached now. The first ones name all of them, later ones those of which it changed.
    pub struct AvailabilityChanged {
        pub words: Vec<ResourceAvailability>,
    }

    pub struct ResourceAvailability {
        pub resource: ResourceId,
        pub availability: Availability,
    }

    /// `GET /resources`: something that the caller may connect to. It tells no address.
    pub struct Reachable {
        pub id: ResourceId,
        pub name: Name,
        pub kind: ResourceKind,
        pub organization: OrganizationId,
        pub organization_name: Name,
        /// Absent from a control plane of a release that does not say.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub availability: Option<Availability>,
    }
}
