use super::bodies;
use crate::{OrganizationId, carriers::CarrierRule};

bodies! {
    /// `PUT /organizations/{organization}/carriers`: what the flows of each lane run on, in place of
    /// what was said before. A lane of which nothing is said takes what its entries measure. A lane
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
        /// The organization's.
        pub revision: u64,
    }
}
