//! Which snapshots this server served lately, so that a replay can be compared with them. Losing it
//! costs a comparison.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
};

use rap_proto::{Digest, NodeId};

/// The most snapshots that are remembered.
pub(crate) const MAX_SERVED: usize = 50_000;

#[derive(Debug)]
pub(crate) struct Served {
    limit: usize,
    snapshots: Mutex<Snapshots>,
}

#[derive(Debug, Default)]
struct Snapshots {
    /// The SHA-256 of the manifest, by node and version.
    digests: BTreeMap<(NodeId, u64), Digest>,
    /// The longest known first.
    order: VecDeque<(NodeId, u64)>,
}

impl Served {
    /// Remembers at most `limit` snapshots; the one that was served first is forgotten first.
    pub(crate) fn new(limit: usize) -> Self {
        Self { limit, snapshots: Mutex::default() }
    }

    /// Of one version the first one counts: there must be no other.
    pub(crate) fn remember(&self, node: NodeId, version: u64, manifest: Digest) {
        let mut snapshots = self.lock();
        if snapshots.digests.contains_key(&(node, version)) {
            return;
        }
        snapshots.digests.insert((node, version), manifest);
        snapshots.order.push_back((node, version));
        if snapshots.order.len() > self.limit {
            let first = snapshots.order.pop_front();
            first.and_then(|first| snapshots.digests.remove(&first));
        }
    }

    pub(crate) fn get(&self, node: NodeId, version: u64) -> Option<Digest> {
        self.lock().digests.get(&(node, version)).copied()
    }

    fn lock(&self) -> MutexGuard<'_, Snapshots> {
        self.snapshots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_snapshots_are_remembered_and_the_first_is_forgotten_first() {
        let served = Served::new(2);
        let node = NodeId::from_u128(1);
        let [one, other] = [b"one", b"two"].map(|manifest| Digest::of(manifest));
        served.remember(node, 1, one);
        served.remember(node, 2, one);
        served.remember(node, 1, other);
        assert_eq!((served.get(node, 1), served.get(node, 2)), (Some(one), Some(one)));
        served.remember(node, 3, one);
        assert_eq!((served.get(node, 1), served.get(node, 3)), (None, Some(one)));
        assert_eq!(served.get(NodeId::from_u128(2), 3), None);
    }
}
