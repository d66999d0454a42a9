use rap_proto::OrganizationId;

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NodeReport {
    /// The greatest recorded sequence; 0 for none.
    pub through: u64,
    pub organization: Option<OrganizationId>,
}
