//! The relays of a view in the order in which a path should try them.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
    iter::Peekable,
};

use rap_proto::{
    Authority, NodeId, OrganizationId, Preference, Timestamp,
    snapshot::{Place, RoleScope},
};

use super::{
    Candidate, ChannelClass, Explained, GREATEST, Identity, MAX_CANDIDATES, Measured, Parts,
    Placement, Policy, Question, Ranked, RankedChain, candidate::preference, chains, explain,
    first,
};
use crate::{View, paths::Spread};

/// Totals that differ by less are taken for equal: else the best relay carries everything.
pub const NEARLY_THE_SAME: u16 = 50;
/// The most relays in one order: more than are tried before those that failed may be tried again.
pub const MAX_ORDERED: usize = 64;
/// How many different worths there are.
const WORTHS: usize = (GREATEST / NEARLY_THE_SAME) as usize + 1;

/// Whether a path is for something that begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Use {
    New,
    /// Whether it may go on is the stale policy's to say; isolation alone takes no relay from it.
    Running,
}

/// Asks for an organization's relays. Who is one, the view says; `known` adds what was measured.
#[derive(Debug, Clone, Copy)]
pub struct RelayQuestion<'a> {
    pub view: &'a View,
    pub known: &'a BTreeMap<NodeId, Candidate<'static>>,
    pub policy: &'a Policy,
    pub organization: OrganizationId,
    pub class: ChannelClass,
    pub purpose: Use,
    pub now: Timestamp,
}

impl RelayQuestion<'_> {
    /// What every relay that nothing rules out is worth.
    pub fn scores(&self) -> Scores {
        let mut scores = Scores { node: self.view.node, by_worth: Default::default(), until: None };
        self.score(&mut scores, |_| true);
        scores
    }

    /// Scores these anew, of whom something else is known by now.
    pub fn rescore(&self, scores: &mut Scores, changed: &BTreeSet<NodeId>) {
        for equals in &mut scores.by_worth {
            equals.retain(|ranked| !changed.contains(&ranked.node));
        }
        self.score(scores, |node| changed.contains(&node));
    }

    fn score(&self, scores: &mut Scores, which: impl Fn(NodeId) -> bool) {
        let (question, weights) = (self.question(), self.policy.weights(self.class));
        self.look_at_each(which, |candidate| {
            if question.excludes(&candidate).is_none() {
                let total = weights.total(&Parts::of(&question, &candidate));
                let worth = usize::from(total.min(GREATEST) / NEARLY_THE_SAME);
                scores.by_worth[worth].push(Ranked { node: candidate.node, total });
                scores.until = scores.until.into_iter().chain(candidate.certificate_until).min();
            }
        });
    }

    /// The chains of the first relays of an order that are worth trying, best first.
    pub fn chains(&self, order: &[Ranked]) -> Vec<RankedChain> {
        let best = order.iter().take(chains::MAX_RELAYS);
        let peers = best.filter_map(|ranked| self.view.peer(ranked.node));
        let candidates: Vec<_> = peers
            .map(|peer| {
                let known = self.known.get(&peer.node);
                self.candidate(peer.node, &peer.roles, known, self.view.place(peer.node))
            })
            .collect();
        chains::search(&self.question(), self.policy.weights(self.class), &candidates)
    }

    pub fn explain(&self) -> Vec<Explained> {
        let mut candidates = Vec::new();
        self.look_at_each(|_| true, |candidate| candidates.push(candidate));
        explain(&self.question(), self.policy.weights(self.class), &candidates)
    }

    fn question(&self) -> Question<'_> {
        Question {
            now: self.now,
            cluster: self.view.cluster,
            // The view names no relay that is not one for the organization.
            organization: None,
            role: None,
            placement: Placement::Anywhere,
            authority_epoch: self.view.authority_epoch,
            authority: match self.purpose {
                Use::New => self.view.authority,
                Use::Running => Authority::Healthy,
            },
            class: self.class,
            region: self.view.region(),
        }
    }

    /// What the view says of each relay and its place, with what was measured of it; all are in the
    /// order of ids. A loop, since a candidate is too large to be handed from one iterator to the next.
    fn look_at_each<'s>(
        &'s self,
        which: impl Fn(NodeId) -> bool,
        mut look: impl FnMut(Candidate<'s>),
    ) {
        let mut all_known = self.known.iter().map(|(node, known)| (*node, known)).peekable();
        let mut all_places = self.view.places().peekable();
        let others = self.view.relays(self.organization).filter(|(it, _)| *it != self.view.node);
        for (relay, roles) in others.take(MAX_CANDIDATES).filter(|(it, _)| which(*it)) {
            let known = of(&mut all_known, relay);
            let place = of(&mut all_places, relay);
            look(self.candidate(relay, roles, known, place));
        }
    }

    fn candidate<'s>(
        &'s self,
        relay: NodeId,
        roles: &'s [RoleScope],
        known: Option<&'s Candidate<'static>>,
        place: Option<&'s Place>,
    ) -> Candidate<'s> {
        let proven = known.is_some_and(|known| known.identity == Identity::Proven);
        Candidate {
            node: relay,
            cluster: self.view.cluster,
            identity: if proven { Identity::Proven } else { Identity::Listed },
            // What runs goes on; whoever sets up more is shown the certificate of that time.
            certificate_until: match self.purpose {
                Use::New => known.and_then(|known| known.certificate_until),
                Use::Running => None,
            },
            roles: Cow::Borrowed(roles),
            authority_epoch: self.view.authority_epoch,
            region: place.and_then(|place| place.region.as_ref()).map(Cow::Borrowed),
            preference: place.map_or(Preference::Neutral, preference),
            measured: known.map_or_else(Measured::default, |known| known.measured),
        }
    }
}

