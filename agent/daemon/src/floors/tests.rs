#![allow(clippy::unwrap_used)]

use std::{
    pin::pin,
    sync::{
        Mutex as StdMutex,
        atomic::{AtomicUsize, Ordering},
        mpsc::{Receiver, Sender, channel},
    },
};

use futures_util::{FutureExt as _, future::join_all};
use rap_agent_core::disk::{SimDisk, StateFile};
use rap_proto::Digest;

use super::*;
use crate::ground::ThisMachine;

const CONNECTION: VpnConnectionId = VpnConnectionId::from_u128(1);
const OTHER: VpnConnectionId = VpnConnectionId::from_u128(2);

/// A disk that stands still in the first write of [`CONNECTION`] until it is let go.
struct StuckDisk {
    files: Arc<StdMutex<SimDisk>>,
    go: Arc<StdMutex<Option<Receiver<()>>>>,
    /// Each turn takes a clone.
    turns: Arc<AtomicUsize>,
    writes: Arc<AtomicUsize>,
}

impl StuckDisk {
    fn floors() -> (Floors<Self>, Sender<()>) {
        let (let_go, go) = channel();
        let disk = Self {
            files: Arc::default(),
            go: Arc::new(StdMutex::new(Some(go))),
            turns: Arc::default(),
            writes: Arc::default(),
        };
        (Floors::new(disk, Arc::new(ThisMachine)), let_go)
    }
}

impl Clone for StuckDisk {
    fn clone(&self) -> Self {
        self.turns.fetch_add(1, Ordering::SeqCst);
        let (files, go) = (self.files.clone(), self.go.clone());
        Self { files, go, turns: self.turns.clone(), writes: self.writes.clone() }
    }
}

impl Disk for StuckDisk {
    fn read(&self, file: StateFile) -> Result<Option<Vec<u8>>, DiskError> {
        self.files.lock().unwrap().read(file)
    }

    fn replace(&mut self, file: StateFile, bytes: &[u8]) -> Result<(), DiskError> {
        if file == StateFile::LeaseFloor(CONNECTION)
            && let Some(go) = self.go.lock().unwrap().take()
        {
            go.recv().unwrap();
        }
        self.writes.fetch_add(1, Ordering::SeqCst);
        self.files.lock().unwrap().replace(file, bytes)
    }

    fn append(&mut self, _: StateFile, _: &[u8]) -> Result<(), DiskError> {
        unreachable!("a floor is replaced")
    }

    fn remove(&mut self, _: StateFile) -> Result<(), DiskError> {
        unreachable!("a floor stays")
    }

    fn sections(&self) -> Result<Vec<Digest>, DiskError> {
        unreachable!("nobody looks for sections")
    }
}

fn generation(number: u64) -> Generation {
    Generation::new(number)
}

#[tokio::test]
async fn what_one_connection_asks_is_done_one_after_the_other_and_the_newest_floor_stays() {
    let (floors, let_go) = StuckDisk::floors();
    let turns = || floors.0.disk.turns.load(Ordering::SeqCst);
    let mut older = Box::pin(floors.clone().persist(CONNECTION, generation(5)));
    let mut newer = pin!(floors.clone().persist(CONNECTION, generation(6)));
    let mut late = pin!(floors.clone().persist(CONNECTION, generation(4)));
    let mut read = pin!(floors.clone().load(CONNECTION));
    assert!(older.as_mut().now_or_never().is_none());
    assert!(newer.as_mut().now_or_never().is_none());
    assert!(late.as_mut().now_or_never().is_none());
    assert!(read.as_mut().now_or_never().is_none());
    assert_eq!(turns(), 1, "the first stands still, and the others wait");
    floors.clone().persist(OTHER, generation(1)).await.unwrap();
    assert_eq!(turns(), 2, "another connection waits for nobody");
    // As when the actor dies: the disk goes on.
    drop(older);
    assert!(newer.as_mut().now_or_never().is_none());
    assert_eq!(turns(), 2, "the turn is the disk's until it is done");
    let_go.send(()).unwrap();
    newer.await.unwrap();
    late.await.unwrap();
    assert_eq!(read.await.unwrap(), generation(6));
    assert_eq!(floors.0.disk.writes.load(Ordering::SeqCst), 3, "4 is below 6");
}

#[tokio::test]
async fn more_than_may_wait_are_refused_until_there_is_room() {
    let (floors, let_go) = StuckDisk::floors();
    let write = |number| Box::pin(floors.clone().persist(CONNECTION, generation(number)));
    let mut waiting: Vec<_> = (1..).take(MAX_FLOOR_TURNS).map(write).collect();
    assert!(waiting.iter_mut().all(|write| write.now_or_never().is_none()));
    let refused = write(9_999).await.unwrap_err();
    assert!(matches!(refused, PersistFloorError::Turn(NoTurn::Full)), "{refused}");
    // Whoever stops waiting leaves room.
    drop(waiting.pop());
    let mut taken = write(9_999);
    assert!((&mut taken).now_or_never().is_none());
    let_go.send(()).unwrap();
    join_all(waiting).await.into_iter().for_each(Result::unwrap);
    taken.await.unwrap();
    assert_eq!(floors.load(CONNECTION).await.unwrap(), generation(9_999));
}
