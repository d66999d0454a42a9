//! Whom other measurements concern, and when who is concerned looks at them.
//!
//! A lane rests on the relays that it leads over, lists, or would make chains of. When one of these is
//! worth something else, the lane looks again; so it does when another relay comes to be worth as much
//! as those that it lists, as it would list that one by now. Nothing else concerns it: a fleet's relays
//! are measured all the time, and an entry has thousands of lanes.

mod audience;
mod pace;

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound,
};

use rap_proto::{NodeId, OrganizationId};

use super::{
    ChannelClass, Way,
    chains::MAX_RELAYS,
    decisions::{Change, Changes},
    relays::NEARLY_THE_SAME,
};
use crate::paths::Candidate;

pub use audience::{Audience, Listening};
pub use pace::{LOOK_EVERY, LOOK_WITHIN, Pace};

/// Whose relays are asked for, and what for. Lanes ask for what runs.
pub type Question = (OrganizationId, ChannelClass);

/// What one lane rests on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interest {
    question: Question,
    relays: BTreeSet<NodeId>,
    /// Another relay of this worth, or of more, would be listed, too; see [`worth`].
    least: u16,
}

impl Interest {
    /// Of a lane that was given these ways, listed those and has others open.
    pub fn of(question: Question, ways: &[Way], listed: &[Candidate], open: &[Candidate]) -> Self {
        let single = ways.iter().filter(|way| matches!(way.path, Candidate::Relay(_)));
        let for_chains = single.clone().take(MAX_RELAYS).map(|way| &way.path);
        let used = listed.iter().chain(open).chain(for_chains);
        let relays = used.flat_map(Candidate::relays).copied().collect();
        let (kept, left): (Vec<&Way>, Vec<&Way>) =
            single.partition(|way| listed.contains(&way.path));
        let worths = kept.iter().map(|way| worth(way.total));
        let least = if left.is_empty() { 0 } else { worths.min().unwrap_or_default() };
        Self { question, relays, least }
    }
}

/// INVARIANT: the sets name exactly the lanes that have an interest, each by what it is.
#[derive(Debug, Clone, Default)]
pub struct Interests {
    lanes: BTreeMap<u64, Interest>,
    by_relay: BTreeSet<(Question, NodeId, u64)>,
    by_least: BTreeSet<(Question, u16, u64)>,
}

impl Interests {
    /// From now on the lane of this number rests on this, and on nothing that it rested on before.
    pub fn heed(&mut self, lane: u64, interest: Interest) {
        if self.lanes.get(&lane) == Some(&interest) {
            return;
        }
        self.forget(lane);
        let Interest { question, relays, least } = &interest;
        self.by_relay.extend(relays.iter().map(|relay| (*question, *relay, lane)));
        self.by_least.insert((*question, *least, lane));
        self.lanes.insert(lane, interest);
    }

    pub fn forget(&mut self, lane: u64) {
        let Some(Interest { question, relays, least }) = self.lanes.remove(&lane) else { return };
        for relay in relays {
            self.by_relay.remove(&(question, relay, lane));
        }
        self.by_least.remove(&(question, least, lane));
    }

    /// The lanes that these changes concern.
    pub fn concerned(&self, changes: &Changes) -> BTreeSet<u64> {
        let mut concerned = BTreeSet::new();
        if changes.is_empty() {
            return concerned;
        }
        for question in self.questions() {
            match changes.of_running(question) {
                Some(all) => all.iter().for_each(|one| self.add(question, *one, &mut concerned)),
                // What its relays were worth before is not kept, so it may be anything.
                None => concerned.extend(self.who(question, u16::MAX)),
            }
        }
        concerned
    }

    fn add(&self, question: Question, change: Change, concerned: &mut BTreeSet<u64>) {
        let Change { node, before, after } = change;
        let theirs = self.by_relay.range((question, node, 0)..=(question, node, u64::MAX));
        concerned.extend(theirs.map(|(.., lane)| *lane));
        let (before, after) = (before.map(worth), after.map(worth));
        if let Some(after) = after.filter(|after| Some(*after) > before) {
            concerned.extend(self.who(question, after));
        }
    }

    /// What lanes ask, each once.
    fn questions(&self) -> impl Iterator<Item = Question> {
        let beyond = |(question, ..): (Question, u16, u64)| {
            let last = Bound::Excluded((question, u16::MAX, u64::MAX));
            self.by_least.range((last, Bound::Unbounded)).next().copied()
        };
        let first = self.by_least.first().copied();
        std::iter::successors(first, move |one| beyond(*one)).map(|(question, ..)| question)
    }

    /// The lanes that would list another relay of this worth.
    fn who(&self, question: Question, worth: u16) -> impl Iterator<Item = u64> {
        let lanes = self.by_least.range((question, 0, 0)..=(question, worth, u64::MAX));
        lanes.map(|(.., lane)| *lane)
    }
}

/// Relays of one worth count as equal: they stand in an order that no measurement changes.
const fn worth(total: u16) -> u16 {
    total / NEARLY_THE_SAME
}

#[cfg(test)]
mod tests;
