//! Whole agents and three replicas of control on one simulated network: what breaks there, and what must
//! hold of the agents themselves.

use std::{cell::RefCell, rc::Rc, time::Duration};

use rap_node_agent::StatusReport;
use rap_proto::Moment;
use rap_simulations::{
    cast::Host,
    kit::{Chance, Coverage, Violation, coverage::FAULTS},
    level2::Mutation,
};
use tempfile::TempDir;

use super::{
    cluster::{Cluster, state_dir},
    control::{self, Plane},
    desk::Desk,
    disk::SimDisk,
    ground::Stand,
    node::{self, Lives, Node, Parts},
    resource::Resource,
};
use crate::{level2::Options, meshes::record::Record};

pub(crate) const CONTROLS: [&str; 3] = ["control-0", "control-1", "control-2"];
/// How often a replica acts by itself, and how often it changes a policy.
pub(super) const TICK: Duration = Duration::from_millis(20);
pub(super) const RULES_CHANGE_EVERY: Duration = Duration::from_secs(6);
/// How often it is looked what the nodes do.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// How late a message may be; every second seed has a slow network.
const LATENCIES: [Duration; 2] = [Duration::from_millis(40), Duration::from_millis(200)];
/// When a node's state directory is copied that a planted bug brings back.
const COPIED_AT: Duration = Duration::from_secs(20);

/// What a node acts on is on its disk.
pub(crate) const DURABLE: &str = "durable";
/// No actor panics.
pub(crate) const ACTORS: &str = "actors";
/// In the end every node has peers, and its newest snapshot.
pub(crate) const CONVERGENCE: &str = "convergence";
/// The heading of what nodes did.
pub(crate) const NODES: &str = "nodes";

pub(crate) struct Fabric {
    pub(crate) sim: turmoil::Sim<'static>,
    pub(crate) cluster: Rc<Cluster>,
    pub(crate) plane: Rc<RefCell<Plane>>,
    pub(super) resource: Resource,
    pub(crate) desk: Desk,
    pub(crate) chance: Chance,
    pub(crate) coverage: Coverage,
    pub(crate) record: Record,
    nodes: Vec<Node>,
    /// What comes right again, and when.
    repairs: Vec<(Duration, Repair)>,
    looked: Duration,
    plant: Option<Mutation>,
    directory: TempDir,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Repair {
    Heal(String, String),
    Bounce(String),
}

/// The longest that a message takes, which the seed says.
pub(crate) fn latency(seed: u64) -> Duration {
    if seed.is_multiple_of(2) { LATENCIES[0] } else { LATENCIES[1] }
}

/// The hosts' network and clock.
fn network(seed: u64, lasts: Duration) -> turmoil::Sim<'static> {
    turmoil::Builder::new()
        .rng_seed(seed)
        .enable_tokio_io()
        .tick_duration(Duration::from_millis(5))
        .simulation_duration(lasts + Duration::from_secs(60))
        .min_message_latency(Duration::from_millis(1))
        .max_message_latency(latency(seed))
        .udp_capacity(4_096)
        .tcp_capacity(4_096)
        .build()
}

impl Fabric {
    /// Of these hosts, for as long; policies change until `rules_stand`.
    pub(crate) fn found(
        options: Options,
        hosts: Vec<Host>,
        record: &Record,
        (rules_stand, lasts): (Duration, Duration),
    ) -> Self {
        let Options { seed, plant } = options;
        let directory = tempfile::tempdir().unwrap();
        let mut sim = network(seed, lasts);
        let addresses = hosts.iter().map(|host| sim.lookup(host.name.as_str())).collect();
        let cluster = Rc::new(Cluster::new(hosts, addresses));
        let rules_stand = Moment::default() + rules_stand;
        let plane = Plane::found(seed, &cluster, record.clone(), rules_stand);
        let plane = Rc::new(RefCell::new(plane));
        for (index, control) in CONTROLS.into_iter().enumerate() {
            let (plane, cluster) = (plane.clone(), cluster.clone());
            sim.host(control, move || control::serve(plane.clone(), cluster.clone(), index));
        }
        let mut fabric = Self {
            sim,
            cluster,
            plane,
            resource: Resource::new(record.clone()),
            desk: Desk::new(record.clone(), plant),
            chance: Chance::new(seed, 69),
            coverage: Coverage::default(),
            record: record.clone(),
            nodes: Vec::new(),
            repairs: Vec::new(),
            looked: Duration::ZERO,
            plant,
            directory,
        };
        for place in 0..fabric.cluster.hosts.len() {
            fabric.add_node(place, Chance::new(seed, 70 + place as u64));
        }
        fabric
    }

    fn add_node(&mut self, place: usize, chance: Chance) {
        let (record, resource) = (self.record.clone(), self.resource.clone());
        let state_dir = state_dir(self.directory.path(), place);
        let control_keys = self.plane.borrow().control_keys();
        self.cluster.join(place, control_keys, &state_dir);
        let lives = Lives::default();
        let seen =
            Node { lives: lives.clone(), state_dir: state_dir.clone(), version: 0, copy: None };
        self.nodes.push(seen);
        let (desk, plant) = (self.desk.clone(), self.plant);
        let parts = Parts {
            stand: Stand { place, state_dir, record, resource, desk, plant },
            cluster: self.cluster.clone(),
            chance: Rc::new(RefCell::new(chance)),
            lives,
        };
        self.sim.host(self.cluster.name(place), move || node::run(parts.clone()));
    }

    pub(crate) fn now(&self) -> Duration {
        self.sim.elapsed()
    }

    pub(crate) fn note(&self, what: std::fmt::Arguments<'_>) {
        self.record.note_at(Moment::default() + self.now(), what);
    }

