use rap_proto::{Name, OrganizationId};

use super::{PolicyDocument, PolicySpec};

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Policy {
    /// `None` before the policy was created.
    pub organization: Option<OrganizationId>,
    pub name: Option<Name>,
    /// Matches nobody while there is a document.
    pub spec: PolicySpec,
    pub document: Option<PolicyDocument>,
    pub removed: bool,
}
