use std::net::SocketAddr;

use super::{Reference, SecretText, bodies};
use crate::{
    AttachmentId, Name, NodeId, OrganizationId, PublicKey, RefusalCode, ResourceId, SessionId,
    Timestamp, UserId, observation::EndReason, term::terms,
};

terms! {
    SessionState, "session state":
    /// Authorized; no channel has reached the resource yet.
    Requested = "requested",
    Denied = "denied",
    Started = "started",
    /// Ended by authority; no node has confirmed it yet.
    Terminated = "terminated",
    Ended = "ended",
}

bodies! {
    /// `POST /sessions`: asks for access, or, with `session`, for a newer token of one.
    pub struct RequestAccess {
        /// May be left out when the caller is a member of exactly one organization.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub organization: Option<Reference>,
        pub resource: Reference,
        /// The key that the client will prove to hold; 66 hexadecimal digits.
        pub client_key: PublicKey,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub session: Option<SessionId>,
    }

    /// Everything that a client needs to connect.
    pub struct Access {
        pub session: SessionId,
        pub attachment: AttachmentId,
        pub resource: ResourceId,
        /// The access token, base64url without padding.
        pub token: SecretText,
        pub connect_by: Timestamp,
        pub expires_at: Timestamp,
        pub entries: Vec<EntryPoint>,
        /// The cluster's CA certificates, PEM: what the entry's certificate is checked against.
        pub authorities: String,
    }

    pub struct EntryPoint {
        pub node: NodeId,
        /// The name in the entry's certificate.
        pub server_name: String,
        #[cfg_attr(feature = "openapi", schema(value_type = Vec<String>))]
        pub addresses: Vec<SocketAddr>,
    }

    pub struct Session {
        pub id: SessionId,
        pub organization: OrganizationId,
        pub user: UserId,
        pub user_name: Option<Name>,
        pub resource: Option<ResourceId>,
        pub resource_name: Option<Name>,
        pub state: SessionState,
        pub requested_at: Timestamp,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub started_at: Option<Timestamp>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub ended_at: Option<Timestamp>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub end_reason: Option<EndReason>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub denial: Option<RefusalCode>,
        /// From the client to the resource.
        pub bytes_up: u64,
        pub bytes_down: u64,
        pub revision: u64,
    }
}
