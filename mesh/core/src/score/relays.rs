//! The relays of a view in the order in which a path should try them.

use std::{
    borrow::Cow,
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
};

use rap_proto::{Authority, NodeId, OrganizationId, Timestamp};

use super::{
    Candidate, ChannelClass, Explained, GREATEST, Identity, Known, MAX_CANDIDATES, Measured, Parts,
    Placement, Policy, Question, Ranked, RankedChain, Weights, chains, explain, first,
    known::Brief,
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

/// Asks for an organization's relays. Who is one, the view says; `known` adds what was measured.
#[derive(Debug, Clone, Copy)]
pub struct RelayQuestion<'a> {
    pub view: &'a View,
    pub known: &'a Known,
    pub policy: &'a Policy,
    pub organization: OrganizationId,
    pub class: ChannelClass,
    pub purpose: Use,
    pub now: Timestamp,
}

impl RelayQuestion<'_> {
    /// What every relay that nothing rules out is worth.
    pub fn scores(&self) -> Scores {
        let mut scores = Scores::none(self.view.node);
        self.score(&mut scores, |_| true);
        scores
    }

    /// Scores these anew, of whom something else is known by now.
    pub fn rescore(&self, scores: &mut Scores, changed: &BTreeSet<NodeId>) -> Rescored {
        let before = scores.forget(changed);
        let others = scores.relays.len();
        self.score(scores, |node| changed.contains(&node));
        Rescored { before, after: totals(&scores.relays[others..]) }
    }

    /// Adds up for each relay what its kind comes to and what was measured of it: see
    /// [`super::find`], which [`Self::explain`] asks of each by itself and which finds the same.
    fn score(&self, scores: &mut Scores, which: impl Fn(NodeId) -> bool) {
        let (question, weights) = (self.question(), self.policy.weights(self.class));
        let standings = self.standings(&question, weights);
        let unmeasured = weights.weighed(&Parts::of_measured(&Measured::default()));
        let mut known = self.known.walk();
        for (relay, kind) in self.relays().filter(|(relay, _)| which(*relay)) {
            let known = known.find(relay);
            let certificate = self.certificate_until(known.and_then(|it| it.certificate_until));
            let standing = standings[kind].of(known);
            let Some(standing) = standing.filter(|_| !question.is_over(certificate)) else {
                continue;
            };
            let measured = known.map_or(unmeasured, |known| weights.weighed(&known.parts));
            let total = weights.mean(standing + measured);
            scores.add(Ranked { node: relay, total }, certificate);
        }
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
        chains::search(&self.question(), self.policy.weights(self.class), &candidates)
    }

    pub fn explain(&self) -> Vec<Explained> {
        let kinds = self.view.relay_kinds();
        let relays = self.relays();
        let candidates: Vec<_> = relays
            .map(|(relay, kind)| self.with_measured(self.candidate(relay, &kinds[kind])))
            .collect();
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
    relays: Vec<Ranked>,
    /// How many of them are of each worth, the least first.
    counts: [usize; WORTHS],
    until: Option<Timestamp>,
}

impl Scores {
    const fn none(node: NodeId) -> Self {
        Self { node, relays: Vec::new(), counts: [0; WORTHS], until: None }
    }

    fn add(&mut self, relay: Ranked, certificate_until: Option<Timestamp>) {
        self.relays.push(relay);
        self.counts[worth(relay.total)] += 1;
        self.until = self.until.into_iter().chain(certificate_until).min();
    }

    /// Returns what they were worth.
    fn forget(&mut self, gone: &BTreeSet<NodeId>) -> BTreeMap<NodeId, u16> {
        let gone = self.relays.extract_if(.., |relay| gone.contains(&relay.node));
        let gone: Vec<Ranked> = gone.collect();
        gone.iter().for_each(|relay| self.counts[worth(relay.total)] -= 1);
        totals(&gone)
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
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rescored {
    pub before: BTreeMap<NodeId, u16>,
    pub after: BTreeMap<NodeId, u16>,
}

fn totals(relays: &[Ranked]) -> BTreeMap<NodeId, u16> {
    relays.iter().map(|ranked| (ranked.node, ranked.total)).collect()
}

/// Which are worth nearly the same.
fn worth(total: u16) -> usize {
    usize::from(total.min(GREATEST) / NEARLY_THE_SAME)
}

#[cfg(test)]
pub(super) mod tests;
