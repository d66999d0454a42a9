//! Credit: how much a reader lets be sent, counted from the channel's beginning, in messages and in
//! bytes, as a QUIC stream's is (RFC 9000, section 4.1). The numbers only rise, so a word that
//! comes twice or late says nothing new.

use super::{Bound, Policy};

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
}

/// The sender does not keep to its credit, or to the largest message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooMuch;

/// What a reader has granted: never more than what its bound holds beside what was not taken.
///
/// INVARIANT: `taken` is within `received`, `received` within `granted`, and `granted` within
/// `taken` and the bound.
#[derive(Debug, Clone)]
pub struct Window {
    bound: Bound,
    max_message: usize,
    granted: Amount,
    received: Amount,
    taken: Amount,
}

impl Window {
    pub fn new(policy: &Policy) -> Self {
        Self {
            bound: policy.bound,
            max_message: policy.max_message,
            granted: Amount::default(),
            received: Amount::default(),
            taken: Amount::default(),
        }
    }

    /// A message of so many bytes came, and waits until whoever reads takes it.
    pub fn handle_message(&mut self, bytes: usize) -> Result<(), TooMuch> {
        let received = self.received.and_one(bytes);
        if bytes > self.max_message || !received.is_within(self.granted) {
            return Err(TooMuch);
        }
        self.received = received;
        Ok(())
    }

    /// Whoever reads has the next message, of so many bytes: there is room for as much.
    pub fn take(&mut self, bytes: usize) {
        let taken = self.taken.and_one(bytes);
        debug_assert!(taken.is_within(self.received), "what is taken came before");
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
