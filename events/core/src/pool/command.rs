use rap_proto::{Name, OrganizationId};

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PoolCommand {
    /// Claims [`crate::keys::pool_name`].
    Create { organization: OrganizationId, name: Name },
    /// Releases the name. That no resource is in it is checked by whoever sees them all.
    Remove,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PoolRejection {
    #[error("the egress pool exists already")]
    AlreadyExists,
    #[error("there is no such egress pool")]
    NotFound,
}
