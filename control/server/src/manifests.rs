//! Which snapshots nodes were served lately, and which ones they said that they applied, so that a
//! replay can be compared with them. Losing it costs a comparison.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
};

use rap_proto::{Digest, NodeId};

/// The most snapshots that are remembered of each node and kind: what one node says pushes out nothing of
/// another's.
pub(crate) const MAX_MANIFESTS: usize = 32;

#[derive(Debug)]
pub(crate) struct Manifests {
    /// What this replica served.
    pub(crate) served: Digests,
    /// What nodes said, to every replica that heard them, that they act on.
    pub(crate) applied: Digests,
}

impl Manifests {
    /// Remembers at most `limit` of each.
    pub(crate) fn new(limit: usize) -> Self {
        Self { served: Digests::new(limit), applied: Digests::new(limit) }
    }
}

/// The SHA-256 of manifests, by node and version.
#[derive(Debug)]
pub(crate) struct Digests {
    limit: usize,
    known: Mutex<BTreeMap<NodeId, Known>>,
}

/// Of one node, the longest known first.
type Known = VecDeque<(u64, Digest)>;

impl Digests {
    /// Of each node the one that is known for the longest is forgotten first.
    fn new(limit: usize) -> Self {
        Self { limit, known: Mutex::default() }
    }

    /// Of one version the last word counts: there must be no two.
    pub(crate) fn remember(&self, node: NodeId, version: u64, manifest: Digest) {
        let mut known = self.lock();
        let known = known.entry(node).or_default();
        if let Some((_, before)) = known.iter_mut().find(|(other, _)| *other == version) {
            *before = manifest;
            return;
        }
        if known.len() >= self.limit {
            known.pop_front();
        }
        known.push_back((version, manifest));
    }

    pub(crate) fn get(&self, node: NodeId, version: u64) -> Option<Digest> {
        let known = self.lock();
        let mut known = known.get(&node)?.iter();
        known.find(|(other, _)| *other == version).map(|(_, manifest)| *manifest)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<NodeId, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_snapshots_are_remembered_of_each_node_and_the_first_is_forgotten_first() {
        let served = Digests::new(2);
        let (node, neighbour) = (NodeId::from_u128(1), NodeId::from_u128(2));
        let [one, other] = [b"one", b"two"].map(|manifest| Digest::of(manifest));
        served.remember(neighbour, 1, one);
        served.remember(node, 1, one);
        served.remember(node, 2, one);
        served.remember(node, 1, other);
        assert_eq!((served.get(node, 1), served.get(node, 2)), (Some(other), Some(one)));
        served.remember(node, 3, one);
        assert_eq!((served.get(node, 1), served.get(node, 3)), (None, Some(one)));
        assert_eq!((served.get(neighbour, 1), served.get(neighbour, 3)), (Some(one), None));
    }
}
