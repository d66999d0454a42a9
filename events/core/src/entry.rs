//! An event as the Merkle tree commits to it: one byte string for each envelope, forever.
//!
//! | Field | Form |
//! |---|---|
//! | `v` | 1 |
//! | `position`, `revision` | unsigned |
//! | `category`, `type` | text |
//! | `stream`, `command` | 16 bytes |
//! | `schema` | unsigned |
//! | `payload` | SHA-256 of the stored payload, 32 bytes |
//! | `organization` | 16 bytes, or nil |
//! | `actor` | MessagePack, as bytes; of a person with what was allowed, where that was recorded |
//! | `causation` | unsigned, or nil |
//! | `at` | milliseconds since 1970 |
//!
//! MessagePack with named fields, in this order. The payload stands behind its hash, so that an
//! auditor can be given the whole tree and of the payloads those that he may read: some hold
//! password verifiers. What he hashes are the bytes that he was given: nobody encodes an event
//! again to verify it. The log stores the fields in columns, and this encoding follows from them
//! alone; its golden bytes keep it so.

use std::borrow::Cow;

use bytes::Bytes;
use rap_proto::{CommandId, Digest, OrganizationId, Timestamp, codec};
use serde::{Deserialize, Serialize};
use serde_bytes::{ByteArray, ByteBuf};
use uuid::Uuid;

use crate::{
    allowed::{Allowed, decode_actor, encode_actor},
    log::{Actor, Envelope, StreamId},
};

/// The version of the encoding.
const VERSION: u8 = 1;
/// The largest entry that is read, in bytes. Its names are short, so all are smaller.
pub const MAX_ENTRY_BYTES: usize = 4 * 1024;

/// An envelope without its payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub position: u64,
    pub stream: StreamId,
    pub revision: u64,
    pub event_type: String,
    pub schema: u16,
    /// The hash of the stored payload.
    pub payload: Digest,
    pub organization: Option<OrganizationId>,
    pub actor: Actor,
    pub allowed: Option<Allowed>,
    pub command: CommandId,
    pub causation: Option<u64>,
    pub at: Timestamp,
}

impl Entry {
    /// The event with the payload that the entry commits to, which is the caller's to check.
    pub fn with_payload(self, payload: Bytes) -> Envelope {
        Envelope {
            position: self.position,
            stream: self.stream,
            revision: self.revision,
            event_type: self.event_type,
            schema: self.schema,
            payload,
            organization: self.organization,
            actor: self.actor,
            allowed: self.allowed,
            command: self.command,
            causation: self.causation,
            at: self.at,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EntryError {
    #[error("not an entry: {0}")]
    Malformed(String),
    #[error("an entry of version {0}, which a newer release wrote")]
    Version(u8),
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored<'a> {
    v: u8,
    position: u64,
    category: Cow<'a, str>,
    stream: ByteArray<16>,
    revision: u64,
    #[serde(rename = "type")]
    event_type: Cow<'a, str>,
    schema: u16,
    payload: ByteArray<32>,
    organization: Option<ByteArray<16>>,
    actor: ByteBuf,
    command: ByteArray<16>,
    causation: Option<u64>,
    at: i64,
}

/// The bytes of an envelope in the tree.
pub fn encode(envelope: &Envelope) -> Vec<u8> {
    let id = |uuid: Uuid| ByteArray::new(uuid.into_bytes());
    codec::encode(&Stored {
        v: VERSION,
        position: envelope.position,
        category: envelope.stream.category.as_str().into(),
        stream: id(envelope.stream.id),
        revision: envelope.revision,
        event_type: envelope.event_type.as_str().into(),
        schema: envelope.schema,
        payload: ByteArray::new(*Digest::of(&envelope.payload).as_bytes()),
        organization: envelope.organization.map(|organization| id(organization.uuid())),
        actor: ByteBuf::from(encode_actor(&envelope.actor, envelope.allowed.as_ref())),
        command: id(envelope.command.uuid()),
        causation: envelope.causation,
        at: envelope.at.unix_millis(),
    })
}

/// What some bytes of the tree say.
pub fn decode(bytes: &[u8]) -> Result<Entry, EntryError> {
    let malformed = |error: codec::DecodeError| EntryError::Malformed(error.to_string());
    let stored: Stored<'_> = codec::decode(bytes, MAX_ENTRY_BYTES).map_err(malformed)?;
    if stored.v != VERSION {
        return Err(EntryError::Version(stored.v));
    }
    let id = |bytes: ByteArray<16>| Uuid::from_bytes(bytes.into_array());
    let (actor, allowed) = decode_actor(&stored.actor, MAX_ENTRY_BYTES).map_err(malformed)?;
    Ok(Entry {
        position: stored.position,
        stream: StreamId::new(stored.category, id(stored.stream)),
        revision: stored.revision,
        event_type: stored.event_type.into_owned(),
        schema: stored.schema,
        payload: Digest::from_bytes(stored.payload.into_array()),
        organization: stored.organization.map(|bytes| OrganizationId::from_uuid(id(bytes))),
        actor,
        allowed,
        command: CommandId::from_uuid(id(stored.command)),
        causation: stored.causation,
        at: Timestamp::from_unix_millis(stored.at),
    })
}

/// The hash of an envelope's leaf.
pub fn leaf(envelope: &Envelope) -> Digest {
    rap_tlog::leaf_hash(&encode(envelope))
}

impl From<&Envelope> for Entry {
    fn from(envelope: &Envelope) -> Self {
        Self {
            position: envelope.position,
            stream: envelope.stream.clone(),
            revision: envelope.revision,
            event_type: envelope.event_type.clone(),
            schema: envelope.schema,
            payload: Digest::of(&envelope.payload),
            organization: envelope.organization,
            actor: envelope.actor.clone(),
            allowed: envelope.allowed.clone(),
            command: envelope.command,
            causation: envelope.causation,
            at: envelope.at,
        }
    }
}
