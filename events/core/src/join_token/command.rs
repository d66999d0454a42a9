use std::collections::BTreeSet;

use rap_proto::{Digest, Name, NodeId, OrganizationId, PoolId, Timestamp, snapshot::RoleScope};

use crate::Sensitive;

/// How long a join token may live: one hour.
pub const MAX_JOIN_TOKEN_MS: u64 = 3_600_000;
/// How many refused uses of one token are recorded: a host that goes on trying fills no log.
pub const MAX_RECORDED_REFUSALS: u32 = 16;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JoinTokenCommand {
    Create {
        secret: Sensitive<Digest>,
        roles: Vec<RoleScope>,
        pools: BTreeSet<PoolId>,
        organization: Option<OrganizationId>,
        host_name: Option<Name>,
        expires_at: Timestamp,
        auto_approve: bool,
    },
    /// `presented` is the digest of the secret that the host showed, `name` what it asks to be
    /// called, `node` the id that it gets.
    Use {
        presented: Sensitive<Digest>,
        node: NodeId,
        name: Name,
    },
    /// A host that showed the secret was refused; why follows from the token. `key_enrolled` says
    /// that its key was a node's already. Nothing follows for a token that it could have used, and
    /// beyond [`MAX_RECORDED_REFUSALS`].
    RecordRefusal {
        presented: Sensitive<Digest>,
        name: Name,
        key_enrolled: bool,
    },
    Revoke,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum JoinTokenRejection {
    #[error("the join token exists already")]
    AlreadyExists,
    #[error("there is no such join token")]
    NotFound,
    #[error("the join token was used before")]
    AlreadyUsed,
    #[error("the join token has expired")]
    Expired,
    #[error("the join token was revoked")]
    Revoked,
    #[error("the join token is for a host of another name")]
    HostNameMismatch,
    #[error("a join token lives for more than no time and for one hour at most")]
    LifetimeOutOfRange,
    #[error("too many roles, pools or organizations, or a role twice")]
    ScopeTooLarge,
    #[error("an organization's join token reaches no other organization")]
    ForeignOrganization,
}
