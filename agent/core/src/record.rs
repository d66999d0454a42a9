//! One value in one file, with a checksum that a torn or damaged file does not pass.
//!
//! ```text
//! "RAPR"  kind (1 byte)  length of the body (4 bytes, big-endian)
//! SHA-256 over kind and body (32 bytes)  body (MessagePack, named fields)
//! ```

use std::net::SocketAddr;

use rap_proto::{
    ClusterId, Digest, Name, NodeId, Timestamp,
    codec::{self, DecodeError},
    wire::node_api::Credentials,
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

const MAGIC: &[u8; 4] = b"RAPR";
/// What every record begins with.
pub const HEAD_BYTES: usize = 4 + 1 + 4 + 32;

/// A type that has a file of its own.
pub trait Record: Serialize + DeserializeOwned {
    /// Different for every type, so that one file cannot be taken for another.
    const KIND: u8;
    const MAX_BYTES: usize;
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    #[error("the file is not a record of this kind")]
    WrongKind,
    #[error("the file is cut short")]
    Torn,
    #[error("the file's checksum does not match its content")]
    Damaged,
    #[error("the file's content cannot be read: {0}")]
    Content(DecodeError),
}

pub fn encode<T: Record>(value: &T) -> Vec<u8> {
    let body = codec::encode(value);
    let length = u32::try_from(body.len()).expect("records are far smaller than 4 GiB");
    let sum = checksum(T::KIND, &body);
    [&MAGIC[..], &[T::KIND], &length.to_be_bytes(), sum.as_bytes(), &body].concat()
}

pub fn decode<T: Record>(bytes: &[u8]) -> Result<T, RecordError> {
    if bytes.len() < HEAD_BYTES {
        return Err(RecordError::Torn);
    }
    let (head, body) = bytes.split_at(HEAD_BYTES);
    if &head[..4] != MAGIC || head[4] != T::KIND {
        return Err(RecordError::WrongKind);
    }
    let length = u32::from_be_bytes([head[5], head[6], head[7], head[8]]) as usize;
    if body.len() < length {
        return Err(RecordError::Torn);
    }
    if body.len() != length || checksum(T::KIND, body).as_bytes()[..] != head[9..] {
        return Err(RecordError::Damaged);
    }
    codec::decode(body, T::MAX_BYTES).map_err(RecordError::Content)
}

fn checksum(kind: u8, body: &[u8]) -> Digest {
    Digest::of_parts(&[&[kind], body])
}

/// What a host asked to become, kept until the certificate is there and afterwards for finding
/// the control plane again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Enrollment {
    /// As [`ControlUrl`] is written.
    ///
    /// [`ControlUrl`]: https://host:port
    pub control: String,
    pub ca: Digest,
    pub name: Name,
    pub addresses: Vec<SocketAddr>,
    /// Known once control has answered.
    pub node: Option<NodeId>,
    pub cluster: Option<ClusterId>,
}

impl Record for Enrollment {
    const KIND: u8 = 1;
    const MAX_BYTES: usize = 8 * 1024;
}

/// The certificate in use and when it was obtained.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldCredentials {
    pub obtained_at: Timestamp,
    pub credentials: Credentials,
}

impl Record for HeldCredentials {
    const KIND: u8 = 2;
    const MAX_BYTES: usize = 64 * 1024;
}

/// The manifest's envelope of the snapshot in use; its sections are files of their own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldManifest {
    #[serde(with = "serde_bytes")]
    pub manifest: Vec<u8>,
}

impl Record for HeldManifest {
    const KIND: u8 = 3;
    const MAX_BYTES: usize = 32 * 1024;
}

/// What this node remembers of its peers. The mesh says what the bytes mean; without them, or with
/// others, a node finds its peers all the same, only later.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldPeers {
    #[serde(with = "serde_bytes")]
    pub cache: Vec<u8>,
}

impl Record for HeldPeers {
    const KIND: u8 = 10;
    const MAX_BYTES: usize = 100 * 1024;
}

#[cfg(test)]
pub(crate) mod tests;
