//! The two carriers of a lane, and what the ends of a `tcp` carrier say to each other.
//!
//! On `quic` a flow is one QUIC stream, which brings its own ends: finished, reset, stopped. On
//! `tcp` a flow is a TLS connection of its own, whose bytes are cut into **parts** that say the
//! same:
//!
//! ```text
//! part = kind (1 byte) length (3 bytes, big-endian) body (length bytes)
//!
//! kind 0  data      1 to MAX_DATA bytes of the flow
//! kind 1  finished  no body: this direction is complete
//! kind 2  reset     8 bytes, a code of `crate::ended`: this direction is cut
//! kind 3  stopped   8 bytes, a code: the sender wants no more of the other direction
//! ```
//!
//! After `finished` or `reset` only one `stopped` may follow.
//!
//! A flow that outlives its connection (see [`crate::resume`]) is cut into the same parts on either
//! carrier, and has two more, which may come at any time:
//!
//! ```text
//! kind 4  acknowledged  8 bytes: so many bytes of the other direction were taken
//! kind 5  from          8 bytes: the offset of the next data; first on a further connection
//! ```

#[cfg(test)]
mod tests;

use std::fmt;

use rap_proto::Lane;

/// Bytes of a part before its body.
pub const HEAD_BYTES: usize = 4;
/// The most data in one part: with its head it fills four TLS records to the last byte
/// (RFC 8446, section 5.1).
pub const MAX_DATA: usize = 4 * 16_384 - HEAD_BYTES;

/// A code, or an offset.
const CODE_BYTES: usize = 8;

/// What a lane's flows run on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Carrier {
    /// A QUIC stream on the lane's shared connection.
    Quic,
    /// A TLS connection over TCP for each flow.
    Tcp,
}

impl Carrier {
    /// The carriers in the order in which a lane tries them while nothing else is known; see
    /// [`crate::carriers`]. Bulk wants the cheapest byte, which
    /// TCP gives: large segments, and relays that never touch them. Interactive wants the first
    /// packet at once, on a connection that is warm and does not wait for what another flow lost.
    /// Media wants its newest message and no older one first, which TCP cannot do.
    pub const fn order(lane: Lane) -> [Self; 2] {
        match lane {
            Lane::Interactive | Lane::Media => [Self::Quic, Self::Tcp],
            Lane::Bulk => [Self::Tcp, Self::Quic],
        }
    }

    pub const fn other(self) -> Self {
        match self {
            Self::Quic => Self::Tcp,
            Self::Tcp => Self::Quic,
        }
    }

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Quic => "quic",
            Self::Tcp => "tcp",
        }
    }
}

impl fmt::Display for Carrier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What comes next on a `tcp` carrier.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// This many bytes of the flow come now: a whole part, or what has arrived of it.
    Data(usize),
    Finished,
    Reset(u64),
    Stopped(u64),
    /// Of a flow that outlives its connection, as the next.
    Acknowledged(u64),
    From(u64),
}

/// The peer does not keep to the format, or to the order of its parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Malformed;

/// The head of a data part.
///
/// # Panics
/// When there are no bytes, or more than [`MAX_DATA`].
pub fn data_head(length: usize) -> [u8; HEAD_BYTES] {
    assert!((1..=MAX_DATA).contains(&length), "{length} bytes are no data part");
    head(0, length)
}

pub fn finished() -> [u8; HEAD_BYTES] {
    head(1, 0)
}

pub fn reset(code: u64) -> [u8; HEAD_BYTES + CODE_BYTES] {
    with_code(2, code)
}

pub fn stopped(code: u64) -> [u8; HEAD_BYTES + CODE_BYTES] {
    with_code(3, code)
}

pub fn acknowledged(offset: u64) -> [u8; HEAD_BYTES + CODE_BYTES] {
    with_code(4, offset)
}

pub fn from(offset: u64) -> [u8; HEAD_BYTES + CODE_BYTES] {
    with_code(5, offset)
}

/// Finds the parts in the bytes that come from the other end.
#[derive(Debug, Clone, Default)]
pub struct Parts {
    /// Bytes of the data part under way that have not come.
    missing: usize,
    over: bool,
    stopped: bool,
    lasting: bool,
}

impl Parts {
    /// The same, of a flow that outlives this connection, from here on.
    pub const fn lasting(self) -> Self {
        Self { lasting: true, ..self }
    }

    /// The next part at the front of `input`, after as many bytes as the first number says, which
    /// are to be skipped. `None` when more bytes have to come first. The body of
    /// [`Part::Data`] follows, and is to be taken before the next call.
    pub fn next(&mut self, input: &[u8]) -> Result<Option<(usize, Part)>, Malformed> {
        if self.missing > 0 {
            return Ok(self.data(0, input.len()));
        }
        let Some(head) = input.first_chunk::<HEAD_BYTES>() else { return Ok(None) };
        let length = u32::from_be_bytes([0, head[1], head[2], head[3]]) as usize;
        match (head[0], length) {
            (0, 1..=MAX_DATA) if !self.over => {
                self.missing = length;
                let here = input.len() - HEAD_BYTES;
                Ok(self.data(HEAD_BYTES, here).or(Some((HEAD_BYTES, Part::Data(0)))))
            }
            (1, 0) if !self.over => {
                self.over = true;
                Ok(Some((HEAD_BYTES, Part::Finished)))
            }
            (2, CODE_BYTES) if !self.over => Ok(code(input).map(|code| {
                self.over = true;
                (HEAD_BYTES + CODE_BYTES, Part::Reset(code))
            })),
            (3, CODE_BYTES) if !self.stopped => Ok(code(input).map(|code| {
                self.stopped = true;
                (HEAD_BYTES + CODE_BYTES, Part::Stopped(code))
            })),
            (4, CODE_BYTES) if self.lasting => {
                Ok(code(input).map(|offset| (HEAD_BYTES + CODE_BYTES, Part::Acknowledged(offset))))
            }
            (5, CODE_BYTES) if self.lasting && !self.over => {
                Ok(code(input).map(|offset| (HEAD_BYTES + CODE_BYTES, Part::From(offset))))
            }
            _ => Err(Malformed),
        }
    }

    /// Whether no more data can come.
    pub const fn is_over(&self) -> bool {
        self.over
    }

    fn data(&mut self, skip: usize, here: usize) -> Option<(usize, Part)> {
        let length = self.missing.min(here);
        self.missing -= length;
        (length > 0).then_some((skip, Part::Data(length)))
    }
}

fn head(kind: u8, length: usize) -> [u8; HEAD_BYTES] {
    let [_, rest @ ..] = u32::try_from(length).expect("bounded by MAX_DATA").to_be_bytes();
    [kind, rest[0], rest[1], rest[2]]
}

fn with_code(kind: u8, code: u64) -> [u8; HEAD_BYTES + CODE_BYTES] {
    let mut part = [0; HEAD_BYTES + CODE_BYTES];
    part[..HEAD_BYTES].copy_from_slice(&head(kind, CODE_BYTES));
    part[HEAD_BYTES..].copy_from_slice(&code.to_be_bytes());
    part
}

fn code(input: &[u8]) -> Option<u64> {
    let body = input.get(HEAD_BYTES..)?.first_chunk::<CODE_BYTES>()?;
    Some(u64::from_be_bytes(*body))
}
