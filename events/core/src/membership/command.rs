use rap_proto::{OrganizationId, OrganizationRole, UserId};

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MembershipCommand {
    /// Also after a revocation.
    Grant {
        organization: OrganizationId,
        user: UserId,
        role: OrganizationRole,
    },
    Change {
        role: OrganizationRole,
    },
    Revoke,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MembershipRejection {
    #[error("the user is a member already, with another role")]
    AlreadyMember,
    #[error("the user is not a member")]
    NotAMember,
    #[error("the stream belongs to another membership")]
    OtherMembership,
}
