use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::bodies;
use crate::{ApiTokenId, CommandId, Digest, LoginId, NodeId, OrganizationId, Timestamp, UserId};

/// Who caused an event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(tag = "kind", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum AuditActor {
    /// The first start, or the first owner's set-up.
    Setup,
    User {
        user: UserId,
        login: LoginId,
    },
    ApiToken {
        user: UserId,
        token: ApiTokenId,
    },
    Node {
        node: NodeId,
    },
    System {
        process: String,
    },
}

/// One event of the log with its payload's secrets left out: an item of `GET /audit`, and the
/// data of one message of `GET /events`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct AuditEvent {
    pub position: u64,
    /// Such as `organization`.
    pub category: String,
    #[cfg_attr(feature = "openapi", schema(value_type = String, format = "uuid"))]
    pub stream: Uuid,
    pub revision: u64,
    /// Such as `organization.created`.
    #[serde(rename = "type")]
    pub event_type: String,
    pub schema: u16,
    pub organization: Option<OrganizationId>,
    pub actor: AuditActor,
    pub command: CommandId,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub causation: Option<u64>,
    pub at: Timestamp,
    /// The payload's fields; digests of secrets and password hashes are left out.
    #[cfg_attr(feature = "openapi", schema(value_type = Object))]
    pub payload: serde_json::Value,
}

bodies! {
    /// `GET /audit/replay`: every projection rebuilt from position 0, against the live ones.
    pub struct Replay {
        /// Whether both are the same, byte for byte.
        pub equal: bool,
        /// The last position that both have folded.
        pub position: u64,
        /// The SHA-256 of the rebuilt projections.
        pub digest: Digest,
        pub live_digest: Digest,
        /// How many events were folded.
        pub events: u64,
    }
}
