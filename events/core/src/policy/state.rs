use rap_proto::{Name, OrganizationId};

use super::PolicySpec;

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Policy {
    /// `None` before the policy was created.
    pub organization: Option<OrganizationId>,
    pub name: Option<Name>,
    pub spec: PolicySpec,
    pub removed: bool,
}
