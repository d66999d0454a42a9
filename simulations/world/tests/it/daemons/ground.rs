//! What a simulated agent stands on: turmoil's clock and network, and a driver that the resource sees.

use std::{
    io,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_util::{FutureExt as _, future::BoxFuture};
use rap_agent_core::capability::HostFacts;
use rap_mesh::{BulkThreads, Network};
use rap_mesh_core::busy::MachineTimes;
use rap_node_agent::{Clock, ControlStream, Driver, DriverChoice, Gate, Ground, RunOptions};
use rap_proto::{Generation, Timestamp, VpnConnectionId};
use rap_simulations::{kit::Chance, turn::calendar};
use tokio::{sync::oneshot, time::interval};
use turmoil::net::TcpStream;

use super::{CONTROLS, resource::Resource};
use crate::meshes::{network::SimNetwork, now, record::Record};

/// How often a packet leaves.
const PACKET_EVERY: Duration = Duration::from_millis(10);

pub(super) fn today() -> Timestamp {
    calendar(now())
}

pub(super) struct SimGround {
    place: usize,
    chance: Mutex<Chance>,
    record: Record,
    network: Arc<SimNetwork>,
    /// Which replica its next connection goes to.
    next: AtomicUsize,
    driver: Arc<SimDriver>,
}

impl SimGround {
    pub(super) fn new(
        place: usize,
        mut chance: Chance,
        loss_permille: u64,
        record: Record,
        resource: Resource,
    ) -> Self {
        let own = Chance::new(chance.number(), 0);
        let network = SimNetwork::new(own, loss_permille, record.clone()).by(today);
        let driver = SimDriver { place, resource, stop: Mutex::default() };
        Self {
            place,
            chance: Mutex::new(chance),
            record,
            network: Arc::new(network),
            next: AtomicUsize::new(place),
            driver: Arc::new(driver),
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

    /// At once: a simulated host has one thread.
    fn offload(&self, work: Box<dyn FnOnce() + Send>) {
        work();
    }

    fn facts(&self, _: &RunOptions, _: bool) -> HostFacts {
        HostFacts { listens: true, reachable: true, cpus: 2, ..HostFacts::default() }
    }

    fn driver(&self, _: &DriverChoice) -> Arc<dyn Driver> {
        self.driver.clone()
    }

    fn times(&self) -> Option<MachineTimes> {
        None
    }
}

/// Sends a packet to the resource as often as it may.
struct SimDriver {
    place: usize,
    resource: Resource,
    /// Dropped, it stops what runs.
    stop: Mutex<Option<oneshot::Sender<()>>>,
}

impl Driver for SimDriver {
    fn activate(
        &self,
        _: VpnConnectionId,
        generation: Generation,
        gate: Gate,
    ) -> BoxFuture<'static, bool> {
        let (stop, mut stopped) = oneshot::channel();
        *self.stop.lock().unwrap() = Some(stop);
        let (place, resource) = (self.place, self.resource.clone());
        tokio::spawn(async move {
            let mut ticks = interval(PACKET_EVERY);
            loop {
                tokio::select! {
                    biased;
                    _ = &mut stopped => return,
                    _ = ticks.tick() => {}
                }
                if gate.may_forward(generation) {
                    resource.receive(place, generation);
                }
            }
        });
        Box::pin(std::future::ready(true))
    }

    fn deactivate(&self, _: VpnConnectionId) -> BoxFuture<'static, ()> {
        drop(self.stop.lock().unwrap().take());
        Box::pin(std::future::ready(()))
    }

    fn probe(&self, _: VpnConnectionId) -> BoxFuture<'static, bool> {
        Box::pin(std::future::ready(true))
    }
}
