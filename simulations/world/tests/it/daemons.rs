//! Level 2, whole agents: the node agent's own actors, as the daemon assembles them, over a simulated
//! network and virtual time.
//!
//! Five nodes (an entry, three that may carry a connection, an egress of another organization) speak
//! HTTPS with mTLS to three replicas of control, which lead by turns over one log in memory, and QUIC with
//! mTLS to each other. Connections break, the network is cut, every host crashes, disks take their time,
//! and policies change: at the resource there is never a packet of two nodes at once, nor of a generation
//! below one that came before; no node acts on what is not on its disk, none goes back to an older
//! snapshot, and each ends with its newest one. No actor panics. One seed is one history.

mod bus;
pub(crate) mod cluster;
pub(crate) mod control;
pub(crate) mod desk;
mod disk;
mod driver;
pub(crate) mod fabric;
pub(crate) mod ground;
mod node;
mod resource;
mod wire;

use std::time::Duration;

use rap_proto::Generation;
use rap_simulations::{
    cast,
    kit::{Coverage, Report, Violation, caught, coverage::FAULTS},
    lease::checkers::{LIVENESS, SINGLE_ACTIVE},
    level2::{AGENTS, Mutation},
};

use self::{
    fabric::{ACTORS, CONTROLS, DURABLE, Fabric, NODES, latency},
    ground::LOSS_PERMILLE,
};
use crate::{
    level2::{self, Options},
    meshes::record::Record,
};

/// How many seeds run.
const SEEDS: u64 = 3;
/// By their place in `cast::connectors`.
const CARRIERS: [usize; 3] = [1, 2, 3];
/// How often the resource is looked at: two nodes whose packets come within are two at once.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Everybody is there, and somebody carries the connection.
const STARTED: Duration = Duration::from_secs(20);
/// How long connections are lost and hosts crash.
const FAILING: Duration = Duration::from_secs(80);
const FAILED: Duration = STARTED.saturating_add(FAILING);
/// How long everything then has to come right.
const SETTLING: Duration = Duration::from_secs(40);
const END: Duration = FAILED.saturating_add(SETTLING);

/// How often a node comes to a newer snapshot in one run, at least.
const NEWER_SNAPSHOTS: u64 = 20;
/// The heading of what became of the connection.
const CONNECTION: &str = "connection";

struct World {
    fabric: Fabric,
    names: Vec<String>,
    /// Whose packets came between the last two looks.
    last: Vec<(usize, Generation)>,
    looked: Duration,
}

impl World {
    fn new(options: Options, record: &Record) -> Self {
        let hosts = cast::connectors();
        let names = hosts.iter().map(|host| host.name.as_str().to_owned()).collect();
        let fabric = Fabric::found(options, hosts, record, (FAILED, END));
        Self { fabric, names, last: Vec::new(), looked: Duration::ZERO }
    }

    fn play(mut self) -> Result<Coverage, Violation> {
        let mut next = STARTED;
        while self.fabric.now() < FAILED {
            self.step()?;
            if self.fabric.now() >= next {
                self.trouble();
                next = self.fabric.now() + self.fabric.between(2_000, 9_000);
            }
        }
        while self.fabric.now() < END {
            self.step()?;
        }
        if self.last.len() != 1 {
            let detail = format!("in the end the connection is carried by {:?}", self.last);
            return Err(Violation::new(LIVENESS, detail));
        }
        self.fabric.judge_end()?;
        let Fabric { mut coverage, resource, plane, .. } = self.fabric;
        coverage.count_many(CONNECTION, "moves", u64::from(resource.moves()));
        coverage.count_many(CONNECTION, "grants", plane.borrow().grants());
        coverage.count_many(CONNECTION, "packets", resource.packets());
        Ok(coverage)
    }

    fn step(&mut self) -> Result<(), Violation> {
        self.fabric.step()?;
        let now = self.fabric.now();
        if now >= self.looked + LOOK_EVERY {
            self.looked = now;
            self.last = self.fabric.resource.look();
            self.fabric.plane.borrow_mut().heard(&self.last);
        }
        self.fabric.violation().map_or(Ok(()), Err)
    }

    fn trouble(&mut self) {
        let Self { fabric, names, last, .. } = self;
        let holder = names[last.first().map_or(CARRIERS[0], |(place, _)| *place)].as_str();
        match fabric.chance.below(5) {
            kind @ (0 | 1) => {
                let lasts = fabric.between(1_000, 12_000);
                fabric.cut(holder, &CONTROLS, kind == 1, lasts);
            }
            2 => {
                let lasts = fabric.between(200, 8_000);
                fabric.crash(holder, lasts);
            }
            3 => {
                let replica = *fabric.chance.pick(&CONTROLS).unwrap();
                let lasts = fabric.between(200, 8_000);
                fabric.crash(replica, lasts);
            }
            _ => {
                let all: Vec<&str> = names.iter().map(String::as_str).collect();
                let host = *fabric.chance.pick(&all).unwrap();
                let lasts = fabric.between(1_000, 12_000);
                fabric.cut(host, &all, false, lasts);
            }
        }
    }
}

pub(crate) fn report(options: Options) -> Report {
    let record = Record::default();
    let outcome = caught(|| World::new(options, &record).play()).flatten();
    let latency = latency(options.seed);
    let mix =
        format!("messages take up to {latency:?}, {LOSS_PERMILLE} of 1,000 datagrams are lost");
    level2::report(AGENTS, options, &record, outcome, mix)
}

#[test]
fn whole_agents_carry_a_connection_one_at_a_time_through_cuts_and_crashes() {
    if let Some(coverage) = level2::expect_nothing(AGENTS, SEEDS, report) {
        coverage.expect(FAULTS, &["a crash of control", "a crash of a node", "a cut"]);
        coverage.expect_many(CONNECTION, "moves", SEEDS);
        coverage.expect_many(CONNECTION, "grants", 3 * SEEDS);
        coverage.expect_many(NODES, "another snapshot", NEWER_SNAPSHOTS * SEEDS);
    }
}

#[test]
fn one_seed_of_whole_agents_is_one_history() {
    let [one, other] = [(); 2].map(|()| report(level2::seed(7)));
    assert_eq!((one.digest, one.events), (other.digest, other.events));
    assert_ne!(one.digest, report(level2::seed(8)).digest);
}

/// The bug is found, and by the checker that is there for it.
fn check(plant: Mutation, checkers: &[&str]) {
    level2::expect_bug(plant, checkers, SEEDS, report);
}

#[test]
fn what_is_answered_before_it_is_written_is_found() {
    check(Mutation::AnsweredBeforeWritten, &[DURABLE]);
}

#[test]
fn a_snapshot_whose_floor_is_not_written_is_found() {
    check(Mutation::FloorNotWritten, &[DURABLE]);
}

#[test]
fn a_state_directory_of_long_before_is_found() {
    check(Mutation::StateRolledBack, &["applied"]);
}

#[test]
fn a_driver_that_stays_with_an_old_generation_is_found() {
    check(Mutation::OldGenerationSent, &[SINGLE_ACTIVE]);
}

#[test]
fn a_driver_that_goes_on_is_found() {
    check(Mutation::DriverGoesOn, &[SINGLE_ACTIVE]);
}

#[test]
fn an_actor_that_panics_is_found() {
    check(Mutation::ActorPanics, &[ACTORS]);
}
