//! What was decided and still holds, so that most decisions are one look: the ways to a target, and
//! below them what each relay is worth, which is the same for every target.
//!
//! Both rest on one view and on one set of measurements. Another view, or the end of a certificate
//! that was counted on, and nothing of it holds any more. Other measurements of a relay change what
//! that one is worth, and the ways that rest on it; those of anybody else change nothing.

mod changes;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use rap_proto::{NodeId, OrganizationId, Timestamp};

use super::{
    Candidate, ChannelClass, Known, Policy, Way,
    chains::{MAX_RELAYS, ways},
    relays::{RelayQuestion, Scores, Use},
};
use crate::{View, paths};

pub use changes::{Change, Changes};

/// The most targets, each with what a path is for, whose ways are kept; one more forgets all of
/// them, but no scores.
pub const MAX_DECISIONS: usize = 1_024;
/// The most questions whose scores are kept; one more forgets those of all others.
pub const MAX_SCORES: usize = 32;

/// What a path is wanted for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Asked {
    pub target: NodeId,
    pub organization: OrganizationId,
    pub class: ChannelClass,
    pub purpose: Use,
}

#[derive(Debug, Clone, Default)]
pub struct Decisions {
    policy: Policy,
    known: Known,
    /// Of whom something else is known than what everything below was decided by.
    changed: BTreeSet<NodeId>,
    /// What everything below was decided by.
    view: Option<Arc<View>>,
    ways: BTreeMap<Asked, Vec<Way>>,
    /// By all of [`Asked`] but the target.
    scores: BTreeMap<(OrganizationId, ChannelClass, Use), Scores>,
    /// The first end of a certificate that scores rest on.
    until: Option<Timestamp>,
}

impl Decisions {
    /// Takes what is known of peers from now on. Returns whether it is something else than before.
    pub fn know(&mut self, known: BTreeMap<NodeId, Candidate<'static>>) -> bool {
        let changed = self.known.learn(known);
        let is_other = !changed.is_empty();
        self.changed.extend(changed);
        is_other
    }

    /// The relays, and chains of them, by which a path could reach the target, best first.
    pub fn ways(&mut self, view: &Arc<View>, asked: Asked, now: Timestamp) -> &[Way] {
        // Whoever still asks with the view before gets no way of this one, nor the other way round.
        let same_view = self.view.as_ref().is_some_and(|held| Arc::ptr_eq(held, view));
        if !same_view || self.until.is_some_and(|until| until < now) {
            self.view = Some(view.clone());
            self.forget();
        }
        self.follow(now);
        if !self.ways.contains_key(&asked) {
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
        let (known, policy, view) = (&self.known, &self.policy, &*view);
        for ((organization, class, purpose), scores) in &mut self.scores {
            let (organization, class, purpose) = (*organization, *class, *purpose);
            let question = RelayQuestion { view, known, policy, organization, class, purpose, now };
            let before = scores.totals(&changed);
            question.rescore(scores, &changed);
            changes.compare((organization, class, purpose), &before, &scores.totals(&changed));
            self.until = self.until.into_iter().chain(scores.until()).min();
        }
        self.ways.retain(|asked, ways| {
            let scored = (asked.organization, asked.class, asked.purpose);
            changes.of(scored).is_some_and(<[Change]>::is_empty) && !makes_chains(ways, &changed)
        });
        changes
    }

    fn decide(&mut self, view: &View, asked: Asked, now: Timestamp) -> Vec<Way> {
        let Asked { target, organization, class, purpose } = asked;
        let (known, policy) = (&self.known, &self.policy);
        let question = RelayQuestion { view, known, policy, organization, class, purpose, now };
        let scored = (organization, class, purpose);
        if self.scores.len() >= MAX_SCORES && !self.scores.contains_key(&scored) {
            self.scores.clear();
        }
        let scores = self.scores.entry(scored).or_insert_with(|| {
            let scores = question.scores();
            self.until = self.until.into_iter().chain(scores.until()).min();
            scores
        });
        let order = scores.order(target);
        ways(&order, &question.chains(&order))
    }

    fn forget(&mut self) {
        self.changed.clear();
        self.ways.clear();
        self.scores.clear();
        self.until = None;
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
