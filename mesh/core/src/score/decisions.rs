//! What was decided and still holds, so that most decisions are one look: the ways to a target, and
//! below them what each relay is worth, which is the same for every target.
//!
//! Both rest on one view and on one set of measurements. With another view nothing of it holds any
//! more, and with the end of a certificate nothing that counted on it, which nothing that runs does.
//! Other measurements of a relay change what that one is worth, and the ways that rest on it; those of
//! anybody else change nothing.

mod changes;
mod kept;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use rap_proto::{NodeId, OrganizationId, Timestamp};

use super::{
    Candidate, ChannelClass, Known, Learned, Way,
    chains::{MAX_RELAYS, ways},
    relays::{RelayQuestion, Use},
};
use crate::{View, paths};
use kept::Kept;

pub use changes::{Change, Changes};

/// The most targets, each with what a path is for, whose ways are kept; one more forgets all of
/// them, but no scores.
pub const MAX_DECISIONS: usize = 1_024;
/// The most questions whose scores are kept: all those of 21 organizations. One more forgets the one
/// that was asked least lately.
pub const MAX_SCORES: usize = 128;

/// What a path is wanted for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Asked {
    pub target: NodeId,
    pub organization: OrganizationId,
    pub class: ChannelClass,
    pub purpose: Use,
}

/// All of [`Asked`] but the target.
type Scored = (OrganizationId, ChannelClass, Use);

impl Asked {
    const fn scored(&self) -> Scored {
        (self.organization, self.class, self.purpose)
    }
}

/// INVARIANT: the scores of whatever there are ways for are kept.
#[derive(Debug, Clone, Default)]
pub struct Decisions {
    known: Arc<Known>,
    /// Of whom something else is known than what everything below was decided by.
    changed: BTreeSet<NodeId>,
    /// What everything below was decided by.
    view: Option<Arc<View>>,
    ways: BTreeMap<Asked, Vec<Way>>,
    scores: Kept,
}

impl Decisions {
    /// Takes what is known of peers from now on. Returns whether it is something else than before.
    pub fn know(&mut self, known: BTreeMap<NodeId, Candidate<'static>>) -> bool {
        let learned = self.known.learn(known);
        let is_other = learned.is_some();
        learned.into_iter().for_each(|learned| self.take(learned));
        is_other
    }

    /// What is known so far: whoever shares the decisions with others learns apart from them, and then
    /// has them [take](Self::take) it.
    pub fn known(&self) -> Arc<Known> {
        self.known.clone()
    }

    /// Takes what follows what is [known](Self::known), and nothing else.
    pub fn take(&mut self, Learned { known, changed }: Learned) {
        self.known = known;
        self.changed.extend(changed);
    }

    /// The relays, and chains of them, by which a path could reach the target, best first.
    pub fn ways(&mut self, view: &Arc<View>, asked: Asked, now: Timestamp) -> &[Way] {
        // Whoever still asks with the view before gets no way of this one, nor the other way round.
        if !self.view.as_ref().is_some_and(|held| Arc::ptr_eq(held, view)) {
            self.view = Some(view.clone());
            self.forget();
        }
        if self.scores.expire(now) {
            self.ways.retain(|asked, _| self.scores.has(&asked.scored()));
        }
        self.follow(now);
        if self.ways.contains_key(&asked) {
            self.scores.touch(&asked.scored());
        } else {
            let decided = self.decide(view, asked, now);
            if self.ways.len() >= MAX_DECISIONS {
                self.ways.clear();
            }
            self.ways.insert(asked, decided);
        }
        &self.ways[&asked]
    }

    /// Brings what is kept to what is known by now, and says what relays are worth since then. What
    /// is not kept is not compared.
    pub fn follow(&mut self, now: Timestamp) -> Changes {
        let mut changed = std::mem::take(&mut self.changed);
        let Some(view) = self.view.clone() else { return Changes::default() };
        changed.retain(|node| view.is_relay(*node));
        if changed.is_empty() {
            return Changes::default();
        }
        let mut changes = Changes::among(&changed);
        let (known, view) = (&self.known, &*view);
        self.scores.rescore(|(organization, class, purpose), scores| {
            let question = RelayQuestion { view, known, organization, class, purpose, now };
            let rescored = question.rescore(scores, &changed);
            changes.compare((organization, class, purpose), &rescored);
        });
        self.ways.retain(|asked, ways| {
            changes.of(asked.scored()).is_some_and(<[Change]>::is_empty)
                && !makes_chains(ways, &changed)
        });
        changes
    }

    fn decide(&mut self, view: &View, asked: Asked, now: Timestamp) -> Vec<Way> {
        let Asked { target, organization, class, purpose } = asked;
        let known = &self.known;
        let question = RelayQuestion { view, known, organization, class, purpose, now };
        if let Some(evicted) = self.scores.make_room(asked.scored()) {
            self.ways.retain(|asked, _| asked.scored() != evicted);
        }
        let scores = self.scores.get(asked.scored(), || question.scores());
        let order = scores.order(target);
        ways(&order, &question.chains(&order))
    }

    fn forget(&mut self) {
        self.changed.clear();
        self.ways.clear();
        self.scores = Kept::default();
    }
}

/// Whether chains are made of one of these: what is measured of it counts there beside its worth.
fn makes_chains(ways: &[Way], nodes: &BTreeSet<NodeId>) -> bool {
    let single = ways.iter().filter(|way| matches!(way.path, paths::Candidate::Relay(_)));
    let mut relays = single.take(MAX_RELAYS).flat_map(|way| way.path.relays());
    relays.any(|relay| nodes.contains(relay))
}

#[cfg(test)]
mod tests;
