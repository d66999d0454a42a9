use rap_proto::{
    Name, OrganizationId,
    bandwidth::{Allowance, BandwidthRule},
    carriers::CarrierRules,
};

use super::Quotas;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OrganizationCommand {
    /// Claims [`crate::keys::organization_name`].
    Create {
        organization: OrganizationId,
        name: Name,
    },
    /// Releases the old name and claims the new one.
    Rename {
        name: Name,
    },
    Suspend {
        reason: String,
    },
    Resume,
    /// Releases the name.
    Remove,
    SetQuotas {
        quotas: Quotas,
    },
    /// What the organization may take of each node, by the platform.
    GrantBandwidth {
        granted: Allowance,
    },
    /// What the organization makes of it: all its rules.
    RuleBandwidth {
        rules: Vec<BandwidthRule>,
    },
    /// What its flows run on, in place of all that was ruled before.
    RuleCarriers {
        carriers: CarrierRules,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OrganizationRejection {
    #[error("the organization exists already")]
    AlreadyExists,
    #[error("there is no such organization")]
    NotFound,
    #[error("a reason is at most 256 bytes without control characters")]
    TextNotPlain,
    #[error("a quota is at most 1000000, and events per second at least 1")]
    QuotaOutOfRange,
    #[error("a rate is from 8kbit to 100gbit")]
    BandwidthOutOfRange,
    #[error("a rule has a cap, a reserve or both")]
    BandwidthSaysNothing,
    #[error("what is reserved is not above the cap")]
    ReserveAboveCap,
    #[error("an organization has at most 64 bandwidth rules")]
    TooManyBandwidthRules,
    #[error("two rules are about the same traffic")]
    BandwidthRuleTwice,
    #[error("something is reserved for one class, not for each of many or for a while")]
    ReserveForMany,
    #[error("only bulk gives way while something is interactive")]
    OnlyBulkGivesWay,
    #[error("caps, and all reserves together, are within what the platform granted")]
    BandwidthAboveGrant,
}
