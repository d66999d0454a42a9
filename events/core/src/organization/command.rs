use rap_proto::{Name, OrganizationId};

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
}
