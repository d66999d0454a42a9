use rap_proto::OrganizationId;

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ApiToken {
    pub exists: bool,
    pub organization: Option<OrganizationId>,
    pub revoked: bool,
}
