//! Which congestion controllers bulk on TCP has. Counted below the locks of connections, so without one.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

/// Which controllers connections have that send bulk on TCP. A flow that passes a relay or an entry unread
/// has two of them there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ControllerCounts {
    /// Connections with the one that keeps the queue of a slow path short.
    pub short_queue: u64,
    /// How often one changed to it, and back because its path became fast.
    pub changed: u64,
    pub changed_back: u64,
    /// How often the kernel refused it.
    pub refused: u64,
}

/// Cheap to clone: the same.
#[derive(Clone, Default)]
pub(crate) struct Controllers(Arc<Counts>);

#[derive(Default)]
struct Counts {
    short_queue: AtomicU64,
    changed: AtomicU64,
    changed_back: AtomicU64,
    refused: AtomicU64,
}

/// A connection whose controller keeps the queue of its path short.
pub(crate) struct OnShortQueue(Controllers);

impl Controllers {
    /// A connection changed to the controller that keeps the queue of a slow path short, and has it until
    /// what is returned is dropped.
    pub(crate) fn keeps_queue_short(&self) -> OnShortQueue {
        self.0.changed.fetch_add(1, Ordering::Relaxed);
        self.0.short_queue.fetch_add(1, Ordering::Relaxed);
        OnShortQueue(self.clone())
    }

    pub(crate) fn has_usual_again(&self) {
        self.0.changed_back.fetch_add(1, Ordering::Relaxed);
    }

    /// The kernel refused the other one.
    pub(crate) fn keeps_usual(&self) {
        self.0.refused.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn read(&self) -> ControllerCounts {
        let Counts { short_queue, changed, changed_back, refused } = &*self.0;
        let [short_queue, changed, changed_back, refused] =
            [short_queue, changed, changed_back, refused].map(|it| it.load(Ordering::Relaxed));
        ControllerCounts { short_queue, changed, changed_back, refused }
    }
}

impl Drop for OnShortQueue {
    fn drop(&mut self) {
        self.0.0.short_queue.fetch_sub(1, Ordering::Relaxed);
    }
}
