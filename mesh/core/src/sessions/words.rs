//! What an entry has to tell of its sessions: starts and ends, in the order in which they happened.

use std::collections::VecDeque;

use rap_proto::{Timestamp, observation::Observation};

/// Its place among all words of the entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Word(u64);

/// INVARIANT: words are taken in the order in which they were put, each once.
#[derive(Debug, Clone, Default)]
pub(super) struct Words {
    untold: VecDeque<(Timestamp, Observation)>,
    told: u64,
}

impl Words {
    pub(super) fn put(&mut self, at: Timestamp, observation: Observation) -> Word {
        self.untold.push_back((at, observation));
        self.last()
    }

    pub(super) fn last(&self) -> Word {
        Word(self.told + self.untold.len() as u64)
    }

    pub(super) const fn is_told(&self, word: Word) -> bool {
        word.0 <= self.told
    }

    /// The next one, unless it comes behind `last`.
    pub(super) fn take(&mut self, last: Word) -> Option<(Timestamp, Observation)> {
        if self.is_told(last) {
            return None;
        }
        let next = self.untold.pop_front()?;
        self.told += 1;
        Some(next)
    }

    pub(super) fn untold(&self) -> usize {
        self.untold.len()
    }
}
