//! Certificate signing requests (PKCS #10, RFC 2986): the proof that a joining host holds a key.
//!
//! A request may ask for any name, usage or CA flag; nothing of it is used but the key.

use rap_proto::{PublicKey, Signer};
use rcgen::{CertificateParams, DistinguishedName};
use x509_parser::prelude::{FromDer as _, X509CertificationRequest};

use crate::signing::Issuing;

/// The largest request that [`public_key`] reads, in bytes.
pub const MAX_BYTES: usize = 4096;

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CsrError {
    #[error("the request is larger than {MAX_BYTES} bytes")]
    TooLarge,
    #[error("not a certificate signing request in DER")]
    Malformed,
    #[error("the request's key is not P-256")]
    UnsupportedKey,
    #[error("the request is not signed by the key in it")]
    NotSelfSigned,
}

/// A request (DER) for `key`'s public half that asks for nothing more.
pub fn make(key: &dyn Signer) -> Vec<u8> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    let request = params
        .serialize_request(&Issuing::new(key))
        .expect("a request of valid parts can be encoded");
    request.der().to_vec()
}

/// The key of a request (DER) whose signature proves that the requester holds it.
pub fn public_key(der: &[u8]) -> Result<PublicKey, CsrError> {
    if der.len() > MAX_BYTES {
        return Err(CsrError::TooLarge);
    }
    let (rest, request) =
        X509CertificationRequest::from_der(der).map_err(|_| CsrError::Malformed)?;
    if !rest.is_empty() {
        return Err(CsrError::Malformed);
    }
    let key = PublicKey::from_spki(request.certification_request_info.subject_pki.raw)
        .map_err(|_| CsrError::UnsupportedKey)?;
    request.verify_signature().map_err(|_| CsrError::NotSelfSigned)?;
    Ok(key)
}
