//! Which node a path is led through: what rules a candidate out, and what the others are worth.
//!
//! ```text
//! candidate ── eight constraints ──▶ Excluded(the first that fails)
//!                    └─ none fails ─▶ ten parts of 0 to 1000 ── weights of the class ──▶ total
//! ```
//!
//! A function of its arguments: whoever gives the same candidates gets the same order. Numbers are
//! integers, so the order is the same on every machine; of equal totals the smaller node id wins.

pub mod candidate;
pub mod chains;
pub mod constraint;
pub mod decisions;
pub mod known;
pub mod parts;
pub mod relays;
pub mod renewals;
pub mod weights;

use std::cmp::Reverse;

use rap_proto::NodeId;

pub use candidate::{Candidate, Identity, Measured};
pub use chains::{RankedChain, Way};
pub use constraint::{Constraint, Placement, Question};
pub use decisions::Decisions;
pub use known::{Known, Learned};
pub use parts::Parts;
pub use rap_proto::mesh::{ChannelClass, Part};
pub use weights::{Policy, Weights};

/// The greatest value of a part, and of a total.
pub const GREATEST: u16 = 1_000;
/// The most candidates that one question is about; more are left out, by node id.
pub const MAX_CANDIDATES: usize = 4_096;

/// A candidate that nothing rules out, and what it is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ranked {
    pub node: NodeId,
    /// From 0 to [`GREATEST`].
    pub total: u16,
}

/// Why a candidate has its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finding {
    Excluded(Constraint),
    Scored { total: u16, parts: Parts },
}

/// One candidate with its finding, for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Explained {
    pub node: NodeId,
    pub finding: Finding,
}

/// The best `most` candidates, best first.
pub fn rank<'a, 'b: 'a>(
    question: &Question<'_>,
    weights: &Weights,
    candidates: impl IntoIterator<Item = &'a Candidate<'b>>,
    most: usize,
) -> Vec<Ranked> {
    let admitted = candidates
        .into_iter()
        .take(MAX_CANDIDATES)
        .filter(|candidate| question.excludes(candidate).is_none());
    let keyed = admitted.map(|candidate| {
        let total = weights.total(&Parts::of(question, candidate));
        (Reverse(total), candidate.node)
    });
    let best = first(keyed.collect(), most);
    best.into_iter().map(|(Reverse(total), node)| Ranked { node, total }).collect()
}

/// The `most` smallest, in order. Sorting all of a thousand would cost more than scoring them.
fn first<K: Ord>(mut all: Vec<K>, most: usize) -> Vec<K> {
    if (1..all.len()).contains(&most) {
        all.select_nth_unstable(most - 1);
    }
    all.truncate(most);
    all.sort_unstable();
    all
}

/// Every candidate with its finding: the scored ones as [`rank`] orders them, then the excluded
/// ones by node id.
pub fn explain<'a, 'b: 'a>(
    question: &Question<'_>,
    weights: &Weights,
    candidates: impl IntoIterator<Item = &'a Candidate<'b>>,
) -> Vec<Explained> {
    let mut explained: Vec<Explained> = candidates
        .into_iter()
        .take(MAX_CANDIDATES)
        .map(|candidate| Explained {
            node: candidate.node,
            finding: find(question, weights, candidate),
        })
        .collect();
    explained.sort_unstable_by_key(|one| match one.finding {
        Finding::Scored { total, .. } => (false, Reverse(total), one.node),
        Finding::Excluded(_) => (true, Reverse(0), one.node),
    });
    explained
}

/// What one candidate comes to.
pub fn find(question: &Question<'_>, weights: &Weights, candidate: &Candidate<'_>) -> Finding {
    match question.excludes(candidate) {
        Some(constraint) => Finding::Excluded(constraint),
        None => {
            let parts = Parts::of(question, candidate);
            Finding::Scored { total: weights.total(&parts), parts }
        }
    }
}

#[cfg(test)]
mod tests;
