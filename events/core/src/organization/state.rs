use rap_proto::{Name, OrganizationId, bandwidth::OrganizationBandwidth};

use super::Quotas;

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Organization {
    pub id: Option<OrganizationId>,
    pub name: Option<Name>,
    pub standing: Standing,
    pub quotas: Quotas,
    pub bandwidth: OrganizationBandwidth,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Standing {
    #[default]
    Absent,
    Active,
    Suspended,
    Removed,
}
