//! A node: its program, and what is seen of it from outside.

use std::{cell::RefCell, fs, net::Ipv4Addr, path::PathBuf, rc::Rc, sync::Arc, time::Duration};

use rap_agent_core::{disk::StateFile, record, snapshot::Floor};
use rap_mesh::Carrier;
use rap_node_agent::{BusChoice, DriverChoice, RunEvent, RunOptions, Shown, StatusReport, run_on};
use rap_simulations::kit::Chance;

use super::{
    bus::SimBus,
    cluster::Cluster,
    disk::Files,
    fabric::CONTROLS,
    ground::{SimGround, Stand},
};

/// What is known of a node from outside.
pub(super) struct Node {
    pub(super) lives: Lives,
    pub(super) state_dir: PathBuf,
    /// The version of the snapshot that it showed last.
    pub(super) version: u64,
    /// What a planted bug brings back.
    pub(super) copy: Option<Files>,
}

/// What a node's program showed of itself, each time that it ran.
pub(super) type Lives = Rc<RefCell<Vec<Shown>>>;

impl Node {
    /// What it shows now.
    pub(super) fn status(&self) -> Option<StatusReport> {
        self.lives.borrow().last().and_then(Shown::status)
    }

    /// The version below which it takes no snapshot, as its disk says.
    pub(super) fn kept(&self) -> Option<u64> {
        let bytes = fs::read(self.state_dir.join(StateFile::Floor.path())).ok()?;
        record::decode::<Floor>(&bytes).ok().map(|floor| floor.version)
    }
}

/// What a node's program is started with, each time.
#[derive(Clone)]
pub(super) struct Parts {
    pub(super) stand: Stand,
    pub(super) cluster: Rc<Cluster>,
    pub(super) chance: Rc<RefCell<Chance>>,
    pub(super) lives: Lives,
}

pub(super) async fn run(parts: Parts) -> turmoil::Result {
    let Parts { stand, cluster, chance, lives } = parts;
    let own = Chance::new(chance.borrow_mut().number(), 0);
    let (place, record, state_dir) = (stand.place, stand.record.clone(), stand.state_dir.clone());
    let bus = SimBus::connect(cluster.node(place), place, &CONTROLS);
    let at = cluster.address(place);
    let options = RunOptions {
        state_dir,
        listen: (Ipv4Addr::UNSPECIFIED, at.port()).into(),
        advertise: vec![at],
        carrier: Some(Carrier::Quic),
        peers: None,
        worker: "/nowhere/rap-stream-worker".into(),
        bus: BusChoice::Local(Arc::new(bus)),
        drain_limit: Duration::ZERO,
        driver: DriverChoice::None,
        metrics: None,
    };
    let show = Shown::default();
    lives.borrow_mut().push(show.clone());
    let tell = |event: RunEvent| record.note(format_args!("node {place}: {event:?}"));
    let ground = Arc::new(SimGround::new(stand, own));
    run_on(ground, options, std::future::pending(), tell, &show).await?;
    Err("nobody asked the agent to stop".into())
}
