//! The fabric's keys in the shape that certificate building wants.

use p256::ecdsa::Signature;
use rap_proto::{PublicKey, Signer};

/// Where the uncompressed point starts in a P-256 `SubjectPublicKeyInfo`.
const POINT_OFFSET: usize = 26;

/// A public key to be certified.
pub(crate) struct Subject(Vec<u8>);

/// A private key that signs certificates or requests.
pub(crate) struct Issuing<'a> {
    signer: &'a dyn Signer,
    subject: Subject,
}

impl Subject {
    pub(crate) fn new(key: &PublicKey) -> Self {
        Self(key.to_spki().split_off(POINT_OFFSET))
    }
}

impl<'a> Issuing<'a> {
    pub(crate) fn new(signer: &'a dyn Signer) -> Self {
        Self { signer, subject: Subject::new(&signer.public_key()) }
    }
}

impl rcgen::PublicKeyData for Subject {
    fn der_bytes(&self) -> &[u8] {
        &self.0
    }

    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        &rcgen::PKCS_ECDSA_P256_SHA256
    }
}

impl rcgen::PublicKeyData for Issuing<'_> {
    fn der_bytes(&self) -> &[u8] {
        &self.subject.0
    }

    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        &rcgen::PKCS_ECDSA_P256_SHA256
    }
}

impl rcgen::SigningKey for Issuing<'_> {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        let signature = Signature::from_slice(&self.signer.sign(message))
            .map_err(|_| rcgen::Error::RemoteKeyError)?;
        Ok(signature.to_der().as_bytes().to_vec())
    }
}
