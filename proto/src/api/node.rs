use std::{collections::BTreeSet, net::SocketAddr};

use super::{Reference, SecretText, bodies};
use crate::{
    Capability, Digest, JoinTokenId, Lane, Name, NodeId, OrganizationId, PoolId, Preference,
    Timestamp, authority::AuthorityStanding, snapshot::RoleScope, term::terms,
};

/// The longest life of a join token, in seconds.
pub const MAX_JOIN_TOKEN_SECONDS: u64 = 3_600;

terms! {
    NodeState, "node state":
    /// Waiting for an approver.
    Pending = "pending",
    Approved = "approved",
    Rejected = "rejected",
    Revoked = "revoked",
}

bodies! {
    pub struct Node {
        pub id: NodeId,
        pub name: Name,
        pub state: NodeState,
        /// Of the identity key: what the host shows too.
        pub fingerprint: Digest,
        #[cfg_attr(feature = "openapi", schema(value_type = Vec<String>))]
        pub addresses: Vec<SocketAddr>,
        pub capabilities: BTreeSet<Capability>,
        pub roles: Vec<RoleScope>,
        pub pools: Vec<PoolId>,
        /// The organization whose join token enrolled it; absent for a platform node.
        pub organization: Option<OrganizationId>,
        pub draining: bool,
        pub agent_version: String,
        pub requested_at: Timestamp,
        pub certificate_expires_at: Option<Timestamp>,
        pub renewal: u64,
        /// The newest configuration compiled for it.
        pub snapshot_version: u64,
        /// What it last said of itself; absent when it has not been heard since the server started.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub live: Option<NodeLive>,
        /// What it last told of control's authority there, for who reads the platform's audit log.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub authority: Option<NodeAuthority>,
        /// The most that passes through it, in each direction.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub bandwidth_cap_bits_per_second: Option<u64>,
        /// Where it is. Regions with the same part before the first dash are near each other.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub region: Option<Name>,
        #[serde(default)]
        pub preference: Preference,
        /// The lanes that it relays; absent for every lane.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub relayed_lanes: Option<BTreeSet<Lane>>,
        pub revision: u64,
    }

    /// From the log: what control's word was worth at the node when it last changed.
    pub struct NodeAuthority {
        pub standing: AuthorityStanding,
        /// By the node's clock.
        pub since: Timestamp,
        /// For how long no authority beat had been valid there by then, in milliseconds of the node's clock.
        pub without_ms: u64,
        /// Of the last beat that it had heard.
        pub epoch: u64,
        pub sequence: u64,
    }

    /// From the node's heartbeats: live facts, not history.
    pub struct NodeLive {
        pub last_seen: Timestamp,
        pub snapshot_version: u64,
        pub open_sessions: u32,
        pub draining: bool,
    }

    /// `POST /nodes/{node}/approve`.
    pub struct ApproveNode {
        /// What the approver compared with the host; another value is refused.
        pub fingerprint: Digest,
    }

    /// `PUT /nodes/{node}/roles`: replaces what it was assigned.
    pub struct SetNodeRoles {
        pub roles: Vec<RoleScope>,
    }

    /// `PUT /nodes/{node}/place`: replaces what was said of it, but for the lanes that it does not name.
    #[serde(deny_unknown_fields)]
    pub struct PlaceNode {
        /// Absent: nobody knows. `eu-west` and `eu-north` are near each other, `us-west` is not.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub region: Option<Name>,
        /// How gladly paths are led through it, where there is a choice.
        #[serde(default)]
        pub preference: Preference,
        /// The lanes that it relays, one at least. Absent: as it is, so that a client of a release before
        /// this takes no restriction away.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub relayed_lanes: Option<BTreeSet<Lane>>,
    }

    /// `PUT /nodes/{node}/pools`: replaces the egress pools that it serves.
    pub struct SetNodePools {
        pub pools: BTreeSet<PoolId>,
    }

    /// `POST /join-tokens`.
    pub struct NewJoinToken {
        /// The organization that the node will belong to; absent for a node of the platform.
        #[serde(default)]
        pub organization: Option<Reference>,
        /// The greatest roles that the node is given when it is approved.
        pub roles: Vec<RoleScope>,
        #[serde(default)]
        pub pools: BTreeSet<PoolId>,
        /// The only host name that it may be used by.
        #[serde(default)]
        pub host: Option<Name>,
        /// Lifetime in seconds; at most [`MAX_JOIN_TOKEN_SECONDS`].
        #[cfg_attr(feature = "openapi", schema(minimum = 1, maximum = 3600))]
        #[serde(deserialize_with = "super::whole::deserialize")]
        pub ttl_seconds: u64,
        /// Whether the node is approved as soon as it asks.
        #[serde(default)]
        pub auto_approve: bool,
    }

    pub struct JoinTokenCreated {
        pub token: JoinToken,
        /// `rapj_…`, shown this once.
        pub secret: SecretText,
        /// Of the CA certificate; goes into the join line as `sha256:<hex>`.
        pub ca_fingerprint: Digest,
    }

    pub struct JoinToken {
        pub id: JoinTokenId,
        pub organization: Option<OrganizationId>,
        pub roles: Vec<RoleScope>,
        pub pools: Vec<PoolId>,
        pub host: Option<Name>,
        pub auto_approve: bool,
        pub expires_at: Timestamp,
        /// The node that used it.
        pub used_by: Option<NodeId>,
        pub revoked: bool,
        pub revision: u64,
    }
}
