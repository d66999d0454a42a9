//! P-256 keys: identities that sign, and the port behind which a private key is kept.

#[cfg(feature = "remembered-signatures")]
mod remembered;

use std::fmt;

use p256::{
    EncodedPoint,
    ecdsa::{
        Signature, SigningKey, VerifyingKey, signature::Signer as _, signature::Verifier as _,
    },
    pkcs8::{DecodePrivateKey as _, EncodePrivateKey as _, LineEnding},
};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use zeroize::Zeroizing;

use crate::Digest;
#[cfg(feature = "remembered-signatures")]
pub use remembered::remember_signatures;

/// The DER bytes that stand before an uncompressed P-256 point in a `SubjectPublicKeyInfo`
/// (RFC 5480, section 2).
const SPKI_PREFIX: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a,
    0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];

/// The SHA-256 of a key's `SubjectPublicKeyInfo` (as in RFC 7469): the same for a key in a
/// certificate and for a key on its own.
pub type KeyId = Digest;

/// A P-256 public key, known to be a point on the curve. 33 bytes compressed on the wire.
#[derive(Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cfg_attr(feature = "openapi", schema(value_type = String, pattern = "^[0-9a-f]{66}$"))]
pub struct PublicKey(VerifyingKey);

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a P-256 public key")]
pub struct InvalidPublicKey;

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a P-256 private key in PKCS #8 PEM")]
pub struct InvalidPrivateKey;

impl PublicKey {
    /// From a SEC 1 point, compressed (33 bytes) or uncompressed (65 bytes).
    pub fn from_sec1(bytes: &[u8]) -> Result<Self, InvalidPublicKey> {
        VerifyingKey::from_sec1_bytes(bytes).map(Self).map_err(|_| InvalidPublicKey)
    }

    /// From a DER `SubjectPublicKeyInfo`, as a certificate holds it.
    pub fn from_spki(der: &[u8]) -> Result<Self, InvalidPublicKey> {
        let point = der.strip_prefix(&SPKI_PREFIX[..]).ok_or(InvalidPublicKey)?;
        Self::from_sec1(point)
    }

    pub fn to_sec1_compressed(&self) -> Vec<u8> {
        self.0.to_encoded_point(true).as_bytes().to_vec()
    }

    pub fn to_spki(&self) -> Vec<u8> {
        let point: EncodedPoint = self.0.to_encoded_point(false);
        [&SPKI_PREFIX[..], point.as_bytes()].concat()
    }

    pub fn id(&self) -> KeyId {
        Digest::of(&self.to_spki())
    }

    /// Whether `signature` (64 bytes, r then s, s in the lower half of the order) is this key's
    /// over `message`.
    pub fn verifies(&self, message: &[u8], signature: &[u8; 64]) -> bool {
        #[cfg(feature = "remembered-signatures")]
        return remembered::holds(self, message, signature, || self.verify(message, signature));
        #[cfg(not(feature = "remembered-signatures"))]
        self.verify(message, signature)
    }

    fn verify(&self, message: &[u8], signature: &[u8; 64]) -> bool {
        let Ok(signature) = Signature::from_slice(signature) else { return false };
        let low_s = signature.normalize_s().is_none();
        low_s && self.0.verify(message, &signature).is_ok()
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({})", self.id().short())
    }
}

impl Serialize for PublicKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let bytes = self.to_sec1_compressed();
        if serializer.is_human_readable() {
            let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            serializer.serialize_str(&hex)
        } else {
            serializer.serialize_bytes(&bytes)
        }
    }
}

impl<'de> Deserialize<'de> for PublicKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let bytes = if deserializer.is_human_readable() {
            decode_hex(&String::deserialize(deserializer)?)
                .ok_or_else(|| de::Error::custom(InvalidPublicKey))?
        } else {
            serde_bytes::ByteBuf::deserialize(deserializer)?.into_vec()
        };
        if bytes.len() != 33 {
            return Err(de::Error::custom(InvalidPublicKey));
        }
        Self::from_sec1(&bytes).map_err(de::Error::custom)
    }
}

fn decode_hex(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(2) || !text.is_ascii() {
        return None;
    }
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).ok()).collect()
}

/// Something that signs: a key in a file, in memory, or behind a device.
pub trait Signer: Send + Sync {
    fn public_key(&self) -> PublicKey;

    /// 64 bytes, r then s, with s in the lower half of the group's order.
    fn sign(&self, message: &[u8]) -> [u8; 64];
}

/// A private key held in this process' memory. Signatures are deterministic (RFC 6979).
#[derive(Clone)]
pub struct LocalKey(SigningKey);

impl LocalKey {
    /// From 32 random bytes; `None` in the one case in 2^32 that they are no valid scalar.
    pub fn from_random(bytes: &[u8; 32]) -> Option<Self> {
        SigningKey::from_slice(bytes).ok().map(Self)
    }

    pub fn from_pem(pem: &str) -> Result<Self, InvalidPrivateKey> {
        SigningKey::from_pkcs8_pem(pem).map(Self).map_err(|_| InvalidPrivateKey)
    }

    /// PKCS #8 PEM, wiped from memory when dropped.
    pub fn to_pem(&self) -> Zeroizing<String> {
        self.0.to_pkcs8_pem(LineEnding::LF).expect("a P-256 key always has a PKCS #8 form")
    }

    /// PKCS #8 DER, wiped from memory when dropped.
    pub fn to_der(&self) -> Zeroizing<Vec<u8>> {
        let document = self.0.to_pkcs8_der().expect("a P-256 key always has a PKCS #8 form");
        Zeroizing::new(document.as_bytes().to_vec())
    }
}

impl Signer for LocalKey {
    fn public_key(&self) -> PublicKey {
        PublicKey(*self.0.verifying_key())
    }

    fn sign(&self, message: &[u8]) -> [u8; 64] {
        let signature: Signature = self.0.sign(message);
        let signature = signature.normalize_s().unwrap_or(signature).to_bytes().into();
        #[cfg(feature = "remembered-signatures")]
        remembered::made(&self.public_key(), message, &signature);
        signature
    }
}

impl fmt::Debug for LocalKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LocalKey({})", self.public_key().id().short())
    }
}
