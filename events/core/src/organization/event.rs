use rap_proto::{
    Name, OrganizationId,
    bandwidth::{Allowance, BandwidthRule},
    carriers::CarrierRules,
};
use serde::{Deserialize, Serialize};

use super::Quotas;
use crate::aggregate::events;

events! {
    /// What happened to an organization.
    OrganizationEvent:
    Created(OrganizationCreated) = "organization.created" / 1;
    Renamed(OrganizationRenamed) = "organization.renamed" / 1;
    Suspended(OrganizationSuspended) = "organization.suspended" / 1;
    Resumed(OrganizationResumed) = "organization.resumed" / 1;
    Removed(OrganizationRemoved) = "organization.removed" / 1;
    QuotasSet(OrganizationQuotasSet) = "organization.quotas_set" / 1;
    BandwidthGranted(OrganizationBandwidthGranted) = "organization.bandwidth_granted" / 1;
    BandwidthRuled(OrganizationBandwidthRuled) = "organization.bandwidth_ruled" / 1;
    CarriersRuled(OrganizationCarriersRuled) = "organization.carriers_ruled" / 1;
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OrganizationCreated {
    pub organization: OrganizationId,
    pub name: Name,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OrganizationRenamed {
    pub name: Name,
}

/// Nobody gets new access in it, and its sessions end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OrganizationSuspended {
    pub reason: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OrganizationResumed {}

/// Final: everything in it is unreachable from now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OrganizationRemoved {}

/// All quotas, as they are from now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OrganizationQuotasSet {
    pub quotas: Quotas,
}

/// What it may take of each node, as it is from now; nothing said is no bound.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OrganizationBandwidthGranted {
    pub granted: Allowance,
}

/// All bandwidth rules, as they are from now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OrganizationBandwidthRuled {
    pub rules: Vec<BandwidthRule>,
}

/// What its flows run on, as it is from now; of a lane without a rule, nodes decide.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OrganizationCarriersRuled {
    pub carriers: CarrierRules,
}
