//! How a droppable message travels: alone, so that it waits for no other one.
//!
//! It is a QUIC datagram (RFC 9221) where it fits in one, else all of a unidirectional QUIC stream:
//!
//! ```text
//! channel (varint)  head  message (to the end)
//!
//! head = number (varint)  keyed (1 byte, 0 or 1)  key (8 bytes, big-endian, if keyed)
//! ```
//!
//! The channel is a quarter of the id of the QUIC stream that it was opened on, as in RFC 9297,
//! section 2.1. Variable lengths are those of RFC 9000, section 16.

use bytes::{Buf as _, Bytes};

use super::{Key, Malformed};

/// The greatest number that a variable length can say.
pub const MAX_VARINT: u64 = (1 << 62) - 1;
/// The most bytes before a message: two numbers, and a key.
pub const MAX_HEAD_BYTES: usize = 8 + 8 + KEY_BYTES;

const KEY_BYTES: usize = 1 + 8;

/// What is said of a droppable message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// In the order in which its queue handed it out, from 1. See [`super::Arrivals`].
    pub number: u64,
    pub key: Option<Key>,
}

/// What stands before the message.
///
/// # Panics
/// When a number is above [`MAX_VARINT`]: no connection lasts so long.
pub fn alone_head(channel: u64, head: Head) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(MAX_HEAD_BYTES);
    put_varint(&mut bytes, channel);
    head.put(&mut bytes);
    bytes
}

/// The channel, what is said of the message, and the message.
pub fn read_alone(mut bytes: Bytes) -> Result<(u64, Head, Bytes), Malformed> {
    let channel = take_varint(&mut bytes)?;
    let head = Head::take(&mut bytes)?;
    Ok((channel, head, bytes))
}

impl Head {
    pub(super) fn put(self, bytes: &mut Vec<u8>) {
        put_varint(bytes, self.number);
        match self.key {
            None => bytes.push(0),
            Some(Key(key)) => {
                bytes.push(1);
                bytes.extend_from_slice(&key.to_be_bytes());
            }
        }
    }

    pub(super) fn take(bytes: &mut Bytes) -> Result<Self, Malformed> {
        let number = take_varint(bytes)?;
        let key = match bytes.first() {
            Some(0) => None,
            Some(1) if bytes.len() >= KEY_BYTES => {
                let mut key = bytes.slice(1..KEY_BYTES);
                Some(Key(key.get_u64()))
            }
            _ => return Err(Malformed),
        };
        bytes.advance(if key.is_some() { KEY_BYTES } else { 1 });
        Ok(Self { number, key })
    }
}

fn put_varint(bytes: &mut Vec<u8>, value: u64) {
    assert!(value <= MAX_VARINT, "{value} has no variable length");
    // The first two bits say how many bytes there are: one, two, four or eight.
    let (form, length): (u64, usize) = match value {
        0..0x40 => (0, 1),
        0x40..0x4000 => (1, 2),
        0x4000..0x4000_0000 => (2, 4),
        _ => (3, 8),
    };
    let said = value | (form << (8 * length - 2));
    bytes.extend_from_slice(&said.to_be_bytes()[8 - length..]);
}

fn take_varint(bytes: &mut Bytes) -> Result<u64, Malformed> {
    let first = *bytes.first().ok_or(Malformed)?;
    let length = 1_usize << (first >> 6);
    if bytes.len() < length {
        return Err(Malformed);
    }
    let said = bytes.split_to(length);
    let value = said.iter().fold(0_u64, |value, byte| (value << 8) | u64::from(*byte));
    Ok(value & (MAX_VARINT >> (64 - 8 * length)))
}
