//! One end of a reliable channel: what it sends, and what it has not read.

use std::collections::VecDeque;

use bytes::Bytes;
use rap_proto::Moment;

use super::{
    Counters, Delivery, ITEM_HEAD_BYTES, Item, Items, Malformed, Message, Policy, Queue, Refused,
    TooMuch, Window, credit_item, message_item,
};

/// What is to be written next on the stream, as a whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Out {
    Credit(Bytes),
    Message([u8; ITEM_HEAD_BYTES], Bytes),
}

/// The peer does not keep to the protocol: the channel is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Broken {
    Malformed,
    /// More than it had credit for.
    TooMuch,
}

/// Both directions of one reliable channel, at one of its ends.
///
/// INVARIANT: `unread` is what the window counts as received and not taken, so within the bound.
#[derive(Debug, Clone)]
pub struct ReliableEnd {
    queue: Queue,
    items: Items,
    window: Window,
    unread: VecDeque<Bytes>,
}

impl ReliableEnd {
    /// # Panics
    /// When the policy is of a kind that drops.
    pub fn new(policy: &Policy) -> Self {
        assert_eq!(policy.delivery, Delivery::Reliable, "this end loses nothing");
        Self {
            queue: Queue::new(policy),
            items: Items::new(policy),
            window: Window::new(policy),
            unread: VecDeque::new(),
        }
    }

    /// Sends a message, now or when there is credit.
    pub fn push(&mut self, now: Moment, message: Message) -> Result<(), Refused> {
        self.queue.push(now, message)
    }

    /// Bytes that came on the stream.
    pub fn handle_bytes(&mut self, bytes: &[u8]) -> Result<(), Broken> {
        self.items.push(bytes);
        while let Some(item) = self.items.take()? {
            match item {
                Item::Message(body) => {
                    self.window.handle_message(body.len())?;
                    self.unread.push_back(body);
                }
                Item::Credit(granted) => self.queue.grant(granted),
                Item::Alone(..) => return Err(Broken::Malformed),
            }
        }
        Ok(())
    }

    /// The next message for whoever reads. Taking it is what makes room for more.
    pub fn take(&mut self) -> Option<Bytes> {
        let message = self.unread.pop_front()?;
        self.window.take(message.len());
        Some(message)
    }

    /// The next to be written, when the stream has room for it. Credit goes first: it costs little,
    /// and somebody waits for it.
    pub fn poll_out(&mut self, now: Moment) -> Option<Out> {
        if let Some(granted) = self.window.poll_grant() {
            return Some(Out::Credit(Bytes::copy_from_slice(&credit_item(granted))));
        }
        let message = self.queue.poll(now)?;
        Some(Out::Message(message_item(message.bytes.len()), message.bytes))
    }

    pub fn counters(&self) -> Counters {
        self.queue.counters()
    }

    /// How many messages wait to be sent.
    pub fn unsent(&self) -> usize {
        self.queue.len()
    }

    /// Whether the peer ended its direction within an item.
    pub fn is_within_an_item(&self) -> bool {
        self.items.waiting() > 0
    }
}

impl From<Malformed> for Broken {
    fn from(_: Malformed) -> Self {
        Self::Malformed
    }
}

impl From<TooMuch> for Broken {
    fn from(_: TooMuch) -> Self {
        Self::TooMuch
    }
}
