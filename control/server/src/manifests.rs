//! Which snapshots nodes were served lately, and which ones they said that they applied, so that a
//! replay can be compared with them. Losing it costs a comparison.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
};

use rap_proto::{Digest, NodeId};

/// The most snapshots that are remembered of each kind.
pub(crate) const MAX_MANIFESTS: usize = 50_000;

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
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    digests: BTreeMap<(NodeId, u64), Digest>,
    /// The longest known first.
    order: VecDeque<(NodeId, u64)>,
}

impl Digests {
    /// The one that is known for the longest is forgotten first.
    fn new(limit: usize) -> Self {
        Self { limit, known: Mutex::default() }
    }

    /// Of one version the last word counts: there must be no two.
    pub(crate) fn remember(&self, node: NodeId, version: u64, manifest: Digest) {
        let mut known = self.lock();
        if known.digests.insert((node, version), manifest).is_some() {
            return;
        }
        known.order.push_back((node, version));
        if known.order.len() > self.limit {
            let first = known.order.pop_front();
            first.and_then(|first| known.digests.remove(&first));
        }
    }

    pub(crate) fn get(&self, node: NodeId, version: u64) -> Option<Digest> {
        self.lock().digests.get(&(node, version)).copied()
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_snapshots_are_remembered_and_the_first_is_forgotten_first() {
        let served = Digests::new(2);
        let node = NodeId::from_u128(1);
        let [one, other] = [b"one", b"two"].map(|manifest| Digest::of(manifest));
        served.remember(node, 1, one);
        served.remember(node, 2, one);
        served.remember(node, 1, other);
        assert_eq!((served.get(node, 1), served.get(node, 2)), (Some(other), Some(one)));
        served.remember(node, 3, one);
        assert_eq!((served.get(node, 1), served.get(node, 3)), (None, Some(one)));
        assert_eq!(served.get(NodeId::from_u128(2), 3), None);
    }
}
