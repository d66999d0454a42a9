//! MessagePack with named fields: the one encoding of everything stored, signed or sent.
//!
//! Structs are written as maps (`to_vec_named`), so that a reordered field cannot be misread as
//! another. Decoding has a size cap, a depth cap, and refuses bytes behind the value: the same
//! value can be encoded in several ways, so whoever signs or hashes does so over the bytes that
//! it received and never over a second encoding.

use serde::{Serialize, de::DeserializeOwned};

/// The deepest nesting that [`decode`] follows.
pub const MAX_DEPTH: usize = 32;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    #[error("{actual} bytes exceed the limit of {limit}")]
    TooLarge { actual: usize, limit: usize },
    #[error("{extra} bytes follow the value")]
    TrailingBytes { extra: usize },
    #[error("not the expected shape: {0}")]
    Malformed(String),
}

/// Encodes `value` with named fields.
///
/// # Panics
/// When `value` holds a type that MessagePack cannot express, which is a mistake in its
/// declaration and not in the data.
pub fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    rmp_serde::to_vec_named(value).expect("every wire type is expressible in MessagePack")
}

/// Decodes exactly one value that takes up all of `bytes`.
pub fn decode<T: DeserializeOwned>(bytes: &[u8], limit: usize) -> Result<T, DecodeError> {
    if bytes.len() > limit {
        return Err(DecodeError::TooLarge { actual: bytes.len(), limit });
    }
    let mut deserializer = rmp_serde::Deserializer::new(std::io::Cursor::new(bytes));
    deserializer.set_max_depth(MAX_DEPTH);
    let value = T::deserialize(&mut deserializer)
        .map_err(|error| DecodeError::Malformed(error.to_string()))?;
    let consumed = usize::try_from(deserializer.position()).unwrap_or(usize::MAX);
    let extra = bytes.len().saturating_sub(consumed);
    if extra > 0 {
        return Err(DecodeError::TrailingBytes { extra });
    }
    Ok(value)
}
