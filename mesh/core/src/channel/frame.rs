//! What each direction of a message channel's byte stream carries. Numbers are big-endian.
//!
//! ```text
//! direction = version (1 byte) frame …
//!
//! kind 0  message        number (8 bytes) length (4) body (length bytes)
//! kind 1  keyed message  number (8) key (8) length (4) body
//! kind 2  grant          messages (8) bytes (8): what the sender of this lets be sent to it
//! kind 3  finished       no more messages; grants may follow
//! ```
//!
//! A message's number is how many its queue had handed out with it, from 1. Whoever only passes a
//! channel on reads nothing of this.

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};

use super::{Amount, Key, Message, Policy};

/// The version that each direction begins with.
pub const VERSION: u8 = 1;
/// The most bytes before a message's body, its kind included.
pub const MAX_HEAD_BYTES: usize = 21;

const PLAIN: u8 = 0;
const KEYED: u8 = 1;
const GRANT: u8 = 2;
const FINISHED: u8 = 3;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    Message { number: u64, message: Message },
    Grant(Amount),
    Finished,
}

impl Frame {
    /// Appends the frame's bytes.
    ///
    /// # Panics
    /// When the message is larger than any policy lets it be.
    pub fn encode(&self, bytes: &mut BytesMut) {
        match self {
            Self::Message { number, message: Message { key, bytes: body } } => {
                let length = u32::try_from(body.len()).expect("a policy bounds it");
                bytes.reserve(MAX_HEAD_BYTES + body.len());
                bytes.put_u8(if key.is_some() { KEYED } else { PLAIN });
                bytes.put_u64(*number);
                if let Some(Key(key)) = key {
                    bytes.put_u64(*key);
                }
                bytes.put_u32(length);
                bytes.put_slice(body);
            }
            Self::Grant(Amount { messages, bytes: granted }) => {
                bytes.put_u8(GRANT);
                bytes.put_u64(*messages);
                bytes.put_u64(*granted);
            }
            Self::Finished => bytes.put_u8(FINISHED),
        }
    }
}

/// The other side does not keep to the format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    #[error("version {0} of the format is not known here")]
    Version(u8),
    #[error("there is no frame of kind {0}")]
    Kind(u8),
    #[error("a message of {actual} bytes is longer than {limit}")]
    TooLarge { actual: usize, limit: usize },
    #[error("a message follows the end")]
    AfterEnd,
}

/// Finds the frames of one direction, however its bytes are cut.
///
/// INVARIANT: once [`Self::poll_frame`] has nothing more, less than one frame waits.
#[derive(Debug)]
pub struct Decoder {
    max_message: usize,
    buffer: BytesMut,
    begun: bool,
    finished: bool,
}

impl Decoder {
    pub fn new(policy: &Policy) -> Self {
        let (max_message, buffer) = (policy.max_message, BytesMut::new());
        Self { max_message, buffer, begun: false, finished: false }
    }

    /// The next bytes came. What they complete is to be polled before more come.
    pub fn handle_bytes(&mut self, bytes: &[u8]) {
        self.buffer.put_slice(bytes);
    }

    /// The next frame. `None` when more bytes have to come first.
    pub fn poll_frame(&mut self) -> Result<Option<Frame>, Malformed> {
        if !self.begun {
            match self.buffer.first() {
                None => return Ok(None),
                Some(&VERSION) => self.buffer.advance(1),
                Some(other) => return Err(Malformed::Version(*other)),
            }
            self.begun = true;
        }
        let Some(kind) = self.buffer.first().copied() else { return Ok(None) };
        match kind {
            PLAIN | KEYED if !self.finished => self.message(kind == KEYED),
            FINISHED if !self.finished => {
                self.buffer.advance(1);
                self.finished = true;
                Ok(Some(Frame::Finished))
            }
            GRANT => Ok(self.grant()),
            PLAIN | KEYED | FINISHED => Err(Malformed::AfterEnd),
            other => Err(Malformed::Kind(other)),
        }
    }

    /// How many bytes wait for the rest of their frame.
    pub fn waiting(&self) -> usize {
        self.buffer.len()
    }

    /// What is too long is refused before its body comes. The body is copied, so that a small
    /// message that waits keeps no large piece in memory.
    fn message(&mut self, keyed: bool) -> Result<Option<Frame>, Malformed> {
        let head = if keyed { MAX_HEAD_BYTES } else { MAX_HEAD_BYTES - size_of::<u64>() };
        let Some(mut fields) = self.buffer.get(1..head) else { return Ok(None) };
        let number = fields.get_u64();
        let key = keyed.then(|| Key(fields.get_u64()));
        let (actual, limit) = (fields.get_u32() as usize, self.max_message);
        if actual > limit {
            return Err(Malformed::TooLarge { actual, limit });
        }
        let Some(body) = self.buffer.get(head..head + actual) else { return Ok(None) };
        let message = Message { key, bytes: Bytes::copy_from_slice(body) };
        self.buffer.advance(head + actual);
        Ok(Some(Frame::Message { number, message }))
    }

    fn grant(&mut self) -> Option<Frame> {
        let mut fields = self.buffer.get(1..1 + 2 * size_of::<u64>())?;
        let granted = Amount { messages: fields.get_u64(), bytes: fields.get_u64() };
        self.buffer.advance(1 + 2 * size_of::<u64>());
        Some(Frame::Grant(granted))
    }
}
