//! Why the fabric said no: one stable code, and a sentence for the person.

use serde::{Deserialize, Serialize};

use crate::term::terms;

terms! {
    /// The reason of a refusal on the realtime plane. Programs match this, never the message.
    RefusalCode, "refusal":
    /// The request is not in the expected form; a newer or broken client.
    Malformed = "malformed",
    /// The token is not signed by this cluster's control plane.
    TokenUntrusted = "token_untrusted",
    TokenExpired = "token_expired",
    TokenNotYetValid = "token_not_yet_valid",
    /// The token names other nodes than this one.
    TokenWrongAudience = "token_wrong_audience",
    /// Whoever presented the token does not hold the key it is bound to.
    TokenWrongKey = "token_wrong_key",
    /// The token is of another cluster or another authority epoch.
    TokenWrongCluster = "token_wrong_cluster",
    /// The session was ended or its user's access withdrawn.
    SessionTerminated = "session_terminated",
    /// The token does not permit this channel, direction or lane.
    ChannelNotPermitted = "channel_not_permitted",
    /// No policy lets this user reach this resource, or there is no such resource.
    AccessDenied = "access_denied",
    /// The node was not assigned the role that this needs.
    RoleNotAssigned = "role_not_assigned",
    /// The other node is unknown here, or its enrollment was revoked.
    PeerNotTrusted = "peer_not_trusted",
    NodeDraining = "node_draining",
    /// The node has not yet got the configuration that the token was issued under.
    SnapshotBehind = "snapshot_behind",
    /// The node's configuration is too old to accept anything new.
    SnapshotStale = "snapshot_stale",
    /// No path leads to a node that serves the resource.
    PathUnavailable = "path_unavailable",
    /// The adapter worker is not running; it is being restarted.
    WorkerUnavailable = "worker_unavailable",
    /// The resource's address may not be dialled: loopback, link-local or metadata.
    AddressNotAllowed = "address_not_allowed",
    /// The resource did not answer.
    TargetUnreachable = "target_unreachable",
    /// The resource refused the connection.
    TargetRefused = "target_refused",
    /// A limit was reached; the message names it.
    LimitReached = "limit_reached",
    /// What was asked for belongs to a lease that another node holds by now.
    LeaseSuperseded = "lease_superseded",
    /// The node has not heard for too long that control has a quorum.
    AuthorityLost = "authority_lost",
    /// Nobody can be shown to hold the lease that this needs: no node holds it, or the one that was
    /// asked does not, or that one cannot keep a record of it.
    LeaseNotHeld = "lease_not_held",
    /// Nothing on the node serves channels of this kind.
    ChannelNotServed = "channel_not_served",
    /// The node relays no flows of this lane.
    LaneNotRelayed = "lane_not_relayed",
}

/// The longest message that is sent along with a code.
pub const MAX_MESSAGE_BYTES: usize = 256;

/// A refusal as it travels: the code for programs, the message for people. The message holds no
/// address, node or name of anything that the receiver may not see.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message} ({code})")]
pub struct Refusal {
    pub code: RefusalCode,
    pub message: String,
}

impl Refusal {
    pub fn new(code: RefusalCode, message: impl Into<String>) -> Self {
        let mut message = message.into();
        if message.len() > MAX_MESSAGE_BYTES {
            let end = (0..=MAX_MESSAGE_BYTES).rev().find(|at| message.is_char_boundary(*at));
            message.truncate(end.unwrap_or(0));
        }
        Self { code, message }
    }
}
