//! What all lasting flows of one of a node's sides keep together.

use std::sync::{
    Mutex,
    atomic::{AtomicUsize, Ordering},
};

use rap_mesh_core::resume::{Budget, MAX_KEPT_BYTES, window};

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

    /// Takes the place of a flow without a connection. False when there is none.
    pub(super) fn take(&self, bytes: usize) -> bool {
        locked(&self.detached).take(bytes)
    }

    pub(super) fn give(&self, bytes: usize) {
        locked(&self.detached).give(bytes);
    }

    /// So much one flow may keep before its source has to wait.
    pub(super) fn window(&self) -> usize {
        window(self.kept.load(Ordering::Relaxed), self.most)
    }

    /// A flow keeps `now` and not `before`.
    pub(super) fn count(&self, before: usize, now: usize) {
        if now >= before {
            self.kept.fetch_add(now - before, Ordering::Relaxed);
        } else {
            self.kept.fetch_sub(before - now, Ordering::Relaxed);
        }
    }
}
