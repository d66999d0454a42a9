//! What the mesh is told of this node's leases, and where its fence remembers.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use futures_util::{FutureExt as _, future::BoxFuture};
use rap_agent_core::lease::{
    Permit,
    marks::{self, MAX_MARKS, MarkBook},
};
use rap_mesh::{Held, Leases, MAX_FENCED, MarkNotKept};
use rap_proto::{Leased, VpnConnectionId};

use crate::{
    disk::FileDisk,
    ground::{Ground, offload},
};

const _: () = assert!(MAX_MARKS >= MAX_FENCED, "what a fence remembers can be kept");

/// Clones share everything. It outlives the actors that feed it.
#[derive(Clone)]
pub(crate) struct NodeLeases(Arc<Shared>);

struct Shared {
    ground: Arc<dyn Ground>,
    disk: FileDisk,
    /// None when the file is damaged: then nothing is kept, and nothing leased goes on.
    marks: Option<Mutex<MarkBook>>,
    /// Held by whoever writes the file.
    writing: Mutex<()>,
    permits: Mutex<Permits>,
    changes: rap_watch::Sender<()>,
}

type Permits = BTreeMap<VpnConnectionId, Permit>;

impl NodeLeases {
    /// Reads the fence's marks.
    pub(crate) fn open(disk: FileDisk, ground: Arc<dyn Ground>) -> Self {
        let marks = MarkBook::load(&disk)
            .inspect_err(|error| tracing::error!(%error, "no leased channel is served here"))
            .ok()
            .map(Mutex::new);
        let (writing, permits) = (Mutex::default(), Mutex::default());
        let changes = rap_watch::Sender::new(());
        Self(Arc::new(Shared { ground, disk, marks, writing, permits, changes }))
    }

    pub(crate) fn marks(&self) -> Vec<Leased> {
        self.0.marks.as_ref().map(|book| locked(book).all().collect()).unwrap_or_default()
    }

    /// What this node holds from now on.
    pub(crate) fn show(&self, permits: Permits) {
        let mut shown = locked(&self.0.permits);
        let longer = |(connection, permit): (&VpnConnectionId, &Permit)| {
            shown.get(connection).is_some_and(|before| permit.extends(before))
        };
        // A renewal wakes nobody: whoever waits for a lease's end looks again when it comes.
        let only_renewed = permits.len() == shown.len() && permits.iter().all(longer);
        *shown = permits;
        drop(shown);
        if !only_renewed {
            self.0.changes.send_replace(());
        }
    }
}

impl Leases for NodeLeases {
    fn keep(&self, mark: Leased) -> BoxFuture<'_, Result<(), MarkNotKept>> {
        let shared = self.0.clone();
        let written = offload(&*self.0.ground, move || shared.keep(mark));
        async move { written.await.unwrap_or(Err(MarkNotKept)) }.boxed()
    }

    fn held(&self, connection: VpnConnectionId) -> Option<Held> {
        let permit = *locked(&self.0.permits).get(&connection)?;
        let remaining = permit.until.since(self.0.ground.clock().moment());
        Some(Held { generation: permit.generation, remaining })
    }

    fn changes(&self) -> rap_watch::Receiver<()> {
        self.0.changes.subscribe()
    }
}

impl Shared {
    fn keep(&self, mark: Leased) -> Result<(), MarkNotKept> {
        let failed = |error: &dyn std::fmt::Display| {
            tracing::error!(%error, "a mark of the fence was not kept");
            MarkNotKept
        };
        let book = self.marks.as_ref().ok_or(MarkNotKept)?;
        locked(book).want(mark).map_err(|error| failed(&error))?;
        let _turn = locked(&self.writing);
        // Whoever wrote before may have taken this mark along.
        let Some(marks) = locked(book).pending(mark) else { return Ok(()) };
        marks::persist(&mut self.disk.clone(), &marks).map_err(|error| failed(&error))?;
        locked(book).kept(marks);
        Ok(())
    }
}

fn locked<T>(state: &Mutex<T>) -> MutexGuard<'_, T> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::time::Duration;

    use rap_agent_core::disk::{Disk as _, StateFile};
    use rap_proto::{Generation, Moment};

    use super::*;
    use crate::{clock::Clock, ground::ThisMachine};

    const CONNECTION: VpnConnectionId = VpnConnectionId::from_u128(1);

    fn mark(connection: u128, generation: u64) -> Leased {
        let connection = VpnConnectionId::from_u128(connection);
        Leased { connection, generation: Generation::new(generation) }
    }

    fn permit(generation: u64, until: Moment) -> Permits {
        BTreeMap::from([(CONNECTION, Permit { generation: Generation::new(generation), until })])
    }

    #[tokio::test]
    async fn marks_are_on_the_disk_when_they_are_kept_however_many_at_once() {
        let directory = tempfile::tempdir().unwrap();
        let leases =
            NodeLeases::open(FileDisk::open(directory.path()).unwrap(), Arc::new(ThisMachine));
        assert_eq!(leases.marks(), []);
        let kept = (1..=40).map(|n| leases.keep(mark(n, 7)));
        assert!(futures_util::future::join_all(kept).await.into_iter().all(|kept| kept.is_ok()));
        leases.keep(mark(1, 6)).await.unwrap();
        drop(leases);
        let leases =
            NodeLeases::open(FileDisk::open(directory.path()).unwrap(), Arc::new(ThisMachine));
        assert_eq!(leases.marks(), (1..=40).map(|n| mark(n, 7)).collect::<Vec<_>>());
    }

    #[tokio::test]
    async fn a_damaged_file_is_not_overwritten_and_keeps_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let mut disk = FileDisk::open(directory.path()).unwrap();
        disk.replace(StateFile::FenceMarks, b"torn").unwrap();
        let leases = NodeLeases::open(disk.clone(), Arc::new(ThisMachine));
        assert_eq!(leases.keep(mark(1, 7)).await, Err(MarkNotKept));
        assert_eq!(disk.read(StateFile::FenceMarks).unwrap().unwrap(), b"torn");
    }

    #[test]
    fn whoever_waits_is_woken_by_a_loss_and_not_by_a_renewal() {
        let directory = tempfile::tempdir().unwrap();
        let leases =
            NodeLeases::open(FileDisk::open(directory.path()).unwrap(), Arc::new(ThisMachine));
        let now = Clock::MACHINE.moment();
        let (soon, late) = (now + Duration::from_secs(100), now + Duration::from_secs(200));
        let mut changes = leases.changes();
        let mut woken = |permits| {
            leases.show(permits);
            let woken = changes.has_changed().unwrap();
            changes.borrow_and_update();
            woken
        };
        assert!(woken(permit(3, soon)), "granted");
        assert!(!woken(permit(3, late)), "renewed");
        assert!(woken(permit(3, soon)), "shortened");
        assert!(woken(permit(4, late)), "of another generation");
        let held = leases.held(CONNECTION).unwrap();
        assert_eq!(held.generation, Generation::new(4));
        assert!(held.remaining > Duration::from_secs(100));
        assert!(woken(Permits::new()), "lost");
        assert!(leases.held(CONNECTION).is_none());
        leases.show(permit(4, now));
        assert!(leases.held(CONNECTION).unwrap().remaining.is_zero(), "its time is over");
    }
}
