//! What was measured of peers, kept in two shapes: as it was told, and as a decision over a thousand
//! relays walks through it.

use std::collections::{BTreeMap, BTreeSet};

use rap_proto::{NodeId, Timestamp};

use super::{Candidate, Identity, Parts};

/// INVARIANT: `briefs` is of `candidates`, by id.
#[derive(Debug, Clone, Default)]
pub struct Known {
    candidates: BTreeMap<NodeId, Candidate<'static>>,
    briefs: Vec<Brief>,
}

/// All that a decision asks of one of them. A quarter of its candidate, and no part is worked out
/// twice: what was measured is worth the same whatever the path is for.
#[derive(Debug, Clone)]
pub(super) struct Brief {
    node: NodeId,
    pub(super) is_proven: bool,
    pub(super) certificate_until: Option<Timestamp>,
    /// Those that measurements make.
    pub(super) parts: Parts,
}

/// A walk through them in the order of their ids.
pub(super) struct Walk<'k>(&'k [Brief]);

impl From<BTreeMap<NodeId, Candidate<'static>>> for Known {
    fn from(candidates: BTreeMap<NodeId, Candidate<'static>>) -> Self {
        let briefs = candidates.iter().map(Brief::of).collect();
        Self { candidates, briefs }
    }
}

impl Known {
    /// Takes what is known from now on. Returns of whom it is something else than before.
    pub fn learn(&mut self, candidates: BTreeMap<NodeId, Candidate<'static>>) -> BTreeSet<NodeId> {
        let before = std::mem::replace(&mut self.candidates, candidates);
        let other = |(node, candidate): &(&NodeId, &Candidate<'static>)| {
            self.candidates.get(*node) != Some(*candidate)
        };
        let gone = before.iter().filter(other).map(|(node, _)| *node);
        let come = self.candidates.keys().filter(|node| !before.contains_key(*node)).copied();
        let changed: BTreeSet<NodeId> = gone.chain(come).collect();
        if !changed.is_empty() {
            self.briefs.retain(|brief| !changed.contains(&brief.node));
            let found = changed.iter().filter_map(|node| self.candidates.get_key_value(node));
            self.briefs.extend(found.map(Brief::of));
            // Two rows in order, one behind the other, which a stable sort only merges.
            self.briefs.sort_by_key(|brief| brief.node);
        }
        changed
    }

    pub fn get(&self, node: NodeId) -> Option<&Candidate<'static>> {
        self.candidates.get(&node)
    }

    pub(super) fn walk(&self) -> Walk<'_> {
        Walk(&self.briefs)
    }
}

impl Brief {
    fn of((node, candidate): (&NodeId, &Candidate<'static>)) -> Self {
        Self {
            node: *node,
            is_proven: candidate.identity == Identity::Proven,
            certificate_until: candidate.certificate_until,
            parts: Parts::of_measured(&candidate.measured),
        }
    }
}

impl<'k> Walk<'k> {
    /// What is known of a node that comes after all that were asked for before.
    pub(super) fn find(&mut self, node: NodeId) -> Option<&'k Brief> {
        while let [next, others @ ..] = self.0
            && next.node <= node
        {
            self.0 = others;
            if next.node == node {
                return Some(next);
            }
        }
        None
    }
}
