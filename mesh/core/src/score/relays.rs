//! The relays of a view in the order in which a path should try them.

use std::{
    borrow::Cow,
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
};

use rap_proto::{Authority, NodeId, OrganizationId, Timestamp};

use super::{
    Candidate, ChannelClass, Explained, GREATEST, Identity, Known, MAX_CANDIDATES, Measured, Parts,
    Placement, Question, Ranked, RankedChain, Weights, chains, explain, first, known::Brief,
};
use crate::{View, paths::Spread, view::RelayKind};

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

/// Asks for an organization's relays. Who is one, and what counts, the view says; `known` adds what was
/// measured.
#[derive(Debug, Clone, Copy)]
pub struct RelayQuestion<'a> {
    pub view: &'a View,
    pub known: &'a Known,
    pub organization: OrganizationId,
    pub class: ChannelClass,
    pub purpose: Use,
    pub now: Timestamp,
}

impl RelayQuestion<'_> {
    /// What every relay that nothing rules out is worth.
    pub fn scores(&self) -> Scores {
        let (scale, mut scores) = (Scale::of(self), Scores::none(self.view.node));
        let mut known = self.known.walk();
        let (mut relays, mut last) = (0, None);
        for (relay, kind) in self.relays() {
            (relays, last) = (relays + 1, Some(relay));
            if let Some((total, certificate)) = scale.total(self, kind, known.find(relay)) {
                // They come by id.
                scores.add(scores.relays.len(), Ranked { node: relay, total }, certificate);
            }
        }
        // What is behind the last of so many is not looked at.
        scores.last = last.filter(|_| relays == MAX_CANDIDATES);
        scores
    }

    /// Scores these anew, of whom something else is known by now: no others are looked at. The scores are
    /// of the same question and view.
    pub fn rescore(&self, scores: &mut Scores, changed: &BTreeSet<NodeId>) -> Rescored {
        let (scale, mut rescored) = (Scale::of(self), Rescored::default());
        for node in changed.iter().copied() {
            rescored.before.extend(scores.forget(node).map(|total| (node, total)));
            let is_looked_at =
                node != self.view.node && scores.last.is_none_or(|last| node <= last);
            let kind = self.view.relay_by_kind(self.organization, node);
            let Some(kind) = kind.filter(|_| is_looked_at) else { continue };
            if let Some((total, certificate)) = scale.total(self, kind, self.known.brief(node)) {
                scores.add(scores.place(node), Ranked { node, total }, certificate);
                rescored.after.insert(node, total);
            }
        }
        rescored
    }

    /// By the places of the kinds.
    fn standings(&self, question: &Question<'_>, weights: &Weights) -> Vec<Standing> {
        let standing = |kind: &RelayKind, identity| {
            // Who exactly it is makes no difference.
            let any = Candidate { identity, ..self.candidate(self.view.node, kind) };
            let fits = question.excludes(&any).is_none();
            fits.then(|| weights.weighed(&Parts::standing(question, &any)))
        };
        let kinds = self.view.relay_kinds().iter();
        kinds
            .map(|kind| Standing {
                listed: standing(kind, Identity::Listed),
                proven: standing(kind, Identity::Proven),
            })
            .collect()
    }

    /// The chains of the first relays of an order that are worth trying, best first.
    pub fn chains(&self, order: &[Ranked]) -> Vec<RankedChain> {
        let best = order.iter().take(chains::MAX_RELAYS);
        let candidates: Vec<_> = best
            .filter_map(|ranked| {
                let kind = self.view.relay_kind(ranked.node)?;
                Some(self.with_measured(self.candidate(ranked.node, kind)))
            })
            .collect();
        chains::search(&self.question(), self.weights(), &candidates)
    }

    pub fn explain(&self) -> Vec<Explained> {
        let kinds = self.view.relay_kinds();
        let relays = self.relays();
        let candidates: Vec<_> = relays
            .map(|(relay, kind)| self.with_measured(self.candidate(relay, &kinds[kind])))
            .collect();
        explain(&self.question(), self.weights(), &candidates)
    }

    const fn weights(&self) -> &Weights {
        self.view.weights.weights(self.class)
    }

    fn question(&self) -> Question<'_> {
        Question {
            now: self.now,
            cluster: self.view.cluster,
            // The view names no relay that is not one for the organization.
            organization: None,
            role: None,
            relayed: self.class.lane(),
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

    /// The relays that the question is about, by id, each with the place of its kind.
    fn relays(&self) -> impl Iterator<Item = (NodeId, usize)> {
        let all = self.view.relays_by_kind(self.organization);
        all.filter(|(relay, _)| *relay != self.view.node).take(MAX_CANDIDATES)
    }

    /// What the view says of a relay.
    fn candidate<'s>(&self, relay: NodeId, kind: &'s RelayKind) -> Candidate<'s> {
        Candidate {
            node: relay,
            cluster: self.view.cluster,
            identity: Identity::Listed,
            certificate_until: None,
            roles: Cow::Borrowed(&kind.roles),
            authority_epoch: self.view.authority_epoch,
            region: kind.region.as_ref().map(Cow::Borrowed),
            preference: kind.preference,
            relayed_lanes: kind.relayed_lanes,
            measured: Measured::default(),
        }
    }

    /// The same with what was measured of it.
    fn with_measured<'s>(&self, relay: Candidate<'s>) -> Candidate<'s> {
        let Some(known) = self.known.get(relay.node) else { return relay };
        let proven = known.identity == Identity::Proven;
        Candidate {
            identity: if proven { Identity::Proven } else { relay.identity },
            certificate_until: self.certificate_until(known.certificate_until),
            measured: known.measured,
            ..relay
        }
    }

    /// What runs goes on; whoever sets up more is shown the certificate of that time.
    fn certificate_until(&self, shown: Option<Timestamp>) -> Option<Timestamp> {
        match self.purpose {
            Use::New => shown,
            Use::Running => None,
        }
    }
}

