//! Which of the messages that come on a droppable channel are handed on.

use std::collections::BTreeMap;

use super::{Key, Order, Policy};

/// The most keys that are told apart. What is as old as a key that was forgotten counts as late.
pub const MAX_KEYS: usize = 4096;

/// Sorts out what came after something newer. A message's number is how many its queue had handed
/// out with it, from 1.
///
/// INVARIANT: `keys` and `newest` are each other's inverse, and every number in them is above
/// `floor`.
#[derive(Debug, Clone)]
pub struct Arrivals {
    order: Order,
    newest: BTreeMap<Option<Key>, u64>,
    keys: BTreeMap<u64, Option<Key>>,
    floor: u64,
    late: u64,
}

impl Arrivals {
    pub fn new(policy: &Policy) -> Self {
        let (newest, keys) = (BTreeMap::new(), BTreeMap::new());
        Self { order: policy.order, newest, keys, floor: 0, late: 0 }
    }

    /// Whether message `number` is handed on.
    pub fn handle_message(&mut self, number: u64, key: Option<Key>) -> bool {
        if self.order != Order::NewestOfKey {
            return true;
        }
        let newest = self.newest.get(&key).copied().unwrap_or(self.floor);
        // A number that another key has is a sender's mistake, and no reason to forget that key.
        if number <= newest || self.keys.contains_key(&number) {
            self.late += 1;
            return false;
        }
        if let Some(older) = self.newest.insert(key, number) {
            self.keys.remove(&older);
        }
        self.keys.insert(number, key);
        if self.keys.len() > MAX_KEYS
            && let Some((oldest, key)) = self.keys.pop_first()
        {
            self.newest.remove(&key);
            self.floor = oldest;
        }
        true
    }

    /// How many were not handed on.
    pub const fn late(&self) -> u64 {
        self.late
    }
}
