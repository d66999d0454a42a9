//! What a node of the tests remembers and holds of leases.

use std::{
    collections::BTreeMap,
    sync::Mutex,
    time::{Duration, Instant},
};

use futures_util::{FutureExt as _, future::BoxFuture};
use rap_mesh::{Held, Leases, MarkNotKept};
use rap_proto::{Generation, Leased, VpnConnectionId};

/// A memory that outlives its node, and leases that a test gives and takes.
pub(crate) struct TestLeases {
    marks: Mutex<BTreeMap<VpnConnectionId, Generation>>,
    held: Mutex<BTreeMap<VpnConnectionId, (Generation, Instant)>>,
    changes: rap_watch::Sender<()>,
    memory: Mutex<Memory>,
}

/// What becomes of what shall be remembered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Memory {
    #[default]
    Works,
    Broken,
    /// It never answers.
    Stuck,
}

impl Default for TestLeases {
    fn default() -> Self {
        let changes = rap_watch::Sender::new(());
        Self { marks: Mutex::default(), held: Mutex::default(), changes, memory: Mutex::default() }
    }
}

impl TestLeases {
    pub(crate) fn marks(&self) -> Vec<Leased> {
        let marks = self.marks.lock().unwrap();
        let mark = |(connection, generation): (&_, &_)| Leased {
            connection: *connection,
            generation: *generation,
        };
        marks.iter().map(mark).collect()
    }

    /// From now on the node holds this lease, for so long.
    pub(crate) fn hold(&self, leased: Leased, lasts: Duration) {
        let until = Instant::now() + lasts;
        self.held.lock().unwrap().insert(leased.connection, (leased.generation, until));
        self.changes.send_replace(());
    }

    pub(crate) fn lose(&self, connection: VpnConnectionId) {
        self.held.lock().unwrap().remove(&connection);
        self.changes.send_replace(());
    }

    pub(crate) fn set_memory(&self, memory: Memory) {
        *self.memory.lock().unwrap() = memory;
    }
}

impl Leases for TestLeases {
    fn keep(&self, mark: Leased) -> BoxFuture<'_, Result<(), MarkNotKept>> {
        async move {
            let memory = *self.memory.lock().unwrap();
            match memory {
                Memory::Works => {}
                Memory::Broken => return Err(MarkNotKept),
                Memory::Stuck => return std::future::pending().await,
            }
            let mut marks = self.marks.lock().unwrap();
            let kept = marks.entry(mark.connection).or_default();
            *kept = mark.generation.max(*kept);
            Ok(())
        }
        .boxed()
    }

    fn held(&self, connection: VpnConnectionId) -> Option<Held> {
        let (generation, until) = *self.held.lock().unwrap().get(&connection)?;
        Some(Held { generation, remaining: until.saturating_duration_since(Instant::now()) })
    }

    fn changes(&self) -> rap_watch::Receiver<()> {
        self.changes.subscribe()
    }
}
