//! Level 2, whole agents: the node agent's own actors, as the daemon assembles them, over a simulated
//! network and virtual time.
//!
//! Five nodes (an entry, three that may carry a connection, an egress of another organization) speak
//! HTTPS with mTLS to three replicas of control, which lead by turns over one log in memory, and QUIC with
//! mTLS to each other. Connections break, the network is cut, every host crashes, and policies change: at
//! the resource there is never a packet of two nodes at once, nor of a generation below one that came
//! before; no node goes back to an older snapshot, and each ends with its newest one. No actor panics.
//! One seed is one history.

mod bus;
mod cluster;
mod control;
mod ground;
mod resource;
mod wire;

use std::{cell::RefCell, net::Ipv4Addr, path::PathBuf, rc::Rc, sync::Arc, time::Duration};

use rap_mesh::Carrier;
use rap_node_agent::{BusChoice, DriverChoice, RunEvent, RunOptions, Shown, StatusReport, run_on};
use rap_proto::{Digest, Generation};
use rap_simulations::kit::Chance;

use self::{
    bus::SimBus,
    cluster::{Cluster, state_dir},
    control::Plane,
    ground::SimGround,
    resource::Resource,
};
use crate::meshes::record::Record;

/// By their place in `cast::connectors`.
const HOSTS: [&str; 5] = ["entry", "carrier-a", "carrier-b", "carrier-c", "egress-1"];
const CARRIERS: [usize; 3] = [1, 2, 3];
const CONTROLS: [&str; 3] = ["control-0", "control-1", "control-2"];
/// How often a replica acts by itself.
const TICK: Duration = Duration::from_millis(20);
/// How often the resource is looked at: two nodes whose packets come within are two at once.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Everybody is there, and somebody carries the connection.
const STARTED: Duration = Duration::from_secs(20);
/// How long connections are lost and hosts crash.
const FAILING: Duration = Duration::from_secs(80);
/// How long everything then has to come right.
const SETTLING: Duration = Duration::from_secs(40);
/// How often each replica changes a policy, and when no more.
const RULES_CHANGE_EVERY: Duration = Duration::from_secs(6);
const RULES_STAND: Duration = STARTED.saturating_add(FAILING);
/// How often it is looked which snapshot each node has.
const SNAPSHOTS_EVERY: Duration = Duration::from_millis(200);
/// How late a message may be; every second seed has a slow network.
const LATENCIES: [Duration; 2] = [Duration::from_millis(40), Duration::from_millis(200)];
/// Of 1,000 datagrams of the mesh, how many are lost.
const LOSS_PERMILLE: u64 = 20;

/// How often a node comes to a newer snapshot in one run, at least.
const NEWER_SNAPSHOTS: u32 = 20;

struct Outcome {
    record: Record,
    violation: Option<String>,
    /// Whose packets came last.
    last: Vec<(usize, Generation)>,
    moves: u32,
    grants: u64,
    packets: u64,
    gap: Duration,
    crashes: u32,
    /// Of all lives of all agents: how many actors died and were started again.
    restarts: u64,
    /// Of each node: how many peers it keeps a connection to.
    peers: Vec<usize>,
    /// Of each node: its snapshot's version, and the newest that control has for it.
    snapshots: Vec<(u64, u64)>,
    /// How often a node came to a newer snapshot, and whether one went back.
    applied: u32,
    went_back: Option<String>,
}

impl Outcome {
    fn digests(&self) -> [Digest; 2] {
        let seen = self.record.lock();
        [seen.story.digest(), seen.traffic.digest()]
    }
}

/// What a node's program is started with, each time.
#[derive(Clone)]
struct Parts {
    place: usize,
    cluster: Rc<Cluster>,
    state_dir: PathBuf,
    record: Record,
    resource: Resource,
    chance: Rc<RefCell<Chance>>,
    lives: Lives,
}

/// What a node's program showed of itself, each time that it ran.
type Lives = Rc<RefCell<Vec<Shown>>>;

async fn node(parts: Parts) -> turmoil::Result {
    let Parts { place, cluster, state_dir, record, resource, chance, lives } = parts;
    let own = Chance::new(chance.borrow_mut().number(), 0);
    let ground = SimGround::new(place, own, LOSS_PERMILLE, record.clone(), resource);
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
    run_on(Arc::new(ground), options, std::future::pending(), tell, &show).await?;
    Err("nobody asked the agent to stop".into())
}

