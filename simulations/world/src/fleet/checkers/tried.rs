//! What a node can know of relays from the probes through them, in books that the checkers keep.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use rap_proto::Moment;

/// How soon after the first of some probes in a row that did not arrive a relay is found: two that are
/// waited for, the pause between them, and as much again.
pub const FOUND_WITHIN: Duration = Duration::from_secs(30);
/// To so many egresses; one alone may be what is wrong.
const EGRESSES_TO_BE_FOUND: usize = 2;

/// By relay, how the last probes through it ended.
#[derive(Debug, Default)]
pub(super) struct Tried(BTreeMap<usize, Last>);

#[derive(Debug)]
enum Last {
    Arrived,
    /// In a row, the first of them then, and to these.
    Lost(Moment, BTreeSet<usize>),
}

impl Tried {
    /// Returns whether these were enough now to find that the relay swallows.
    pub(super) fn note(&mut self, now: Moment, relay: usize, egress: usize, arrives: bool) -> bool {
        let last = self.0.entry(relay).or_insert(Last::Arrived);
        if arrives {
            *last = Last::Arrived;
            return false;
        }
        if matches!(last, Last::Arrived) {
            *last = Last::Lost(now, BTreeSet::new());
        }
        let Last::Lost(_, egresses) = last else { return false };
        egresses.insert(egress) && egresses.len() == EGRESSES_TO_BE_FOUND
    }

    pub(super) fn forwards(&self, relay: usize) -> bool {
        matches!(self.0.get(&relay), Some(Last::Arrived))
    }

    /// Whether it must be known by now that the relay swallows.
    pub(super) fn is_found(&self, now: Moment, relay: usize) -> bool {
        let Some(Last::Lost(since, egresses)) = self.0.get(&relay) else { return false };
        egresses.len() >= EGRESSES_TO_BE_FOUND && now.since(*since) >= FOUND_WITHIN
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}
