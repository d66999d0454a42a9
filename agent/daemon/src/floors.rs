//! The floors of the leases on the disk.
//!
//! Of one connection's, one write or read is under way at a time, and whoever comes later finds what the
//! one before left: two at once would share the file that is written beside the old one, and one
//! that had looked first and wrote last would lower what the other one had raised.

use std::{array, sync::Arc};

use rap_agent_core::{
    disk::{Disk, DiskError},
    lease::floor::{self, LoadError},
};
use rap_proto::{Generation, VpnConnectionId};
use tokio::sync::{Mutex, Semaphore};

use crate::ground::{Ground, Lost, offload};

/// The most reads and writes that wait or are under way; more are refused.
pub(crate) const MAX_FLOOR_TURNS: usize = 1_024;
/// How many are under way at the most. Connections that share one wait for each other.
const LINES: usize = 64;

/// Clones share everything. It outlives the actor that holds the leases, and so may a write.
#[derive(Clone)]
pub(crate) struct Floors<D>(Arc<Shared<D>>);

struct Shared<D> {
    ground: Arc<dyn Ground>,
    disk: D,
    room: Arc<Semaphore>,
    lines: [Arc<Mutex<()>>; LINES],
}

/// Why nothing was read or written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoTurn {
    #[error("{MAX_FLOOR_TURNS} others are waiting for the lease floors")]
    Full,
    #[error("a lease floor was not looked at: {0}")]
    Died(#[from] Lost),
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum LoadFloorError {
    #[error(transparent)]
    Turn(#[from] NoTurn),
    #[error(transparent)]
    Load(#[from] LoadError),
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum PersistFloorError {
    #[error(transparent)]
    Turn(#[from] NoTurn),
    #[error(transparent)]
    Disk(#[from] DiskError),
}

impl<D: Disk + Clone + Send + Sync + 'static> Floors<D> {
    pub(crate) fn new(disk: D, ground: Arc<dyn Ground>) -> Self {
        let lines = array::from_fn(|_| Arc::default());
        let room = Arc::new(Semaphore::new(MAX_FLOOR_TURNS));
        Self(Arc::new(Shared { ground, disk, room, lines }))
    }

    /// See [`floor::load`].
    pub(crate) async fn load(
        self,
        connection: VpnConnectionId,
    ) -> Result<Generation, LoadFloorError> {
        Ok(self.in_turn(connection, move |disk| floor::load(&*disk, connection)).await??)
    }

    /// See [`floor::persist`]: a write that comes to its turn behind a newer one changes nothing.
    pub(crate) async fn persist(
        self,
        connection: VpnConnectionId,
        generation: Generation,
    ) -> Result<(), PersistFloorError> {
        let write = move |disk: &mut D| floor::persist(disk, connection, generation);
        Ok(self.in_turn(connection, write).await??)
    }

    async fn in_turn<T: Send + 'static>(
        &self,
        connection: VpnConnectionId,
        work: impl FnOnce(&mut D) -> T + Send + 'static,
    ) -> Result<T, NoTurn> {
        let place = Arc::clone(&self.0.room).try_acquire_owned().map_err(|_| NoTurn::Full)?;
        let turn = self.0.line(connection).lock_owned().await;
        let mut disk = self.0.disk.clone();
        // The turn goes along: whoever asked may be gone before the disk is done.
        let work = move || {
            let done = work(&mut disk);
            drop((turn, place));
            done
        };
        Ok(offload(&*self.0.ground, work).await?)
    }
}

impl<D> Shared<D> {
    fn line(&self, connection: VpnConnectionId) -> Arc<Mutex<()>> {
        // The last byte of an id is random.
        let [.., last] = connection.uuid().into_bytes();
        Arc::clone(&self.lines[usize::from(last) % LINES])
    }
}

#[cfg(test)]
mod tests;