/// The hosts' network and clock.
fn network<'a>(seed: u64) -> turmoil::Sim<'a> {
    turmoil::Builder::new()
        .rng_seed(seed)
        .enable_tokio_io()
        .tick_duration(Duration::from_millis(5))
        .simulation_duration(STARTED + FAILING + SETTLING + Duration::from_secs(60))
        .min_message_latency(Duration::from_millis(1))
        .max_message_latency(if seed.is_multiple_of(2) { LATENCIES[0] } else { LATENCIES[1] })
        .udp_capacity(4_096)
        .tcp_capacity(4_096)
        .build()
}

fn run(seed: u64) -> Outcome {
    let directory = tempfile::tempdir().unwrap();
    let mut sim = network(seed);
    let record = Record::default();
    let addresses = HOSTS.iter().map(|host| sim.lookup(*host)).collect();
    let cluster = Rc::new(Cluster::new(addresses));
    let plane = Rc::new(RefCell::new(Plane::found(seed, &cluster, record.clone())));
    let resource = Resource::new(record.clone());
    for (index, control) in CONTROLS.into_iter().enumerate() {
        let (plane, cluster) = (plane.clone(), cluster.clone());
        sim.host(control, move || control::serve(plane.clone(), cluster.clone(), index));
    }
    let lives: Vec<Lives> = HOSTS.iter().map(|_| Lives::default()).collect();
    for (place, host) in HOSTS.into_iter().enumerate() {
        let parts = Parts {
            place,
            cluster: cluster.clone(),
            state_dir: state_dir(directory.path(), place),
            record: record.clone(),
            resource: resource.clone(),
            chance: Rc::new(RefCell::new(Chance::new(seed, 70 + place as u64))),
            lives: lives[place].clone(),
        };
        cluster.join(place, plane.borrow().control_keys(), &parts.state_dir);
        sim.host(host, move || node(parts.clone()));
    }
    let mut world = World {
        sim,
        plane,
        resource,
        chance: Chance::new(seed, 69),
        last: Vec::new(),
        looked: Duration::ZERO,
        repairs: Vec::new(),
        crashes: 0,
        lives,
        versions: vec![0; HOSTS.len()],
        versions_at: Duration::ZERO,
        applied: 0,
        went_back: None,
    };
    world.play();
    world.plane.borrow_mut().judge_replay();
    let reports = |lives: &Lives| -> Vec<StatusReport> {
        lives.borrow().iter().filter_map(Shown::status).collect()
    };
    let reports: Vec<_> = world.lives.iter().map(reports).collect();
    let peers = |reports: &Vec<StatusReport>| reports.last().map_or(0, |last| last.peers.active);
    let violation = world.plane.borrow().violation().map(ToString::to_string);
    Outcome {
        violation,
        last: world.last.clone(),
        moves: world.resource.moves(),
        grants: world.plane.borrow().grants(),
        packets: world.resource.packets(),
        gap: world.resource.gap(),
        crashes: world.crashes,
        restarts: reports.iter().flatten().map(|report| report.actor_restarts).sum(),
        peers: reports.iter().map(peers).collect(),
        snapshots: (0..HOSTS.len())
            .map(|place| (world.versions[place], world.plane.borrow().newest(cluster.node(place))))
            .collect(),
        applied: world.applied,
        went_back: world.went_back,
        record,
    }
}

