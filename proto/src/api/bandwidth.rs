use super::{Reference, bodies};
use crate::{Lane, Name, OrganizationId, ResourceKind, VpnConnectionId, bandwidth::Each};

bodies! {
    /// `PUT /organizations/{organization}/bandwidth`: all rules, in place of those before.
    pub struct SetBandwidth {
        pub rules: Vec<NewBandwidthRule>,
    }

    /// What fits all that is said of it has at most the cap, and at least what is reserved. Both
    /// hold at each node, and in each direction by itself.
    pub struct NewBandwidthRule {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub connection: Option<Reference>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub resource: Option<Reference>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub kind: Option<ResourceKind>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub user: Option<Reference>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub lane: Option<Lane>,
        /// For each of them by itself, instead of for all together.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub each: Option<Each>,
        /// Only bulk, and only while something of the same is interactive.
        #[serde(default)]
        pub while_interactive: bool,
        #[cfg_attr(feature = "openapi", schema(schema_with = rate))]
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[serde(deserialize_with = "super::whole::deserialize_option")]
        pub cap_bits_per_second: Option<u64>,
        #[cfg_attr(feature = "openapi", schema(schema_with = rate))]
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[serde(deserialize_with = "super::whole::deserialize_option")]
        pub reserved_bits_per_second: Option<u64>,
    }

    /// `PUT /organizations/{organization}/bandwidth/grant`: what the platform lets it take of each
    /// node, and keeps for it. What is absent is no bound.
    pub struct GrantBandwidth {
        #[cfg_attr(feature = "openapi", schema(schema_with = rate))]
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[serde(deserialize_with = "super::whole::deserialize_option")]
        pub cap_bits_per_second: Option<u64>,
        #[cfg_attr(feature = "openapi", schema(schema_with = rate))]
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[serde(deserialize_with = "super::whole::deserialize_option")]
        pub reserved_bits_per_second: Option<u64>,
    }

    /// `PUT /nodes/{node}/bandwidth`: the most that passes through it; without a cap, no bound.
    pub struct CapNodeBandwidth {
        #[cfg_attr(feature = "openapi", schema(schema_with = rate))]
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[serde(deserialize_with = "super::whole::deserialize_option")]
        pub cap_bits_per_second: Option<u64>,
    }

    /// `GET /organizations/{organization}/bandwidth`.
    pub struct Bandwidth {
        pub organization: OrganizationId,
        /// What the platform granted.
        pub granted: GrantBandwidth,
        pub rules: Vec<BandwidthRule>,
        /// The organization's.
        pub revision: u64,
    }

    pub struct BandwidthRule {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub connection: Option<NamedConnection>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub resource: Option<super::NamedResource>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub kind: Option<ResourceKind>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub user: Option<super::NamedUser>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub lane: Option<Lane>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub each: Option<Each>,
        pub while_interactive: bool,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub cap_bits_per_second: Option<u64>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub reserved_bits_per_second: Option<u64>,
    }

    pub struct NamedConnection {
        pub id: VpnConnectionId,
        /// Absent when the connection is gone.
        pub name: Option<Name>,
    }
}

impl From<&BandwidthRule> for NewBandwidthRule {
    /// The same rule, as it is set.
    fn from(rule: &BandwidthRule) -> Self {
        Self {
            connection: rule.connection.as_ref().map(|named| Reference::Id(named.id.uuid())),
            resource: rule.resource.as_ref().map(|named| Reference::Id(named.id.uuid())),
            kind: rule.kind,
            user: rule.user.as_ref().map(|named| Reference::Id(named.id.uuid())),
            lane: rule.lane,
            each: rule.each,
            while_interactive: rule.while_interactive,
            cap_bits_per_second: rule.cap_bits_per_second,
            reserved_bits_per_second: rule.reserved_bits_per_second,
        }
    }
}

#[cfg(feature = "openapi")]
fn rate() -> utoipa::openapi::schema::Object {
    use utoipa::openapi::schema::{ObjectBuilder, SchemaType, Type};

    ObjectBuilder::new()
        .schema_type(SchemaType::from_iter([Type::Integer, Type::Null]))
        .minimum(Some(8_000_u64))
        .maximum(Some(100_000_000_000_u64))
        .build()
}
