//! Certificates and public keys as PEM text (RFC 7468), for files and for API replies.

use std::{
    fs,
    io::{self, Read as _},
    path::Path,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use rustls_pki_types::{CertificateDer, pem::PemObject as _};

/// The most certificates that [`decode`] reads.
pub const MAX_CERTIFICATES: usize = 16;

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PemError {
    #[error("not certificates in PEM")]
    Malformed,
    #[error("no certificate in the text")]
    Empty,
    #[error("more than {MAX_CERTIFICATES} certificates")]
    TooMany,
}

/// The largest file that [`read`] takes, in bytes.
pub const MAX_FILE_BYTES: u64 = 64 * 1024;

/// Why a file gives no certificates. The file's name is for the caller to tell.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("larger than {MAX_FILE_BYTES} bytes")]
    TooLarge,
    #[error(transparent)]
    Pem(#[from] PemError),
}

/// The certificates (DER) of a PEM file that an operator names.
pub fn read(path: &Path) -> Result<Vec<Vec<u8>>, ReadError> {
    let mut text = String::new();
    let file = fs::File::open(path)?;
    file.take(MAX_FILE_BYTES + 1).read_to_string(&mut text)?;
    if text.len() as u64 > MAX_FILE_BYTES {
        return Err(ReadError::TooLarge);
    }
    Ok(decode(&text)?)
}

/// One block per certificate (DER), in the given order.
pub fn encode<'a>(certificates: impl IntoIterator<Item = &'a [u8]>) -> String {
    certificates.into_iter().map(|der| block("CERTIFICATE", der)).collect()
}

/// A public key, by its `SubjectPublicKeyInfo` (DER).
pub fn encode_public_key(spki: &[u8]) -> String {
    block("PUBLIC KEY", spki)
}

/// The certificates (DER) of a PEM text, in its order; other blocks are passed over.
pub fn decode(text: &str) -> Result<Vec<Vec<u8>>, PemError> {
    let mut certificates = Vec::new();
    for certificate in CertificateDer::pem_slice_iter(text.as_bytes()) {
        if certificates.len() == MAX_CERTIFICATES {
            return Err(PemError::TooMany);
        }
        certificates.push(certificate.map_err(|_| PemError::Malformed)?.to_vec());
    }
    if certificates.is_empty() { Err(PemError::Empty) } else { Ok(certificates) }
}

fn block(label: &str, der: &[u8]) -> String {
    let body = STANDARD.encode(der);
    let mut text = format!("-----BEGIN {label}-----\n");
    for line in body.as_bytes().chunks(64) {
        text.extend(line.iter().copied().map(char::from));
        text.push('\n');
    }
    text + &format!("-----END {label}-----\n")
}
