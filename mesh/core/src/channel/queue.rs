//! Where the messages of one channel wait before they are sent.

use std::collections::BTreeMap;

use rap_proto::Moment;

use super::{Amount, Delivery, Key, Message, Policy, credit::Credit};

/// Why a message was not taken in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refused {
    /// There is no room. Whoever makes messages waits until one was polled, and brings it again.
    Full(Message),
    /// No queue of this kind ever takes one so large.
    TooLarge,
}

/// What became of messages since the channel began. What was taken in and is in none of the others
/// waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    pub taken_in: u64,
    pub sent: u64,
    pub dropped_full: u64,
    pub dropped_stale: u64,
    /// Gave their place to a newer one of the same key.
    pub coalesced: u64,
}

/// The messages of one channel, in the order in which they came.
///
/// INVARIANT: `bytes` are those of `waiting`, which is within the policy's bound. `replaceable`
/// holds the messages with a key that have come after the last one without, and only while they
/// wait.
#[derive(Debug, Clone)]
pub struct Queue {
    policy: Policy,
    waiting: BTreeMap<u64, Waiting>,
    bytes: usize,
    replaceable: BTreeMap<Key, u64>,
    next: u64,
    /// Of a reliable channel.
    credit: Option<Credit>,
    /// Nothing is handed out before, where the policy has a pace.
    rests_until: Option<Moment>,
    counters: Counters,
}

#[derive(Debug, Clone)]
struct Waiting {
    message: Message,
    since: Moment,
}

impl Queue {
    pub fn new(policy: &Policy) -> Self {
        let reliable = policy.delivery == Delivery::Reliable;
        Self {
            policy: *policy,
            waiting: BTreeMap::new(),
            bytes: 0,
            replaceable: BTreeMap::new(),
            next: 0,
            credit: reliable.then(Credit::default),
            rests_until: None,
            counters: Counters::default(),
        }
    }

    /// Takes a message in, at the end. It takes the place of one with the same key where the policy
    /// says so, and of the oldest where messages may be dropped.
    pub fn push(&mut self, now: Moment, message: Message) -> Result<(), Refused> {
        let length = message.bytes.len();
        if length > self.policy.max_message {
            return Err(Refused::TooLarge);
        }
        self.drop_stale(now);
        let older = message.key.and_then(|key| self.replaceable.get(&key).copied());
        if self.policy.delivery == Delivery::Reliable && !self.has_room(length, older) {
            return Err(Refused::Full(message));
        }
        if let Some(older) = older {
            self.remove(older);
            self.counters.coalesced += 1;
        }
        while !self.has_room(length, None)
            && let Some(oldest) = self.oldest()
        {
            self.remove(oldest);
            self.counters.dropped_full += 1;
        }
        self.insert(now, message);
        Ok(())
    }

    /// The next message to be sent: to be asked for when there is somewhere to put it. `None` when
    /// nothing waits, when there is no credit for it, and while the channel rests.
    pub fn poll(&mut self, now: Moment) -> Option<Message> {
        self.handle_timeout(now);
        if self.rests_until.is_some() {
            return None;
        }
        let (number, first) = self.waiting.first_key_value()?;
        let (number, length) = (*number, first.message.bytes.len());
        if let Some(credit) = &mut self.credit
            && !credit.spend(length)
        {
            return None;
        }
        let Waiting { message, .. } = self.remove(number)?;
        self.counters.sent += 1;
        self.rests_until = self.policy.every.map(|every| now + every);
        Some(message)
    }

    /// The reader of a reliable channel lets so much be sent, counted from the beginning.
    pub fn grant(&mut self, granted: Amount) {
        if let Some(credit) = &mut self.credit {
            credit.grant(granted);
        }
    }

    /// Drops what is stale by now, and ends a rest that is over.
    pub fn handle_timeout(&mut self, now: Moment) {
        self.drop_stale(now);
        if self.rests_until.is_some_and(|until| until <= now) {
            self.rests_until = None;
        }
    }

    /// When the first becomes stale, or can be sent. `None` when time alone changes nothing.
    pub fn poll_timeout(&self) -> Option<Moment> {
        let (_, first) = self.waiting.first_key_value()?;
        let stale = self.policy.stale_after.map(|after| first.since + after);
        stale.into_iter().chain(self.rests_until).min()
    }

    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// How many messages wait.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// How many bytes they have.
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether so many bytes fit, in the place of `older` if there is one.
    fn has_room(&self, length: usize, older: Option<u64>) -> bool {
        let older = older.and_then(|number| self.waiting.get(&number));
        let messages = self.waiting.len() - usize::from(older.is_some());
        let bytes = self.bytes - older.map_or(0, |older| older.message.bytes.len());
        messages < self.policy.bound.messages && bytes + length <= self.policy.bound.bytes
    }

    fn insert(&mut self, now: Moment, message: Message) {
        let number = self.next;
        self.next += 1;
        match message.key.filter(|_| self.policy.coalesces) {
            Some(key) => {
                self.replaceable.insert(key, number);
            }
            // What follows is never put before it, nor in the place of what was.
            None => self.replaceable.clear(),
        }
        self.bytes += message.bytes.len();
        self.counters.taken_in += 1;
        self.waiting.insert(number, Waiting { message, since: now });
    }

    fn remove(&mut self, number: u64) -> Option<Waiting> {
        let gone = self.waiting.remove(&number)?;
        self.bytes -= gone.message.bytes.len();
        if let Some(key) = gone.message.key
            && self.replaceable.get(&key) == Some(&number)
        {
            self.replaceable.remove(&key);
        }
        Some(gone)
    }

    fn drop_stale(&mut self, now: Moment) {
        let Some(after) = self.policy.stale_after else { return };
        while let Some((number, first)) = self.waiting.first_key_value()
            && now.since(first.since) >= after
        {
            let number = *number;
            self.remove(number);
            self.counters.dropped_stale += 1;
        }
    }

    fn oldest(&self) -> Option<u64> {
        self.waiting.first_key_value().map(|(number, _)| *number)
    }
}
