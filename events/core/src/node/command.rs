use std::{collections::BTreeSet, net::SocketAddr};

use rap_proto::{
    BitRate, Capability, JoinTokenId, Lane, Name, PoolId, Preference, PublicKey, Timestamp,
    snapshot::RoleScope,
};

use super::Offer;

/// How long a node's certificate is valid: 24 hours.
pub const CERTIFICATE_MS: u64 = 24 * 3_600_000;
/// How long a lost answer to a renewal can be asked for again. Afterwards the same question means
/// that somebody else holds the identity too.
pub const RENEWAL_RETRY_MS: u64 = 300_000;
/// The most role scopes of one node or join token, each role once.
pub const MAX_ROLES: usize = 16;
/// The most organizations that one role scope names.
pub const MAX_SCOPE_ORGANIZATIONS: usize = 128;
/// The most egress pools that one node serves.
pub const MAX_POOLS: usize = 256;

#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "a command lives until it is decided")]
pub enum NodeCommand {
    /// Goes with [`crate::join_token::JoinTokenCommand::Use`] in one append, and claims
    /// [`crate::keys::node_name`] and [`crate::keys::node_key`]. Approves at once when the offer
    /// says so.
    Request {
        name: Name,
        key: PublicKey,
        addresses: Vec<SocketAddr>,
        capabilities: BTreeSet<Capability>,
        bus_key: String,
        agent_version: String,
        join_token: JoinTokenId,
        offer: Offer,
    },
    /// Assigns what the join token offered.
    Approve,
    /// Releases the name and the key.
    Reject {
        reason: String,
    },
    /// The first certificate, or once more the first one when its answer was lost.
    IssueCertificate {
        serial: [u8; 16],
        expires_at: Timestamp,
    },
    /// `renewal` is the number of the certificate in use. When it shows that the identity was
    /// copied, the outcome is [`super::NodeEvent::Revoked`] and no certificate.
    RenewCertificate {
        renewal: u64,
        serial: [u8; 16],
        expires_at: Timestamp,
    },
    AssignRoles {
        roles: Vec<RoleScope>,
    },
    AssignPools {
        pools: BTreeSet<PoolId>,
    },
    ReportCapabilities {
        capabilities: BTreeSet<Capability>,
        agent_version: String,
    },
    ChangeAddresses {
        addresses: Vec<SocketAddr>,
    },
    StartDraining,
    EndDraining,
    /// The agent derives the key from its identity key, so it has one for ever.
    RecordWitnessKey {
        key: [u8; 32],
    },
    /// The most that passes through it in each direction; none for no bound.
    CapBandwidth {
        cap: Option<BitRate>,
    },
    /// Where it is, how gladly paths are led through it, and which lanes it relays.
    Place {
        region: Option<Name>,
        preference: Preference,
        /// `None`: as it is.
        relayed_lanes: Option<BTreeSet<Lane>>,
    },
    /// Releases the name; the key stays taken for ever.
    Revoke {
        note: String,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NodeRejection {
    #[error("the node exists already")]
    AlreadyExists,
    #[error("there is no such node")]
    NotFound,
    #[error("the node waits for approval")]
    NotApproved,
    #[error("the node's request was rejected")]
    Rejected,
    #[error("the node was approved before")]
    AlreadyApproved,
    #[error("the node was revoked")]
    Revoked,
    #[error("the node has a certificate already and renews it")]
    AlreadyEnrolled,
    #[error("the node has no certificate to renew")]
    NotEnrolled,
    #[error("a certificate is valid for more than no time and for 24 hours at most")]
    LifetimeOutOfRange,
    #[error("too many roles, pools or organizations, or a role twice")]
    ScopeTooLarge,
    #[error("an organization's node serves no other organization")]
    ForeignOrganization,
    #[error("too many addresses")]
    TooManyAddresses,
    #[error("the node has another witness key")]
    OtherWitnessKey,
    #[error("a text is at most 256 bytes without control characters")]
    TextNotPlain,
    #[error("a rate is from 8kbit to 100gbit")]
    BandwidthOutOfRange,
    #[error("relayedLanes: a node relays one lane at least; all three for no restriction")]
    NoLaneRelayed,
}
