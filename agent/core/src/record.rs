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
const HEAD_BYTES: usize = 4 + 1 + 4 + 32;

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

#[cfg(test)]
pub(crate) mod tests {
    #![allow(clippy::unwrap_used)]
    use std::fmt::Debug;

    use super::*;
    use crate::{snapshot::Floor, standing::Standing};

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Every shorter file and every flipped bit is noticed; the whole file is read back.
    fn check<T: Record + PartialEq + Debug>(value: &T) {
        let bytes = encode(value);
        assert_eq!(decode::<T>(&bytes).as_ref(), Ok(value));
        for end in 0..bytes.len() {
            assert!(decode::<T>(&bytes[..end]).is_err(), "cut at {end}");
        }
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut damaged = bytes.clone();
                damaged[at] ^= 1 << bit;
                assert!(decode::<T>(&damaged).is_err(), "bit {bit} of byte {at}");
            }
        }
        let longer = [&bytes[..], &[0]].concat();
        assert_eq!(decode::<T>(&longer), Err(RecordError::Damaged));
    }

    pub(crate) fn enrollment() -> Enrollment {
        Enrollment {
            control: "https://control.example:8443".to_owned(),
            ca: Digest::from_bytes([1; 32]),
            name: "edge-1".parse().unwrap(),
            addresses: vec!["192.0.2.1:4433".parse().unwrap()],
            node: Some(NodeId::from_u128(2)),
            cluster: None,
        }
    }

    pub(crate) fn credentials() -> HeldCredentials {
        HeldCredentials {
            obtained_at: Timestamp::from_unix_millis(1_000),
            credentials: Credentials {
                cluster: ClusterId::from_u128(1),
                node: NodeId::from_u128(2),
                renewal: 3,
                certificates: vec![serde_bytes::ByteBuf::from(vec![9; 8])],
                expires_at: Timestamp::from_unix_millis(2_000),
                control_keys: Vec::new(),
                bus: None,
            },
        }
    }

    #[test]
    fn torn_and_damaged_records_are_noticed() {
        check(&enrollment());
        check(&credentials());
        check(&HeldManifest { manifest: vec![7; 40] });
        check(&Floor { authority_epoch: 1, version: 2, digest: Digest::from_bytes([3; 32]) });
        check(&Standing::Good);
        check(&Standing::revoked_by_control(Timestamp::from_unix_millis(5)));
    }

    #[test]
    fn one_record_is_not_taken_for_another() {
        let bytes = encode(&enrollment());
        assert_eq!(decode::<HeldManifest>(&bytes), Err(RecordError::WrongKind));
    }

    /// Compares with the golden bytes; `UPDATE_GOLDEN=1` writes them instead.
    pub(crate) fn check_golden(name: &str, bytes: &[u8]) {
        let path = format!("{}/golden/{name}.hex", env!("CARGO_MANIFEST_DIR"));
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            std::fs::write(&path, hex(bytes) + "\n").unwrap();
        }
        assert_eq!(hex(bytes), std::fs::read_to_string(&path).unwrap().trim(), "{name}");
    }

    #[test]
    fn the_formats_are_frozen() {
        let floor = Floor { authority_epoch: 1, version: 2, digest: Digest::from_bytes([3; 32]) };
        let at = Timestamp::from_unix_millis(5);
        check_golden("enrollment", &encode(&enrollment()));
        check_golden("credentials", &encode(&credentials()));
        check_golden("floor", &encode(&floor));
        check_golden("manifest", &encode(&HeldManifest { manifest: vec![7; 4] }));
        check_golden("standing-good", &encode(&Standing::Good));
        check_golden("standing-revoked", &encode(&Standing::revoked_by_control(at)));
    }
}
