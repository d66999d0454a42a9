//! Between an agent and the control plane over HTTPS: MessagePack bodies under `/node/v1`.
//!
//! | Call | Authenticated by | Body | Answer |
//! |---|---|---|---|
//! | `POST /node/v1/enroll` | the join secret, as bearer | [`EnrollRequest`] | [`EnrollReply`] |
//! | `POST /node/v1/enroll/poll` | a signature of the new key | [`PollRequest`] | [`EnrollReply`] |
//! | `POST /node/v1/renew` | mutual TLS | [`RenewRequest`] | [`Credentials`] |
//! | `POST /node/v1/leases` | mutual TLS | [`LeasesRequest`] | [`LeasesReply`] |
//! | `POST /node/v1/tree` | mutual TLS | [`TreeRequest`] | [`TreeReply`] |
//! | `POST /node/v1/beat` | mutual TLS | [`BeatRequest`] | [`BeatReply`] |
//! | `POST /node/v1/snapshot` | mutual TLS | [`SnapshotRequest`] | [`crate::snapshot::Bundle`], or 304 |

use std::{collections::BTreeSet, net::SocketAddr, ops::Not, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{
    Capability, ClusterId, Digest, Generation, Name, NodeId, PublicKey, Timestamp, VpnConnectionId,
    term::terms,
};

/// The largest body in either direction, but for snapshots.
pub const MAX_BODY_BYTES: usize = 32 * 1024;
/// The most that the certificates of [`BusCredentials::authorities`] take together.
pub const MAX_BUS_AUTHORITY_BYTES: usize = 16 * 1024;
/// The most addresses that a node may say it listens on.
pub const MAX_ADDRESSES: usize = 8;
/// The most servers of control that a node, or a login, is told of.
pub const MAX_SERVERS: usize = 16;
/// The most renewals in one call, and the most releases.
pub const MAX_LEASES_PER_CALL: usize = 64;
/// How long control keeps a connection on which nothing is asked. Longer than a node's polls for
/// snapshots and beats and its renewals of leases are apart, so none of them needs a new TLS
/// handshake; what is asked each minute does. Of whoever shows no certificate it is closed behind the answer.
pub const KEPT_IDLE: Duration = Duration::from_secs(30);

pub const CONTENT_TYPE: &str = "application/msgpack";
/// The label under which both ends export the value that binds an enrollment to its connection.
pub const ENROLL_EXPORTER_LABEL: &[u8] = b"EXPORTER-rap-enroll-v1";

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnrollRequest {
    /// PKCS #10, DER. Only its public key is used.
    #[serde(with = "serde_bytes")]
    pub csr: Vec<u8>,
    /// The identity key's signature over the connection's exported value.
    #[serde(with = "serde_bytes")]
    pub binding: [u8; 64],
    pub name: Name,
    pub addresses: Vec<SocketAddr>,
    pub capabilities: BTreeSet<Capability>,
    /// The public half of the agent's bus key, in NATS' text form (`U…`).
    pub bus_key: String,
    pub agent_version: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EnrollReply {
    /// Waiting for an approver, who compares `fingerprint` with what the host shows.
    Pending {
        node: NodeId,
        cluster: ClusterId,
        fingerprint: Digest,
    },
    Enrolled(Box<Credentials>),
    Rejected,
}

/// Signed with the identity key over [`PollRequest::message`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PollRequest {
    pub node: NodeId,
    pub at: Timestamp,
    #[serde(with = "serde_bytes")]
    pub signature: [u8; 64],
}

impl PollRequest {
    pub fn message(node: NodeId, at: Timestamp) -> Vec<u8> {
        format!("rap enroll poll v1 {node} {at}").into_bytes()
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RenewRequest {
    #[serde(with = "serde_bytes")]
    pub csr: Vec<u8>,
    /// The counter of the certificate in use; another value means that the identity was copied.
    pub renewal: u64,
    pub addresses: Vec<SocketAddr>,
}

/// Everything that an enrolled agent needs to work, none of it secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Credentials {
    pub cluster: ClusterId,
    pub node: NodeId,
    pub renewal: u64,
    /// DER, leaf first.
    pub certificates: Vec<serde_bytes::ByteBuf>,
    pub expires_at: Timestamp,
    pub control_keys: Vec<PublicKey>,
    pub bus: Option<BusCredentials>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BusCredentials {
    pub servers: Vec<String>,
    /// The NATS user token of the agent's bus key.
    pub jwt: String,
    /// DER: by whom servers at `tls://` prove themselves. None means the cluster's own CA.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub authorities: Vec<serde_bytes::ByteBuf>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotRequest {
    /// The version in use, zero for none. Answered 304 when there is no newer one.
    pub have: u64,
    /// The sections that need not be sent.
    pub sections: BTreeSet<Digest>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TreeRequest {
    /// The newest signed tree head that the node saw, with its own cosignature; empty for none.
    #[serde(with = "serde_bytes")]
    pub known: Vec<u8>,
    /// The Ed25519 key of the node's cosignatures, 32 bytes; empty from an agent that makes none.
    #[serde(default, with = "serde_bytes")]
    pub witness: Vec<u8>,
}

/// The log's tree as it is now, and that it grew out of the one that the node saw.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TreeReply {
    /// The signed tree head.
    #[serde(with = "serde_bytes")]
    pub head: Vec<u8>,
    /// RFC 6962, section 2.1.2; empty from the empty tree.
    pub consistency: Vec<Digest>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BeatRequest {
    /// The hash of the epoch statement that the node holds; it is not sent again.
    pub statement: Option<Digest>,
}

/// The newest beat, and the epoch statement that it is signed under.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BeatReply {
    /// Signed by the control key; empty when the node holds it.
    #[serde(with = "serde_bytes")]
    pub statement: Vec<u8>,
    /// Signed by a quorum of the statement's replicas; empty before the first.
    #[serde(with = "serde_bytes")]
    pub beat: Vec<u8>,
    /// Whether control records [`Observation::AuthorityChanged`](crate::observation::Observation). One of a
    /// release before can read no batch with such an observation.
    #[serde(default, skip_serializing_if = "Not::not")]
    pub records_changes: bool,
    /// Where nodes reach the servers of control, each written as a [`crate::ControlUrl`], at most
    /// [`MAX_SERVERS`]. Empty from a server that was told none, and from releases before.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub servers: Vec<String>,
}

/// What a holder asks for its leases, in one call for all of them.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct LeasesRequest {
    pub renewals: Vec<LeaseRenewal>,
    pub releases: Vec<LeaseRelease>,
}

/// The holder is still there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseRenewal {
    pub connection: VpnConnectionId,
    pub generation: Generation,
    /// The holder's own number for this renewal: the answer names it, so that it counts from the
    /// moment at which this renewal, and no other, was sent.
    pub request: u64,
}

/// The holder has stopped: nothing of this generation is sent any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseRelease {
    pub connection: VpnConnectionId,
    pub generation: Generation,
}

