//! What was measured of peers, kept in two shapes: as it was told, and as a decision over a thousand
//! relays walks through it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

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

/// What is known from some moment on.
#[derive(Debug, Clone)]
pub struct Learned {
    pub known: Arc<Known>,
    /// Of whom it is something else than before.
    pub changed: BTreeSet<NodeId>,
}

impl Known {
    /// What is known once these measurements are all there are; `None` when it is the same.
    pub fn learn(&self, candidates: BTreeMap<NodeId, Candidate<'static>>) -> Option<Learned> {
        let other = |(node, candidate): &(&NodeId, &Candidate<'static>)| {
            candidates.get(*node) != Some(*candidate)
        };
        let gone = self.candidates.iter().filter(other).map(|(node, _)| *node);
        let is_new = |node: &&NodeId| !self.candidates.contains_key(*node);
        let come = candidates.keys().filter(is_new).copied();
        let changed: BTreeSet<NodeId> = gone.chain(come).collect();
        if changed.is_empty() {
            return None;
        }
        let kept = self.briefs.iter().filter(|brief| !changed.contains(&brief.node)).cloned();
        let found = changed.iter().filter_map(|node| candidates.get_key_value(node));
        let mut briefs: Vec<Brief> = kept.chain(found.map(Brief::of)).collect();
        // Two rows in order, one behind the other, which a stable sort only merges.
        briefs.sort_by_key(|brief| brief.node);
        Some(Learned { known: Arc::new(Self { candidates, briefs }), changed })
    }

    pub fn get(&self, node: NodeId) -> Option<&Candidate<'static>> {
        self.candidates.get(&node)
    }

    /// What is known of one of them, by itself.
    pub(super) fn brief(&self, node: NodeId) -> Option<&Brief> {
        let found = self.briefs.binary_search_by_key(&node, |brief| brief.node).ok()?;
        Some(&self.briefs[found])
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