    /// The first violation, of whomever.
    pub(crate) fn violation(&self) -> Option<Violation> {
        self.plane.borrow().violation().cloned()
    }

    /// Lets a little time pass, looks, and repairs what is due.
    pub(crate) fn step(&mut self) -> Result<(), Violation> {
        self.sim.step().unwrap();
        let now = self.now();
        if now >= self.looked + LOOK_EVERY {
            self.looked = now;
            (0..self.nodes.len()).for_each(|place| self.look_at(place));
            let seen = self.resource.violation().or(self.desk.violation()).map_or(Ok(()), Err);
            self.plane.borrow_mut().judge(seen);
        }
        let (due, later) = self.repairs.drain(..).partition(|(at, _)| *at <= now);
        self.repairs = later;
        let due: Vec<(Duration, Repair)> = due;
        due.into_iter().for_each(|(_, repair)| self.repair(&repair));
        self.violation().map_or(Ok(()), Err)
    }

    fn repair(&mut self, repair: &Repair) {
        match repair {
            Repair::Heal(one, other) => self.sim.repair(one.as_str(), other.as_str()),
            Repair::Bounce(host) => {
                self.note(format_args!("{host} has power again"));
                self.roll_back(host);
                self.sim.bounce(host.as_str());
            }
        }
    }

    /// Of a node.
    fn place(&self, host: &str) -> Option<usize> {
        (0..self.nodes.len()).find(|place| self.cluster.name(*place) == host)
    }

    /// A planted bug: the state directory of long before.
    fn roll_back(&self, host: &str) {
        let Some(node) = self.place(host).map(|place| &self.nodes[place]) else { return };
        if let Some(copy) = &node.copy {
            SimDisk::new(node.state_dir.clone(), None).put(copy);
        }
    }

    /// None of its actors died. A node acts on no older snapshot than it did, and on none that is not on its disk; a node that
    /// starts again has at least what it had.
    fn look_at(&mut self, place: usize) {
        let (now, id) = (self.now(), self.cluster.node(place));
        let node = &mut self.nodes[place];
        if self.plant == Some(Mutation::StateRolledBack) && now >= COPIED_AT && node.copy.is_none()
        {
            node.copy = Some(SimDisk::new(node.state_dir.clone(), None).files());
        }
        let Some(shown) = node.status() else { return };
        if shown.actor_restarts > 0 {
            let restarts = shown.actor_restarts;
            let detail = format!("of node {place} {restarts} actors were started again");
            self.plane.borrow_mut().judge(Err(Violation::new(ACTORS, detail)));
        }
        let Some(snapshot) = shown.snapshot.filter(|found| found.version != node.version) else {
            return;
        };
        node.version = snapshot.version;
        self.coverage.count(NODES, "another snapshot");
        let mut plane = self.plane.borrow_mut();
        let shown = plane.checkers.applied.shown(id, id, (snapshot.version, snapshot.digest));
        plane.judge(shown);
        let kept = node.kept();
        if kept.is_none_or(|kept| kept < snapshot.version) {
            let version = snapshot.version;
            let detail = format!("node {place} acts on version {version}, and has kept {kept:?}");
            plane.judge(Err(Violation::new(DURABLE, detail)));
        }
    }

    /// Nothing passes between this host and those others; or nothing that it says.
    pub(crate) fn cut(&mut self, host: &str, others: &[&str], one_way: bool, lasts: Duration) {
        self.coverage.fault(if one_way { "a cut in one direction" } else { "a cut" });
        self.note(format_args!("{host} is cut off from {others:?}"));
        for other in others.iter().copied().filter(|other| *other != host) {
            match one_way {
                true => self.sim.partition_oneway(host, other),
                false => self.sim.partition(host, other),
            }
            let heal = Repair::Heal(host.to_owned(), other.to_owned());
            self.repairs.push((self.now() + lasts, heal));
        }
    }

    pub(crate) fn crash(&mut self, host: &str, lasts: Duration) {
        let bounce = Repair::Bounce(host.to_owned());
        if self.repairs.iter().any(|(_, repair)| *repair == bounce) {
            return;
        }
        let kind =
            if CONTROLS.contains(&host) { "a crash of control" } else { "a crash of a node" };
        self.coverage.fault(kind);
        self.note(format_args!("{host} crashes"));
        // The last look at this life.
        if let Some(place) = self.place(host) {
            self.look_at(place);
        }
        self.sim.crash(host);
        self.repairs.push((self.now() + lasts, bounce));
    }

    /// Whether nothing is broken now.
    pub(crate) fn is_whole(&self) -> bool {
        self.repairs.is_empty()
    }

    pub(crate) fn between(&mut self, least_ms: u64, most_ms: u64) -> Duration {
        self.chance.between(Duration::from_millis(least_ms), Duration::from_millis(most_ms))
    }

    /// What a node shows now.
    pub(crate) fn status(&self, place: usize) -> Option<StatusReport> {
        self.nodes[place].status()
    }

    /// What must hold in the end of every agent.
    pub(crate) fn judge_end(&mut self) -> Result<(), Violation> {
        (0..self.nodes.len()).for_each(|place| self.look_at(place));
        self.plane.borrow_mut().judge_replay();
        self.violation().map_or(Ok(()), Err)?;
        for (place, node) in self.nodes.iter().enumerate() {
            let newest = self.plane.borrow().newest(self.cluster.node(place));
            let has_peers = node.status().is_some_and(|status| status.peers.active > 0);
            if node.version != newest || !has_peers {
                let version = node.version;
                let detail = format!(
                    "node {place} has version {version} of {newest}, and peers: {has_peers}"
                );
                return Err(Violation::new(CONVERGENCE, detail));
            }
        }
        self.coverage.declare(FAULTS, ["a crash of control", "a crash of a node", "a cut"]);
        Ok(())
    }
}