/// What stands for `node` in a list by id, which is left behind up to there.
fn of<T>(list: &mut Peekable<impl Iterator<Item = (NodeId, T)>>, node: NodeId) -> Option<T> {
    while list.next_if(|(other, _)| *other < node).is_some() {}
    list.next_if(|(other, _)| *other == node).map(|(_, found)| found)
}

/// The relays that one question leaves, with what they are worth: the same for every target.
#[derive(Debug, Clone)]
pub struct Scores {
    /// Who asks.
    node: NodeId,
    /// The least worth first.
    by_worth: [Vec<Ranked>; WORTHS],
    until: Option<Timestamp>,
}

impl Scores {
    /// The relays that may lead to `target`, best first. Where two are worth nearly the same, one
    /// target tries this one first and another target that one.
    pub fn order(&self, target: NodeId) -> Vec<Ranked> {
        let spread = Spread::new(self.node, target);
        let mut order = Vec::with_capacity(MAX_ORDERED);
        for equals in self.by_worth.iter().rev() {
            let others = equals.iter().filter(|relay| relay.node != target);
            let keyed = others.map(|relay| (spread.rank(relay.node), relay.node, relay.total));
            let best = first(keyed.collect(), MAX_ORDERED - order.len());
            order.extend(best.into_iter().map(|(_, node, total)| Ranked { node, total }));
            if order.len() == MAX_ORDERED {
                break;
            }
        }
        order
    }

    /// What these are worth; nobody is among it who is ruled out.
    pub fn totals(&self, nodes: &BTreeSet<NodeId>) -> BTreeMap<NodeId, u16> {
        let all = self.by_worth.iter().flatten();
        let wanted = all.filter(|ranked| nodes.contains(&ranked.node));
        wanted.map(|ranked| (ranked.node, ranked.total)).collect()
    }

    /// The first end of a certificate among them; `None` while none has shown one.
    pub const fn until(&self) -> Option<Timestamp> {
        self.until
    }
}

#[cfg(test)]
pub(super) mod tests;