/// What a question makes of every relay alike.
struct Scale<'q> {
    question: Question<'q>,
    weights: &'q Weights,
    standings: Vec<Standing>,
    /// What comes to those of whom nothing was measured, [weighed](Weights::weighed).
    unmeasured: u32,
}

impl<'q> Scale<'q> {
    fn of(asked: &'q RelayQuestion<'q>) -> Self {
        let (question, weights) = (asked.question(), asked.weights());
        let standings = asked.standings(&question, weights);
        let unmeasured = weights.weighed(&Parts::of_measured(&Measured::default()));
        Self { question, weights, standings, unmeasured }
    }

    /// What a relay's kind comes to and what was measured of it, added up, and the certificate that it
    /// rests on; `None` when a constraint rules it out. See [`super::find`], which
    /// [`RelayQuestion::explain`] asks of each by itself and which finds the same.
    fn total(
        &self,
        asked: &RelayQuestion<'_>,
        kind: usize,
        known: Option<&Brief>,
    ) -> Option<(u16, Option<Timestamp>)> {
        let certificate = asked.certificate_until(known.and_then(|it| it.certificate_until));
        let standing = self.standings[kind].of(known);
        let standing = standing.filter(|_| !self.question.is_over(certificate))?;
        let measured = known.map_or(self.unmeasured, |known| self.weights.weighed(&known.parts));
        Some((self.weights.mean(standing + measured), certificate))
    }
}

/// What all that no measurement moves adds up to for a relay of one kind, [weighed](Weights::weighed);
/// `None` when a constraint rules it out.
struct Standing {
    listed: Option<u32>,
    proven: Option<u32>,
}

impl Standing {
    fn of(&self, known: Option<&Brief>) -> Option<u32> {
        if known.is_some_and(|known| known.is_proven) { self.proven } else { self.listed }
    }
}

/// The relays that one question leaves, with what they are worth: the same for every target.
#[derive(Debug, Clone)]
pub struct Scores {
    /// Who asks.
    node: NodeId,
    /// By id.
    relays: Vec<Ranked>,
    /// Of those that were looked at, where they were as many as may be.
    last: Option<NodeId>,
    /// How many of them are of each worth, the least first.
    counts: [usize; WORTHS],
    until: Option<Timestamp>,
}

impl Scores {
    const fn none(node: NodeId) -> Self {
        Self { node, relays: Vec::new(), last: None, counts: [0; WORTHS], until: None }
    }

    /// Where a relay that is not among them belongs.
    fn place(&self, node: NodeId) -> usize {
        self.relays.partition_point(|relay| relay.node < node)
    }

    fn add(&mut self, place: usize, relay: Ranked, certificate_until: Option<Timestamp>) {
        self.relays.insert(place, relay);
        self.counts[worth(relay.total)] += 1;
        self.until = self.until.into_iter().chain(certificate_until).min();
    }

    /// Returns what it was worth.
    fn forget(&mut self, node: NodeId) -> Option<u16> {
        let place = self.relays.binary_search_by_key(&node, |relay| relay.node).ok()?;
        let Ranked { total, .. } = self.relays.remove(place);
        self.counts[worth(total)] -= 1;
        Some(total)
    }

    /// The relays that may lead to `target`, best first. Where two are worth nearly the same, one
    /// target tries this one first and another target that one.
    pub fn order(&self, target: NodeId) -> Vec<Ranked> {
        let (spread, least) = (Spread::new(self.node, target), self.least_ordered());
        let ordered = self.relays.iter().filter(|relay| worth(relay.total) >= least);
        let keyed = ordered.filter(|relay| relay.node != target).map(|relay| {
            let Ranked { node, total } = *relay;
            (Reverse(worth(total)), spread.rank(node), node, total)
        });
        let best = first(keyed.collect(), MAX_ORDERED);
        best.into_iter().map(|(_, _, node, total)| Ranked { node, total }).collect()
    }

    /// The least worth of which an order may hold somebody: [`MAX_ORDERED`] relays and a target are
    /// worth as much or more.
    fn least_ordered(&self) -> usize {
        let mut ordered = 0;
        let enough = |worth: &usize| {
            ordered += self.counts[*worth];
            ordered > MAX_ORDERED
        };
        (0..WORTHS).rev().find(enough).unwrap_or(0)
    }

    /// The first end of a certificate among them; `None` while none has shown one.
    pub const fn until(&self) -> Option<Timestamp> {
        self.until
    }
}

/// What those were worth that are scored anew, and what they are worth now; nobody is among it who is
/// ruled out.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rescored {
    pub before: BTreeMap<NodeId, u16>,
    pub after: BTreeMap<NodeId, u16>,
}

/// Which are worth nearly the same.
fn worth(total: u16) -> usize {
    usize::from(total.min(GREATEST) / NEARLY_THE_SAME)
}

#[cfg(test)]
pub(super) mod tests;
