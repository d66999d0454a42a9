//! One end of a droppable channel: what it sends while it is worth something, and what it hands on.

use bytes::Bytes;
use rap_proto::Moment;

use super::{Arrivals, Counters, Delivery, Head, Message, Policy, Queue, Refused};

/// A message that is to be sent alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lone {
    pub head: Head,
    pub bytes: Bytes,
    /// When nobody wants it any more: a stream that it is on is reset then.
    pub stale_at: Option<Moment>,
}

/// Both directions of one droppable channel, at one of its ends or at an entry in between.
#[derive(Debug, Clone)]
pub struct DroppableEnd {
    queue: Queue,
    arrivals: Arrivals,
    /// How many messages were handed out.
    sent: u64,
}

impl DroppableEnd {
    /// # Panics
    /// When the policy is of a kind that loses nothing.
    pub fn new(policy: &Policy) -> Self {
        assert_eq!(policy.delivery, Delivery::Droppable, "this end drops");
        Self { queue: Queue::new(policy), arrivals: Arrivals::new(policy), sent: 0 }
    }

    /// Sends a message, if there is room for it while it is worth something. Only what is too large
    /// is ever refused.
    pub fn push(&mut self, now: Moment, message: Message) -> Result<(), Refused> {
        self.queue.push(now, message)
    }

    /// The next to be sent. To be asked for only when the connection has room for it: what waits
    /// there is neither coalesced nor dropped.
    pub fn poll_out(&mut self, now: Moment) -> Option<Lone> {
        let (Message { key, bytes }, stale_at) = self.queue.poll_dated(now)?;
        self.sent += 1;
        Some(Lone { head: Head { number: self.sent, key }, bytes, stale_at })
    }

    /// A message that came; it is given back unless something newer has come before it.
    pub fn handle_message(&mut self, head: Head, bytes: Bytes) -> Option<Message> {
        let Head { number, key } = head;
        self.arrivals.handle_message(number, key).then_some(Message { key, bytes })
    }

    pub fn handle_timeout(&mut self, now: Moment) {
        self.queue.handle_timeout(now);
    }

    pub fn poll_timeout(&self) -> Option<Moment> {
        self.queue.poll_timeout()
    }

    pub fn counters(&self) -> Counters {
        self.queue.counters()
    }

    /// How many messages came too late to be handed on.
    pub const fn late(&self) -> u64 {
        self.arrivals.late()
    }
}
