use std::{fmt, str::FromStr};

use crate::ClusterId;

/// The rule of the problem `position_too_old` that answers an id which this release cannot read. One of a
/// later release may say more than a position: its client can ask for what follows that.
pub const UNREADABLE_EVENT_ID: &str = "event_id_unreadable";

/// What the id of a message says of the event at its position: eight bytes, which nobody makes
/// without the cluster's keys, so that nobody learns from them what that event is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Imprint([u8; 8]);

/// The id of a message of `GET /events`, and what a client sends as `Last-Event-ID`:
/// `<cluster>:<position>:<imprint>`, the imprint in 16 lower-case hexadecimal digits.
///
/// Whoever follows an event stream takes it as it is. Without an imprint it names a position alone: so
/// releases before sent it, and so it is made of a position that is known otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EventId {
    pub cluster: ClusterId,
    pub position: u64,
    pub imprint: Option<Imprint>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an event's id is a cluster, a position, and perhaps 16 lower-case hexadecimal digits")]
pub struct ParseEventIdError;

impl Imprint {
    pub const fn from_bytes(bytes: [u8; 8]) -> Self {
        Self(bytes)
    }
}

impl EventId {
    /// Of a position alone.
    pub const fn at(cluster: ClusterId, position: u64) -> Self {
        Self { cluster, position, imprint: None }
    }
}

impl fmt::Display for Imprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", u64::from_be_bytes(self.0))
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.cluster, self.position)?;
        self.imprint.map_or(Ok(()), |imprint| write!(f, ":{imprint}"))
    }
}

impl FromStr for Imprint {
    type Err = ParseEventIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        if text.len() != 16 || !text.bytes().all(is_digit) {
            return Err(ParseEventIdError);
        }
        let number = u64::from_str_radix(text, 16).map_err(|_| ParseEventIdError)?;
        Ok(Self(number.to_be_bytes()))
    }
}

impl FromStr for EventId {
    type Err = ParseEventIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (cluster, rest) = text.split_once(':').ok_or(ParseEventIdError)?;
        let (position, imprint) = match rest.split_once(':') {
            Some((position, imprint)) => (position, Some(imprint.parse()?)),
            None => (rest, None),
        };
        // The number's own parser also takes a sign.
        if !position.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(ParseEventIdError);
        }
        Ok(Self {
            cluster: cluster.parse().map_err(|_| ParseEventIdError)?,
            position: position.parse().map_err(|_| ParseEventIdError)?,
            imprint,
        })
    }
}
