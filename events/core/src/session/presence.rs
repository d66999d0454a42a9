use std::collections::{BTreeMap, BTreeSet};

use rap_proto::{NodeId, observation::EndReason};
use serde::{Deserialize, Serialize};

use super::{SessionEnded, SessionStarted};

/// The most entries of one session whose words are remembered. Beyond it the one that was heard
/// longest ago is forgotten, of those where the session does not live.
pub const MAX_ENTRIES_HEARD: usize = 64;

/// Where a session lives, by the words of its entries.
///
/// Each entry's words are ordered by its own numbers, which are total. Two nodes' words are not
/// ordered at all: no clock is asked.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Presence {
    entries: BTreeMap<NodeId, Words>,
    /// How often an entry was heard.
    heard: u64,
    /// Whether any node saw it reach its resource: an entry, or an egress beside it.
    reached: bool,
    /// Whether time alone said that it must be over.
    concluded: bool,
    /// Whether a newer token was issued since an entry left it, and no entry said since that it started.
    awaited: bool,
}

/// The numbers of the newest start and the newest end that an entry told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
struct Words {
    started: Option<u64>,
    ended: Option<u64>,
    /// Whether the newest end was the node's own leaving.
    left: bool,
    /// Which word of all entries was its last.
    heard: u64,
}

/// What follows from all words together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// No entry has spoken, or none since its client asked to go on elsewhere.
    Unspoken,
    /// It lives at an entry, at least.
    Running,
    /// Every entry that spoke has said that it ended there, or time has.
    Over,
}

impl Presence {
    pub fn standing(&self) -> Standing {
        if self.lives_at().next().is_some() {
            Standing::Running
        } else if !self.awaited && (self.concluded || !self.entries.is_empty()) {
            Standing::Over
        } else {
            Standing::Unspoken
        }
    }

    /// The entries that said that it started, and not since that it ended.
    pub fn lives_at(&self) -> impl Iterator<Item = NodeId> {
        self.entries.iter().filter(|(_, words)| words.lives()).map(|(node, _)| *node)
    }

    /// Whether a node saw it reach its resource.
    pub fn is_reached(&self) -> bool {
        self.reached
    }

    /// Whether it may go on elsewhere though it is over: an entry left it, and its client did not.
    pub fn is_left(&self) -> bool {
        let left = self.entries.values().any(|words| words.left);
        left && !self.concluded && self.standing() == Standing::Over
    }

    /// Whether the entry told this start, or a newer one.
    pub(super) fn knows_start(&self, entry: NodeId, sequence: u64) -> bool {
        self.entries.get(&entry).is_some_and(|words| words.started >= Some(sequence))
    }

    /// Whether the entry told this end, or a newer one.
    pub(super) fn knows_end(&self, entry: NodeId, sequence: u64) -> bool {
        self.entries.get(&entry).is_some_and(|words| words.ended >= Some(sequence))
    }

    /// Whether the entry's words can be remembered.
    pub(super) fn has_room(&self, entry: NodeId) -> bool {
        self.entries.contains_key(&entry)
            || self.entries.len() < MAX_ENTRIES_HEARD
            || self.entries.values().any(|words| !words.lives())
    }

    /// A newer token was issued. Where entries had left the session it is as if none had spoken, until it
    /// starts again or time concludes it: their leaving has been made use of.
    pub fn refresh(&mut self) {
        if self.is_left() {
            self.awaited = true;
            self.entries.values_mut().for_each(|words| words.left = false);
        }
    }

    /// Takes a start in. `entries` are those that any token of the session named.
    pub fn start(&mut self, event: &SessionStarted, entries: &BTreeSet<NodeId>) {
        self.reached = true;
        if event.is_of_entry(entries)
            && let Some(words) = self.words(event.seen.node)
        {
            words.started = words.started.max(Some(event.seen.sequence));
            self.awaited = false;
        }
    }

    /// Takes an end in: that at one entry, or everywhere when it was concluded.
    pub fn end(&mut self, event: &SessionEnded) {
        let Some(seen) = event.seen else { return self.conclude() };
        if let Some(words) = self.words(seen.node)
            && words.ended < Some(seen.sequence)
        {
            words.ended = Some(seen.sequence);
            words.left = event.reason == EndReason::NodeLeft;
        }
    }

    /// What was told until now is over. Only a newer start says otherwise.
    fn conclude(&mut self) {
        (self.concluded, self.awaited) = (true, false);
        for words in self.entries.values_mut() {
            words.ended = words.ended.max(words.started);
        }
    }

    fn words(&mut self, entry: NodeId) -> Option<&mut Words> {
        if !self.has_room(entry) {
            return None;
        }
        if !self.entries.contains_key(&entry) && self.entries.len() >= MAX_ENTRIES_HEARD {
            let over = self.entries.iter().filter(|(_, words)| !words.lives());
            let oldest = over.min_by_key(|(_, words)| words.heard).map(|(node, _)| *node);
            oldest.map(|node| self.entries.remove(&node));
        }
        self.heard = self.heard.saturating_add(1);
        let words = self.entries.entry(entry).or_default();
        words.heard = self.heard;
        Some(words)
    }
}

impl Words {
    fn lives(&self) -> bool {
        self.started > self.ended
    }
}

#[cfg(test)]
mod tests;