/// One answer for each renewal, and the releases that are done: taken now, or over before.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct LeasesReply {
    pub renewals: Vec<RenewalAnswer>,
    pub released: Vec<LeaseRelease>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RenewalAnswer {
    pub connection: VpnConnectionId,
    pub request: u64,
    pub outcome: RenewalVerdict,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RenewalVerdict {
    /// Held under this generation, for so long from the moment at which the request was sent.
    Renewed { generation: Generation, remaining_ms: u64 },
    /// A newer generation was granted: stop at once.
    Superseded { generation: Generation },
    /// It ran out, was released or fenced, or is not this node's: stop at once.
    Over,
}

terms! {
    /// Why control refused a node's call: what the agent acts on, whatever the HTTP status.
    NodeApiCode, "node API refusal":
    /// 400: the body is not in the expected form, or a value is outside its alphabet.
    Malformed = "malformed",
    /// 401: the join secret is unknown, expired or withdrawn.
    TokenInvalid = "token_invalid",
    /// 409: the join secret was used before.
    TokenUsed = "token_used",
    /// 403: the join secret does not permit this host name.
    NotPermitted = "not_permitted",
    /// 401: the certificate, signature or connection binding does not hold.
    NotTrusted = "not_trusted",
    /// 404: there is no such node.
    UnknownNode = "unknown_node",
    /// 403: the node was revoked, or its enrollment rejected. The agent stops for good.
    Revoked = "revoked",
    /// 409: another holder of this identity renewed it; both are locked until an admin decides.
    IdentityCopied = "identity_copied",
    /// 403: the organization has as many nodes as it may have. The join secret stays usable.
    QuotaReached = "quota_reached",
    /// 429 or 503: try again later.
    Unavailable = "unavailable",
}

/// The body of every answer that is neither 200 nor 304.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeApiRefusal {
    pub code: NodeApiCode,
    /// For the person who reads the agent's log; names nothing that the host may not know.
    pub message: String,
}
