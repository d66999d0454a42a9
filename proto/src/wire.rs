//! Frames on QUIC streams and on the flows of TLS connections over TCP: a length of four bytes,
//! big-endian, and that many bytes of MessagePack. After the last frame of a stream's handshake, a
//! channel's stream carries raw bytes.
//!
//! | ALPN | between | first frame of a bidirectional stream |
//! |---|---|---|
//! | `rap-client/1` | client and entry | [`client::Hello`] on the first, [`client::OpenChannel`] or [`through::Ask`] on the others |
//! | `rap-channels-media/1`, `rap-channels-bulk/1`, on QUIC only | client and entry | [`client::JoinSession`], then [`client::OpenChannel`] |
//! | `rap-channel/1`, on TCP only | client and entry | [`client::JoinSession`], then [`client::OpenChannel`] or [`through::Ask`] |
//! | `rap-through/1`, on TCP only | client and egress | [`through::OpenThrough`] |
//! | `rap-lane-interactive/1`, `rap-lane-media/1`, `rap-lane-bulk/1` | entry and egress | [`lane::OpenFlow`] |
//! | `rap-hop/1` | node and relay | [`hop::Request`] |
//!
//! On TCP each connection is one such stream.

pub mod client;
pub mod hop;
pub mod lane;
pub mod node_api;
pub mod resume;
pub mod through;

use serde::{Serialize, de::DeserializeOwned};

use crate::codec::{self, DecodeError};

/// The largest frame, without its length.
pub const MAX_FRAME_BYTES: usize = 64 * 1024;

pub const CLIENT_ALPN: &[u8] = b"rap-client/1";
/// One channel of a client, on a TCP connection of its own.
pub const CHANNEL_ALPN: &[u8] = b"rap-channel/1";
pub const HOP_ALPN: &[u8] = b"rap-hop/1";
/// What a TCP connection to a relay begins with, before the ticket of a stream that it was asked
/// for: nothing that TLS could begin with.
pub const PREAMBLE: &[u8; 8] = b"RAP-JOIN";

/// The ALPN of the connection that carries one lane.
pub const fn lane_alpn(lane: crate::Lane) -> &'static [u8] {
    match lane {
        crate::Lane::Interactive => b"rap-lane-interactive/1",
        crate::Lane::Media => b"rap-lane-media/1",
        crate::Lane::Bulk => b"rap-lane-bulk/1",
    }
}

/// The ALPN of the connection that carries a client's channels of one lane. Those of the interactive lane are on
/// the session's own.
pub const fn channels_alpn(lane: crate::Lane) -> Option<&'static [u8]> {
    match lane {
        crate::Lane::Interactive => None,
        crate::Lane::Media => Some(b"rap-channels-media/1"),
        crate::Lane::Bulk => Some(b"rap-channels-bulk/1"),
    }
}

/// A frame with its length in front.
///
/// # Panics
/// When the message is larger than [`MAX_FRAME_BYTES`]: whoever makes one bounds its parts.
pub fn frame<T: Serialize>(message: &T) -> Vec<u8> {
    let body = codec::encode(message);
    assert!(body.len() <= MAX_FRAME_BYTES, "a message of {} bytes fits no frame", body.len());
    let length = u32::try_from(body.len()).expect("bounded above");
    [&length.to_be_bytes()[..], &body].concat()
}

/// The length that a frame's first four bytes announce.
pub fn frame_length(head: [u8; 4]) -> Result<usize, DecodeError> {
    let length = u32::from_be_bytes(head) as usize;
    if length > MAX_FRAME_BYTES {
        return Err(DecodeError::TooLarge { actual: length, limit: MAX_FRAME_BYTES });
    }
    Ok(length)
}

/// Decodes a frame's body, without its length.
pub fn unframe<T: DeserializeOwned>(body: &[u8]) -> Result<T, DecodeError> {
    codec::decode(body, MAX_FRAME_BYTES)
}
