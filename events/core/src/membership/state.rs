use rap_proto::{OrganizationId, OrganizationRole, UserId};

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Membership {
    /// `None` before the first grant; kept after a revocation.
    pub of: Option<(OrganizationId, UserId)>,
    /// `None` when the user is not a member.
    pub role: Option<OrganizationRole>,
}
