use std::collections::BTreeMap;

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

bodies! {
    /// What a person's command rests on, as it was decided.
    pub struct AuditAllowed {
        /// What was asked, such as `resource.create`.
        pub actions: Vec<String>,
        /// The rules that answered: `builtin/<holder>`, or `<policy>/<rule>` of a document. At most 16.
        pub rules: Vec<String>,
        /// The hash of all of the organization's policies, where it was about one organization.
        pub policy_hash: Option<Digest>,
        /// The position of the newest change of the user, the membership, the organization or the
        /// resource.
        pub entity_version: Option<u64>,
    }
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
    /// By what a person was allowed to. Null where it is not recorded: of whoever is no person, of
    /// what needs no permission, and of events that a release before this record stored.
    #[serde(default)]
    pub allowed: Option<AuditAllowed>,
    pub command: CommandId,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub causation: Option<u64>,
    pub at: Timestamp,
    /// The payload's fields; digests of secrets and password hashes are left out.
    #[cfg_attr(feature = "openapi", schema(value_type = Object))]
    pub payload: serde_json::Value,
}

bodies! {
    /// `GET /audit/replay`: every projection rebuilt from position 0, and what it was compared
    /// with.
    pub struct Replay {
        /// Whether nothing differs: the rebuilt projections from the live ones, every event from
        /// what the log's tree commits to, and the node's snapshot from what it was served and said
        /// that it applied. Null when nothing differs and the replica that answers knows neither of
        /// the node: its snapshot was compiled again and compared with nothing.
        #[serde(default)]
        pub equal: Option<bool>,
        /// The position up to which events were folded.
        pub position: u64,
        /// The SHA-256 of the rebuilt projections.
        pub digest: Digest,
        /// The SHA-256 of each rebuilt projection, by its name.
        #[serde(default)]
        pub projections: BTreeMap<String, Digest>,
        /// The position of the live projections. The rebuilt ones of an earlier position were folded
        /// on to it and then compared.
        #[serde(default)]
        pub live_position: u64,
        /// Of the live projections; absent in a replay of an earlier position.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub live_digest: Option<Digest>,
        /// The live projections that are not the rebuilt ones, by name.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        pub differing: Vec<String>,
        /// How many events were folded, as far as `position`.
        pub events: u64,
        /// The root of the Merkle tree over these events.
        pub root: Digest,
        /// The first position, as far as `livePosition`, from which on the tree commits to
        /// something else.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub altered: Option<u64>,
        /// What the node that was asked for was to know then.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub snapshot: Option<ReplayedSnapshot>,
    }

    /// A node's snapshot of an earlier moment, compiled again.
    pub struct ReplayedSnapshot {
        pub node: NodeId,
        pub version: u64,
        pub issued_at: Timestamp,
        /// The SHA-256 of the manifest, as the node's own state names it.
        pub digest: Digest,
        /// The SHA-256 of the manifest of this version that the node was served by the replica that
        /// answers; absent when it did not lately.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub served_digest: Option<Digest>,
        /// The SHA-256 of the manifest of this version that the node said, to the replica that
        /// answers, that it acts on; absent when the replica did not hear it lately.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub applied_digest: Option<Digest>,
        /// The SHA-256 of each section, by its name.
        pub sections: BTreeMap<String, Digest>,
    }

    /// `GET /log/keys`: what the log's tree heads are checked with.
    pub struct LogKeys {
        /// In the form of C2SP signed notes: `<name>+<key id>+<base64>`.
        pub keys: Vec<String>,
        /// The P-256 key among them, as PEM.
        pub p256_pem: String,
    }

    /// `GET /log/heads`: what the log had come to at one moment, and who co-signed it.
    pub struct SealedHead {
        /// The number of events.
        pub size: u64,
        pub sealed_at: Timestamp,
        /// The nodes whose cosignatures stand below it.
        pub nodes: Vec<NodeId>,
        /// The signed tree head with its cosignatures.
        pub checkpoint: String,
    }

    /// `GET /log/proof/{position}`: that one event is in the log.
    pub struct Inclusion {
        pub position: u64,
        /// The bytes that the tree commits to, in base64.
        pub entry: String,
        /// The size of the tree that the proof is for: the checkpoint's.
        pub size: u64,
        /// RFC 6962, section 2.1.1: the leaf's neighbours, from the lowest up.
        pub proof: Vec<Digest>,
        /// The signed tree head.
        pub checkpoint: String,
    }
}
