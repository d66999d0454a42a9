//! What the two ends of a channel say to each other on the stream that it was opened on.
//!
//! After the handshake the stream's bytes are **items** in each direction:
//!
//! ```text
//! item = kind (1 byte)  length (3 bytes, big-endian)  body (length bytes)
//!
//! kind 0  message  of a reliable channel: the message
//! kind 1  credit   of a reliable channel: how many messages (8 bytes) and bytes (8 bytes) may be
//!                  sent in the other direction, counted from its beginning
//! kind 2  alone    of a droppable channel on `tcp`: a head as in `alone`, and the message
//! ```
//!
//! On `quic` a droppable channel has no items: its messages travel alone.

use bytes::{Buf as _, Bytes, BytesMut};

use super::{
    Amount, Delivery, Policy,
    alone::{Head, MAX_HEAD_BYTES},
};

/// Bytes of an item before its body.
pub const ITEM_HEAD_BYTES: usize = 4;

const CREDIT_BYTES: usize = 16;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item {
    Message(Bytes),
    Credit(Amount),
    Alone(Head, Bytes),
}

/// The peer does not keep to the format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Malformed;

/// What stands before a message of so many bytes on a reliable channel.
///
/// # Panics
/// When three bytes cannot say the length: no policy allows so much.
pub fn message_item(length: usize) -> [u8; ITEM_HEAD_BYTES] {
    item(0, length)
}

pub fn credit_item(granted: Amount) -> [u8; ITEM_HEAD_BYTES + CREDIT_BYTES] {
    let mut bytes = [0; ITEM_HEAD_BYTES + CREDIT_BYTES];
    let (head, body) = bytes.split_at_mut(ITEM_HEAD_BYTES);
    let (messages, most_bytes) = body.split_at_mut(8);
    head.copy_from_slice(&item(1, CREDIT_BYTES));
    messages.copy_from_slice(&granted.messages.to_be_bytes());
    most_bytes.copy_from_slice(&granted.bytes.to_be_bytes());
    bytes
}

/// What stands before a message of so many bytes on a droppable channel that runs on `tcp`.
///
/// # Panics
/// As [`message_item`] and [`super::alone_head`].
pub fn alone_item(head: Head, length: usize) -> Vec<u8> {
    let mut said = Vec::with_capacity(MAX_HEAD_BYTES);
    head.put(&mut said);
    let mut bytes = item(2, said.len() + length).to_vec();
    bytes.append(&mut said);
    bytes
}

/// Finds the items in the bytes that come from the other end.
///
/// What it keeps is less than one item, and what was pushed last: whoever pushes takes all items
/// before more.
#[derive(Debug, Clone)]
pub struct Items {
    delivery: Delivery,
    max_message: usize,
    come: BytesMut,
}

impl Items {
    pub fn new(policy: &Policy) -> Self {
        let Policy { delivery, max_message, .. } = *policy;
        Self { delivery, max_message, come: BytesMut::new() }
    }

    pub fn push(&mut self, bytes: &[u8]) {
        self.come.extend_from_slice(bytes);
    }

    /// The next item; `None` when more bytes have to come first. A length that no item of this
    /// channel has is refused before its body comes.
    pub fn take(&mut self) -> Result<Option<Item>, Malformed> {
        let Some([kind, length @ ..]) = self.come.first_chunk::<ITEM_HEAD_BYTES>().copied() else {
            return Ok(None);
        };
        let length =
            length.into_iter().fold(0_usize, |value, byte| (value << 8) | usize::from(byte));
        let most = match (self.delivery, kind) {
            (Delivery::Reliable, 0) => self.max_message,
            (Delivery::Reliable, 1) if length == CREDIT_BYTES => CREDIT_BYTES,
            (Delivery::Droppable, 2) => MAX_HEAD_BYTES + self.max_message,
            _ => return Err(Malformed),
        };
        if length > most {
            return Err(Malformed);
        }
        if self.come.len() < ITEM_HEAD_BYTES + length {
            return Ok(None);
        }
        self.come.advance(ITEM_HEAD_BYTES);
        let mut body = self.come.split_to(length).freeze();
        Ok(Some(match kind {
            0 => Item::Message(body),
            1 => Item::Credit(Amount { messages: body.get_u64(), bytes: body.get_u64() }),
            _ => {
                let head = Head::take(&mut body)?;
                if body.len() > self.max_message {
                    return Err(Malformed);
                }
                Item::Alone(head, body)
            }
        }))
    }

    /// Bytes of an item that has not come as a whole.
    pub fn waiting(&self) -> usize {
        self.come.len()
    }
}

fn item(kind: u8, length: usize) -> [u8; ITEM_HEAD_BYTES] {
    let said = u32::try_from(length).ok().map(u32::to_be_bytes);
    let Some([0, high, middle, low]) = said else {
        panic!("{length} bytes are no item");
    };
    [kind, high, middle, low]
}
