//! What a simulated agent stands on: turmoil's clock and network, a disk that takes its time, a driver that
//! the resource sees, and a desk that sessions reach.

use std::{
    io,
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_util::{FutureExt as _, future::BoxFuture};
use rap_agent_core::capability::HostFacts;
use rap_mesh::{BulkThreads, Dialer, Network};
use rap_mesh_core::busy::MachineTimes;
use rap_node_agent::{Clock, ControlStream, Driver, DriverChoice, Ground, RunOptions};
use rap_proto::Timestamp;
use rap_simulations::{kit::Chance, level2::Mutation, turn::calendar};
use turmoil::net::TcpStream;

use super::{desk::Desk, disk::SimDisk, driver::SimDriver, fabric::CONTROLS, resource::Resource};
use crate::meshes::{network::SimNetwork, now, record::Record};

/// How long what waits for a disk takes, at most.
const DISK_TAKES: Duration = Duration::from_millis(40);
/// Of 1,000 datagrams of the mesh, how many are lost.
pub(crate) const LOSS_PERMILLE: u64 = 20;

pub(crate) fn today() -> Timestamp {
    calendar(now())
}

/// What a node's ground is made of, each time that it starts.
#[derive(Clone)]
pub(super) struct Stand {
    pub(super) place: usize,
    pub(super) state_dir: PathBuf,
    pub(super) record: Record,
    pub(super) resource: Resource,
    pub(super) desk: Desk,
    pub(super) plant: Option<Mutation>,
}

pub(super) struct SimGround {
    place: usize,
    chance: Mutex<Chance>,
    record: Record,
    network: Arc<SimNetwork>,
    /// Which replica its next connection goes to.
    next: AtomicUsize,
    disk: SimDisk,
    driver: Arc<SimDriver>,
    desk: Desk,
}

impl SimGround {
    pub(super) fn new(stand: Stand, mut chance: Chance) -> Self {
        let Stand { place, state_dir, record, resource, desk, plant } = stand;
        let own = Chance::new(chance.number(), 0);
        let network = SimNetwork::new(own, LOSS_PERMILLE, record.clone()).by(today);
        let driver = SimDriver::new(place, state_dir.clone(), resource, plant);
        Self {
            place,
            chance: Mutex::new(chance),
            record,
            network: Arc::new(network),
            next: AtomicUsize::new(place),
            disk: SimDisk::new(state_dir, plant),
            driver: Arc::new(driver),
            desk,
        }
    }
}

impl Ground for SimGround {
    fn clock(&self) -> Clock {
        Clock { moment: now, now: today }
    }

    fn fill(&self, bits: &mut [u8]) {
        let mut chance = self.chance.lock().unwrap();
        for some in bits.chunks_mut(8) {
            some.copy_from_slice(&chance.number().to_le_bytes()[..some.len()]);
        }
    }

    fn connect(
        &self,
        _: String,
        port: u16,
    ) -> BoxFuture<'static, io::Result<Box<dyn ControlStream>>> {
        let control = CONTROLS[self.next.fetch_add(1, Ordering::Relaxed) % CONTROLS.len()];
        let (record, place) = (self.record.clone(), self.place);
        async move {
            let connected = TcpStream::connect((control, port)).await;
            let how = if connected.is_ok() { "is connected" } else { "does not get through" };
            record.note(format_args!("node {place} {how} to {control}"));
            Ok::<Box<dyn ControlStream>, io::Error>(Box::new(connected?))
        }
        .boxed()
    }

    fn network(&self) -> Arc<dyn Network> {
        self.network.clone()
    }

    fn bulk(&self) -> io::Result<BulkThreads> {
        Ok(BulkThreads::none())
    }

    fn offload(&self, work: Box<dyn FnOnce() + Send>) {
        let takes = self.chance.lock().unwrap().between(Duration::ZERO, DISK_TAKES);
        self.disk.begin(takes, work);
    }

    fn facts(&self, _: &RunOptions, _: bool) -> HostFacts {
        HostFacts { listens: true, reachable: true, cpus: 2, ..HostFacts::default() }
    }

    fn driver(&self, _: &DriverChoice) -> Arc<dyn Driver> {
        self.driver.clone()
    }

    fn dialer(&self, _: Arc<dyn Dialer>) -> Arc<dyn Dialer> {
        Arc::new(self.desk.clone())
    }

    fn times(&self) -> Option<MachineTimes> {
        None
    }
}