struct World<'a> {
    sim: turmoil::Sim<'a>,
    plane: Rc<RefCell<Plane>>,
    resource: Resource,
    chance: Chance,
    /// Whose packets came between the last two looks.
    last: Vec<(usize, Generation)>,
    looked: Duration,
    /// What comes right again, and when.
    repairs: Vec<(Duration, Repair)>,
    crashes: u32,
    lives: Vec<Lives>,
    /// Of each node: the version of the snapshot that it showed last.
    versions: Vec<u64>,
    versions_at: Duration,
    applied: u32,
    went_back: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Repair {
    Heal(&'static str, &'static str),
    Bounce(&'static str),
}

impl World<'_> {
    fn play(&mut self) {
        let mut next = STARTED;
        while self.sim.elapsed() < STARTED + FAILING {
            self.step();
            if self.sim.elapsed() >= next {
                self.trouble();
                next = self.sim.elapsed() + self.between(2_000, 9_000);
            }
        }
        while self.sim.elapsed() < STARTED + FAILING + SETTLING {
            self.step();
        }
    }

    fn step(&mut self) {
        self.sim.step().unwrap();
        let now = self.sim.elapsed();
        if now >= self.looked + LOOK_EVERY {
            self.looked = now;
            self.last = self.resource.look();
            self.plane.borrow_mut().heard(&self.last);
        }
        if now >= self.versions_at + SNAPSHOTS_EVERY {
            self.versions_at = now;
            self.look_at_snapshots();
        }
        let (due, later) = self.repairs.drain(..).partition(|(at, _)| *at <= now);
        self.repairs = later;
        let due: Vec<(Duration, Repair)> = due;
        for (_, repair) in due {
            match repair {
                Repair::Heal(one, other) => self.sim.repair(one, other),
                Repair::Bounce(host) => self.sim.bounce(host),
            }
        }
    }

    /// A node that starts again has at least the snapshot that it had.
    fn look_at_snapshots(&mut self) {
        for (place, lives) in self.lives.iter().enumerate() {
            let shown = lives.borrow().last().and_then(Shown::status);
            let Some(snapshot) = shown.and_then(|shown| shown.snapshot) else { continue };
            let (before, version) = (self.versions[place], snapshot.version);
            if version < before {
                self.went_back = Some(format!("node {place} shows {version} after {before}"));
            }
            self.applied += u32::from(version > before);
            self.versions[place] = version;
        }
    }

    fn trouble(&mut self) {
        let holder = self.last.first().map_or(CARRIERS[0], |(place, _)| *place);
        match self.chance.below(5) {
            0 => self.cut(HOSTS[holder], &CONTROLS, false),
            1 => self.cut(HOSTS[holder], &CONTROLS, true),
            2 => self.crash(HOSTS[holder]),
            3 => {
                let replica = *self.chance.pick(&CONTROLS).unwrap();
                self.crash(replica);
            }
            _ => {
                let place = usize::try_from(self.chance.below(HOSTS.len() as u64)).unwrap();
                self.cut(HOSTS[place], &HOSTS, false);
            }
        }
    }

    /// Nothing passes between this host and those others; or nothing that it says.
    fn cut(&mut self, host: &'static str, others: &[&'static str], one_way: bool) {
        let until = self.sim.elapsed() + self.between(1_000, 12_000);
        for other in others.iter().filter(|other| **other != host) {
            match one_way {
                true => self.sim.partition_oneway(host, *other),
                false => self.sim.partition(host, *other),
            }
            self.repairs.push((until, Repair::Heal(host, other)));
        }
    }

    fn crash(&mut self, host: &'static str) {
        if self.repairs.iter().any(|(_, repair)| *repair == Repair::Bounce(host)) {
            return;
        }
        self.sim.crash(host);
        self.crashes += 1;
        let at = self.sim.elapsed() + self.between(200, 8_000);
        self.repairs.push((at, Repair::Bounce(host)));
    }

    fn between(&mut self, least_ms: u64, most_ms: u64) -> Duration {
        self.chance.between(Duration::from_millis(least_ms), Duration::from_millis(most_ms))
    }
}

#[test]
fn whole_agents_carry_a_connection_one_at_a_time_through_cuts_and_crashes() {
    let (mut crashes, mut grants) = (0, 0);
    for seed in 0..3 {
        let outcome = run(seed);
        let shown = format!(
            "seed {seed}: {} grants, {} moves, {} packets, longest gap {:?}, {} crashes, peers {:?}, \
             {} newer snapshots",
            outcome.grants,
            outcome.moves,
            outcome.packets,
            outcome.gap,
            outcome.crashes,
            outcome.peers,
            outcome.applied
        );
        println!("{shown}");
        let story = outcome.record.story();
        assert_eq!(outcome.violation, None, "{shown}\n{story}");
        assert_eq!(outcome.last.len(), 1, "{shown}\n{story}");
        assert_eq!(outcome.restarts, 0, "an actor panicked: {shown}\n{story}");
        assert!(outcome.moves > 0, "{shown}\n{story}");
        let alone = outcome.peers.contains(&0);
        assert!(!alone, "a node has no peer: {shown}\n{story}");
        assert_eq!(outcome.went_back, None, "{shown}\n{story}");
        for (place, (has, newest)) in outcome.snapshots.into_iter().enumerate() {
            assert_eq!(has, newest, "node {place} is behind: {shown}\n{story}");
        }
        assert!(outcome.applied > NEWER_SNAPSHOTS, "hardly any policy changed: {shown}\n{story}");
        crashes += outcome.crashes;
        grants += outcome.grants;
    }
    assert!(crashes > 0, "nothing crashed");
    assert!(grants > 8, "the connection hardly moved");
}

#[test]
fn one_seed_of_whole_agents_is_one_history() {
    let (one, other) = (run(7), run(7));
    assert_eq!(one.digests(), other.digests());
    assert_ne!(one.digests(), run(8).digests());
}
