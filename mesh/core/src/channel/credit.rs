//! Credit: how much a reader lets be sent, counted from the channel's beginning, in messages and in
//! bytes, as a QUIC stream's is (RFC 9000, section 4.1). The numbers only rise, so a word that
//! comes twice or late says nothing new.
//!
//! On a reliable channel every message is within the credit. On a droppable one a message may go
//! beyond it when something is left: so the largest one can be larger than what is granted, and
//! little is under way.

use super::{Bound, Delivery, Policy};

/// How much passed, or may pass, since the channel began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Amount {
    pub messages: u64,
    pub bytes: u64,
}

impl Amount {
    /// One message of so many bytes more.
    const fn and_one(self, bytes: usize) -> Self {
        self.and(Bound { messages: 1, bytes })
    }

    const fn and(self, more: Bound) -> Self {
        Self {
            messages: self.messages.saturating_add(more.messages as u64),
            bytes: self.bytes.saturating_add(more.bytes as u64),
        }
    }

    const fn is_within(self, most: Self) -> bool {
        self.messages <= most.messages && self.bytes <= most.bytes
    }

    /// Whether something of both is left.
    const fn is_below(self, most: Self) -> bool {
        self.messages < most.messages && self.bytes < most.bytes
    }
}

/// What a sender may send. Nothing before the reader's first word.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Credit {
    granted: Amount,
    used: Amount,
}

impl Credit {
    pub(super) fn grant(&mut self, granted: Amount) {
        self.granted.messages = self.granted.messages.max(granted.messages);
        self.granted.bytes = self.granted.bytes.max(granted.bytes);
    }

    /// Uses what a message of so many bytes takes. False when there is too little.
    pub(super) const fn spend(&mut self, bytes: usize) -> bool {
        let used = self.used.and_one(bytes);
        let covered = used.is_within(self.granted);
        if covered {
            self.used = used;
        }
        covered
    }

    /// Whether a droppable message may be sent, however large it is.
    pub(super) const fn is_left(&self) -> bool {
        self.used.is_below(self.granted)
    }

    /// Uses what such a message takes.
    pub(super) const fn overspend(&mut self, bytes: usize) {
        self.used = self.used.and_one(bytes);
    }
}

/// The sender does not keep to its credit, or to the largest message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooMuch;

/// What a reader has granted: never more than what its bound holds beside what was not taken.
///
/// INVARIANT: `taken` is within `received`, `received` within `granted` but for one message of a
/// droppable channel, and `granted` within `taken` and the bound.
#[derive(Debug, Clone)]
pub struct Window {
    delivery: Delivery,
    bound: Bound,
    max_message: usize,
    granted: Amount,
    received: Amount,
    taken: Amount,
}

impl Window {
    pub fn new(policy: &Policy) -> Self {
        Self {
            delivery: policy.delivery,
            bound: policy.ahead,
            max_message: policy.max_message,
            granted: Amount::default(),
            received: Amount::default(),
            taken: Amount::default(),
        }
    }

    /// A message of so many bytes came, and waits until whoever reads takes it.
    pub fn handle_message(&mut self, bytes: usize) -> Result<(), TooMuch> {
        let received = self.received.and_one(bytes);
        let covered = match self.delivery {
            Delivery::Reliable => received.is_within(self.granted),
            Delivery::Droppable => self.received.is_below(self.granted),
        };
        if bytes > self.max_message || !covered {
            return Err(TooMuch);
        }
        self.received = received;
        Ok(())
    }

    /// Whoever reads looked: of what came, so much still waits. The rest was taken, or dropped.
    pub(super) fn leave(&mut self, waiting: Bound) {
        let taken = Amount {
            messages: self.received.messages - waiting.messages as u64,
            bytes: self.received.bytes - waiting.bytes as u64,
        };
        debug_assert!(self.taken.is_within(taken), "what was taken does not come back");
        self.taken = taken;
    }

    /// What the sender is to be told next: at the beginning, and whenever half of the bound has
    /// become free.
    pub fn poll_grant(&mut self) -> Option<Amount> {
        let grant = self.taken.and(self.bound);
        let [messages, bytes] =
            [grant.messages - self.granted.messages, grant.bytes - self.granted.bytes];
        let is_due = |free: u64, bound: usize| free.saturating_mul(2) >= bound as u64;
        if !is_due(messages, self.bound.messages) && !is_due(bytes, self.bound.bytes) {
            return None;
        }
        self.granted = grant;
        Some(grant)
    }
}
