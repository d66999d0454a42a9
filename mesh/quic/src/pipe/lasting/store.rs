//! What all lasting flows of one of a node's sides keep together.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering},
};

use rap_mesh_core::resume::{Budget, MAX_KEPT_BYTES, ahead, window};
use rap_proto::OrganizationId;

use crate::mesh::locked;

pub(crate) struct Store {
    detached: Mutex<Budget>,
    /// Bytes of all flows, with a connection or without.
    kept: AtomicUsize,
    most: usize,
}

impl Default for Store {
    fn default() -> Self {
        Self::new(Budget::default(), MAX_KEPT_BYTES)
    }
}

impl Store {
    /// `most` are the bytes beyond which each flow may keep less.
    pub(crate) fn new(detached: Budget, most: usize) -> Self {
        Self { detached: Mutex::new(detached), kept: AtomicUsize::new(0), most }
    }

    /// What a flow of this organization keeps is counted with its others.
    pub(crate) fn of(self: &Arc<Self>, organization: OrganizationId) -> OfStore {
        OfStore { store: self.clone(), organization }
    }

    /// The same at a client, which is of one organization.
    pub(crate) fn of_one(self: &Arc<Self>) -> OfStore {
        self.of(OrganizationId::from_u128(0))
    }
}

/// A store, for the flows of one organization.
pub(crate) struct OfStore {
    store: Arc<Store>,
    organization: OrganizationId,
}

impl OfStore {
    /// Takes the place of a flow without a connection. False when there is none.
    pub(super) fn take(&self, bytes: usize) -> bool {
        locked(&self.store.detached).take(self.organization, bytes)
    }

    pub(super) fn give(&self, bytes: usize) {
        locked(&self.store.detached).give(self.organization, bytes);
    }

    /// So much one flow may keep before its source has to wait.
    pub(super) fn window(&self) -> usize {
        window(self.store.kept.load(Ordering::Relaxed), self.store.most)
    }

    /// So much of what nobody asked for yet may wait of one flow. Nothing where all keep twice what they should:
    /// then the windows of the connections are the bound.
    pub(super) fn ahead(&self) -> usize {
        let (kept, most) = (self.store.kept.load(Ordering::Relaxed), self.store.most);
        if kept < 2 * most { ahead(window(kept, most)) } else { 0 }
    }

    /// A flow keeps `now` and not `before`.
    pub(super) fn count(&self, before: usize, now: usize) {
        if now >= before {
            self.store.kept.fetch_add(now - before, Ordering::Relaxed);
        } else {
            self.store.kept.fetch_sub(before - now, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use rap_mesh_core::resume::{MAX_REPLAY_BYTES, NARROW_WINDOW};

    use super::*;

    #[test]
    fn less_is_received_ahead_where_all_keep_too_much_and_nothing_where_they_keep_twice_that() {
        const MOST: usize = 1000;
        let of = Arc::new(Store::new(Budget::default(), MOST)).of_one();
        let mut before = 0;
        for (kept, ahead_of_each) in [
            (MOST - 1, ahead(MAX_REPLAY_BYTES)),
            (MOST, ahead(NARROW_WINDOW)),
            (2 * MOST - 1, ahead(NARROW_WINDOW)),
            (2 * MOST, 0),
            (0, ahead(MAX_REPLAY_BYTES)),
        ] {
            of.count(before, kept);
            assert_eq!(of.ahead(), ahead_of_each, "{kept} are kept");
            before = kept;
        }
    }
}
