use super::bodies;
use crate::{
    OrganizationId,
    carriers::{CarrierRule, CarrierRules, CarrierRuling},
};

bodies! {
    /// `PUT /organizations/{organization}/carriers`, and `PUT /platform/carriers` for everybody: what the
    /// flows of each lane run on, in place of what was said before. A lane of which nothing is said takes what its entries measure. A lane
    /// that does not exist is refused: a rule that was misspelt would lift another.
    #[serde(deny_unknown_fields)]
    pub struct SetCarriers {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub interactive: Option<CarrierRule>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub media: Option<CarrierRule>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub bulk: Option<CarrierRule>,
    }

    /// `GET /organizations/{organization}/carriers`.
    pub struct Carriers {
        pub organization: OrganizationId,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub interactive: Option<CarrierRule>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub media: Option<CarrierRule>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub bulk: Option<CarrierRule>,
        /// What the platform says of everybody's lanes. A server of the release before says nothing of it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub platform: Option<CarrierRules>,
        /// What both come to. As before.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub taken: Option<TakenCarriers>,
        /// The organization's.
        pub revision: u64,
    }

    /// What an organization's lanes take, by the platform's rules and by its own.
    pub struct TakenCarriers {
        pub interactive: CarrierRuling,
        pub media: CarrierRuling,
        pub bulk: CarrierRuling,
    }

    /// `GET /platform/carriers`.
    pub struct PlatformCarriers {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub interactive: Option<CarrierRule>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub media: Option<CarrierRule>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub bulk: Option<CarrierRule>,
        /// The cluster's.
        pub revision: u64,
    }
}
