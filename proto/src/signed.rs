//! Signed envelopes: DSSE over opaque MessagePack bytes.
//!
//! What is signed is the pre-authentication encoding of [DSSE]:
//!
//! ```text
//! "DSSEv1" SP len(type) SP type SP len(payload) SP payload
//! ```
//!
//! so that bytes signed as one type can never be shown as another. The reader verifies the bytes
//! that it received and decodes those same bytes once. A payload's identity is the hash of its
//! bytes, never its signature. Signatures count by distinct public key.
//!
//! [DSSE]: https://github.com/secure-systems-lab/dsse/blob/master/protocol.md

use std::{
    collections::{BTreeMap, BTreeSet},
    marker::PhantomData,
    ops::Deref,
};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{
    Digest, KeyId, PublicKey, Signer,
    codec::{self, DecodeError},
};

/// The most signatures that one envelope may carry.
pub const MAX_SIGNATURES: usize = 16;

/// Room for the envelope around a payload: its type, and sixteen signatures.
const OVERHEAD_BYTES: usize = 4096;

/// A type that is signed: its name goes into the signed bytes.
pub trait Payload: Serialize + DeserializeOwned {
    /// Such as `application/vnd.rap.snapshot.v1+msgpack`.
    const TYPE: &'static str;
    const MAX_BYTES: usize;
}

/// The stored and sent form. Kept as received; see [`open`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Envelope {
    payload_type: String,
    #[serde(with = "serde_bytes")]
    payload: Vec<u8>,
    signatures: Vec<KeyedSignature>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyedSignature {
    key: KeyId,
    #[serde(with = "serde_bytes")]
    signature: Vec<u8>,
}

/// The keys that a reader trusts for one type, and how many of them must have signed.
#[derive(Debug, Clone)]
pub struct Trusted {
    keys: BTreeMap<KeyId, PublicKey>,
    threshold: usize,
}

impl Trusted {
    /// # Panics
    /// When `threshold` is zero: nothing may be trusted without a signature.
    pub fn new(keys: impl IntoIterator<Item = PublicKey>, threshold: usize) -> Self {
        assert!(threshold > 0, "a threshold of zero trusts everything");
        Self { keys: keys.into_iter().map(|key| (key.id(), key)).collect(), threshold }
    }

    pub fn one(key: PublicKey) -> Self {
        Self::new([key], 1)
    }
}

/// A payload whose signatures were checked. Only [`open`] makes one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified<T> {
    value: T,
    digest: Digest,
}

impl<T> Verified<T> {
    /// The hash of the payload's bytes: its identity.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    pub fn into_inner(self) -> T {
        self.value
    }
}

impl<T> Deref for Verified<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    #[error("the envelope cannot be read: {0}")]
    Envelope(DecodeError),
    #[error("signed as another type than {expected}")]
    WrongType { expected: &'static str },
    #[error("{valid} of {needed} trusted signatures")]
    NotTrusted { valid: usize, needed: usize },
    #[error("the signed payload cannot be read: {0}")]
    Payload(DecodeError),
}

/// Signs `value` with every one of `signers` and returns the envelope's bytes.
pub fn seal<T: Payload>(value: &T, signers: &[&dyn Signer]) -> Vec<u8> {
    let payload = codec::encode(value);
    let message = pre_authentication_encoding(T::TYPE, &payload);
    let signatures = signers
        .iter()
        .map(|signer| KeyedSignature {
            key: signer.public_key().id(),
            signature: signer.sign(&message).to_vec(),
        })
        .collect();
    codec::encode(&Envelope { payload_type: T::TYPE.to_owned(), payload, signatures })
}

/// One signature over a payload's bytes that several signers sign apart; see [`join`].
pub fn sign<T: Payload>(payload: &[u8], signer: &dyn Signer) -> [u8; 64] {
    signer.sign(&pre_authentication_encoding(T::TYPE, payload))
}

/// The envelope around a payload's bytes and the signatures that were made of them with [`sign`].
/// Nothing is checked here.
pub fn join<T: Payload>(
    payload: &[u8],
    signatures: impl IntoIterator<Item = (KeyId, [u8; 64])>,
) -> Vec<u8> {
    let signatures = signatures
        .into_iter()
        .map(|(key, signature)| KeyedSignature { key, signature: signature.to_vec() })
        .collect();
    let (payload_type, payload) = (T::TYPE.to_owned(), payload.to_vec());
    codec::encode(&Envelope { payload_type, payload, signatures })
}

/// Verifies and decodes an envelope of type `T`.
pub fn open<T: Payload>(bytes: &[u8], trusted: &Trusted) -> Result<Verified<T>, OpenError> {
    let unverified = Unverified::<T>::parse(bytes)?;
    unverified.verify(trusted)
}

/// An envelope whose signer is found by looking into it first, as with a bus message that names
/// its sender. Nothing in [`Unverified::peek`] may be acted on before [`Unverified::verify`].
pub struct Unverified<T> {
    envelope: Envelope,
    value: PhantomData<T>,
}

impl<T: Payload> Unverified<T> {
    pub fn parse(bytes: &[u8]) -> Result<Self, OpenError> {
        let envelope: Envelope = codec::decode(bytes, T::MAX_BYTES.saturating_add(OVERHEAD_BYTES))
            .map_err(OpenError::Envelope)?;
        if envelope.payload_type != T::TYPE {
            return Err(OpenError::WrongType { expected: T::TYPE });
        }
        if envelope.signatures.len() > MAX_SIGNATURES {
            return Err(OpenError::Envelope(DecodeError::TooLarge {
                actual: envelope.signatures.len(),
                limit: MAX_SIGNATURES,
            }));
        }
        Ok(Self { envelope, value: PhantomData })
    }

    /// The claimed content, for choosing which keys to verify with and for nothing else.
    pub fn peek(&self) -> Result<T, OpenError> {
        codec::decode(&self.envelope.payload, T::MAX_BYTES).map_err(OpenError::Payload)
    }

    pub fn verify(self, trusted: &Trusted) -> Result<Verified<T>, OpenError> {
        let message = pre_authentication_encoding(T::TYPE, &self.envelope.payload);
        let mut signed_by = BTreeSet::new();
        for KeyedSignature { key, signature } in &self.envelope.signatures {
            let Some(public_key) = trusted.keys.get(key) else { continue };
            let Ok(signature) = signature.as_slice().try_into() else { continue };
            if public_key.verifies(&message, signature) {
                signed_by.insert(*key);
            }
        }
        if signed_by.len() < trusted.threshold {
            return Err(OpenError::NotTrusted {
                valid: signed_by.len(),
                needed: trusted.threshold,
            });
        }
        let value = self.peek()?;
        Ok(Verified { value, digest: Digest::of(&self.envelope.payload) })
    }
}

fn pre_authentication_encoding(payload_type: &str, payload: &[u8]) -> Vec<u8> {
    let head = format!("DSSEv1 {} {payload_type} {} ", payload_type.len(), payload.len());
    [head.as_bytes(), payload].concat()
}
