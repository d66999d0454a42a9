use rap_proto::{Name, OrganizationId};

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Pool {
    /// `None` before the pool was created.
    pub organization: Option<OrganizationId>,
    pub name: Option<Name>,
    pub removed: bool,
}
