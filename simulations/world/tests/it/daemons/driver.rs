//! What carries the connection: it sends a packet to the resource as often as it may.

use std::{fs, path::PathBuf, sync::Mutex, time::Duration};

use futures_util::future::BoxFuture;
use rap_agent_core::{disk::StateFile, lease::LeaseFloor, record};
use rap_node_agent::{Driver, Gate};
use rap_proto::{Generation, VpnConnectionId};
use rap_simulations::{kit::Violation, level2::Mutation};
use tokio::{sync::oneshot, time::interval};

use super::{fabric::DURABLE, resource::Resource};

/// How often a packet leaves.
const PACKET_EVERY: Duration = Duration::from_millis(10);

pub(super) struct SimDriver {
    place: usize,
    state_dir: PathBuf,
    resource: Resource,
    plant: Option<Mutation>,
    running: Mutex<Running>,
}

#[derive(Default)]
struct Running {
    /// Dropped, it stops what runs.
    stop: Option<oneshot::Sender<()>>,
    /// Under which it was activated first.
    first: Option<Generation>,
}

impl SimDriver {
    pub(super) fn new(
        place: usize,
        state_dir: PathBuf,
        resource: Resource,
        plant: Option<Mutation>,
    ) -> Self {
        Self { place, state_dir, resource, plant, running: Mutex::default() }
    }

    /// Whoever acts under a generation has written down that it does.
    fn judge_floor(&self, connection: VpnConnectionId, generation: Generation) {
        let kept = fs::read(self.state_dir.join(StateFile::LeaseFloor(connection).path()));
        let kept = kept.ok().and_then(|bytes| record::decode::<LeaseFloor>(&bytes).ok());
        let kept = kept.map(|floor| floor.generation);
        if kept.is_none_or(|kept| kept < generation) {
            let place = self.place;
            let detail = format!("node {place} acts under {generation}, and has kept {kept:?}");
            self.resource.judge(Err(Violation::new(DURABLE, detail)));
        }
    }
}

impl Driver for SimDriver {
    fn activate(
        &self,
        connection: VpnConnectionId,
        generation: Generation,
        gate: Gate,
    ) -> BoxFuture<'static, bool> {
        self.judge_floor(connection, generation);
        if self.plant == Some(Mutation::ActorPanics) && self.resource.is_first_panic() {
            panic!("planted: an actor panics");
        }
        let (stop, mut stopped) = oneshot::channel();
        let mut running = self.running.lock().unwrap();
        running.stop = Some(stop);
        let first = *running.first.get_or_insert(generation);
        let shown =
            if self.plant == Some(Mutation::OldGenerationSent) { first } else { generation };
        let goes_on = self.plant == Some(Mutation::DriverGoesOn);
        let (place, resource) = (self.place, self.resource.clone());
        tokio::spawn(async move {
            let mut ticks = interval(PACKET_EVERY);
            loop {
                tokio::select! {
                    biased;
                    _ = &mut stopped, if !goes_on => return,
                    _ = ticks.tick() => {}
                }
                if goes_on || gate.may_forward(generation) {
                    resource.receive(place, shown);
                }
            }
        });
        Box::pin(std::future::ready(true))
    }

    fn deactivate(&self, _: VpnConnectionId) -> BoxFuture<'static, ()> {
        drop(self.running.lock().unwrap().stop.take());
        Box::pin(std::future::ready(()))
    }

    fn probe(&self, _: VpnConnectionId) -> BoxFuture<'static, bool> {
        Box::pin(std::future::ready(true))
    }
}
