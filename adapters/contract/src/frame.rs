//! The frames of the contract, and how they are cut out of a byte stream.

use std::collections::BTreeSet;

use rap_proto::{
    ResourceKind,
    codec::{self, DecodeError},
    refusal::Refusal,
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::limit::MAX_FRAME_BYTES;

/// The first frame of a connection, from the agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// This is the worker's one control connection.
    Control {
        /// [`crate::limit::FORMAT`] of the agent.
        format: u16,
    },
    /// This connection becomes one channel.
    Open(Open),
}

/// Asks for one channel to one target. The agent has decided that it is permitted; the worker
/// decides only whether the address may be dialled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Open {
    /// The agent's number of the channel, for logs.
    pub channel: u64,
    pub kind: ResourceKind,
    /// A DNS name or an IP address, as [`crate::check_host`] allows.
    pub host: String,
    pub port: u16,
    /// Whether loopback and link-local addresses may be dialled. Never metadata services.
    pub allow_local: bool,
    /// W3C Trace Context of the channel's opening, when it is traced.
    #[serde(default)]
    pub traceparent: Option<String>,
    /// Whether the agent would take the target's socket itself: then the answer may be
    /// [`OpenReply::Handed`]. Left out where it would not, as agents do that do not know of it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub takes_socket: bool,
}

/// The worker's answer to [`Open`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OpenReply {
    /// The target answered; what follows is its byte stream.
    Opened,
    /// The target answered, and its connected socket comes with this frame, as the one descriptor
    /// (`SCM_RIGHTS`) of its message. Only for an [`Open`] that takes it. No byte follows: the
    /// connection stays for as long as the channel does, and whoever closes it ends the channel.
    Handed,
    /// Nothing was opened and the connection closes.
    Refused(Refusal),
}

/// From the agent, on the control connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ControlRequest {
    /// Answered by [`ControlEvent::Pong`] with the same number.
    Ping { number: u64 },
    /// Open nothing new, let open channels finish for so long, then exit.
    Shutdown { grace_ms: u64 },
}

/// From the worker, on the control connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ControlEvent {
    /// The worker is ready.
    Hello {
        /// [`crate::limit::FORMAT`] of the worker.
        format: u16,
        /// What it can open. An agent ignores kinds that it does not know how to ask for.
        kinds: BTreeSet<ResourceKind>,
        max_channels: u32,
    },
    Pong {
        number: u64,
        open_channels: u32,
    },
    /// The worker was told to stop, by [`ControlRequest::Shutdown`] or by a signal.
    Stopping,
    /// The control connection was not accepted and closes.
    Refused(Refusal),
}

/// A frame with its length in front.
///
/// # Panics
/// When the message is larger than [`MAX_FRAME_BYTES`]: hosts, trace contexts and refusals are
/// bounded by whoever makes one.
pub fn encode<T: Serialize>(message: &T) -> Vec<u8> {
    let body = codec::encode(message);
    assert!(body.len() <= MAX_FRAME_BYTES, "a message of {} bytes fits no frame", body.len());
    let length = u32::try_from(body.len()).expect("bounded above");
    [&length.to_be_bytes()[..], &body].concat()
}

/// The length of the body that a frame's first four bytes announce.
pub fn body_length(head: [u8; 4]) -> Result<usize, DecodeError> {
    let length = u32::from_be_bytes(head) as usize;
    if length > MAX_FRAME_BYTES {
        return Err(DecodeError::TooLarge { actual: length, limit: MAX_FRAME_BYTES });
    }
    Ok(length)
}

/// Decodes a frame's body, without its length.
pub fn decode<T: DeserializeOwned>(body: &[u8]) -> Result<T, DecodeError> {
    codec::decode(body, MAX_FRAME_BYTES)
}

#[cfg(test)]
mod tests;
