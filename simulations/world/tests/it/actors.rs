//! Level 2: real actors over a simulated network and virtual time.
//!
//! An agent's three actors (snapshot store, fetcher, link) keep up with a control host while
//! connections are lost, the network is cut, and both hosts crash. Each actor is the shell of a
//! real machine, over real frames on TCP. One seed is one history.

mod agent;
mod control;
pub(crate) mod wire;

use std::{cell::RefCell, rc::Rc, sync::Arc, time::Duration};

use rap_agent_core::{
    disk::{Disk as _, SimDisk, StateFile},
    record,
    snapshot::Floor,
};
use rap_proto::{Digest, Moment};
use rap_simulations::kit::Chance;

pub(crate) use agent::Shell;

pub(crate) const CONTROL: &str = "control";
const NODE: &str = "node";
/// How long connections are lost and hosts crash.
const FAILING: Duration = Duration::from_secs(60);
/// How long everything then has to come right.
const SETTLING: Duration = Duration::from_secs(120);

/// What is noted by both hosts, in the order in which it happened.
#[derive(Clone, Default)]
pub(crate) struct Notes(pub(crate) Rc<RefCell<Vec<String>>>);

impl Notes {
    pub(crate) fn add(&self, what: impl std::fmt::Display) {
        let at = turmoil::sim_elapsed().unwrap_or_default();
        self.0.borrow_mut().push(format!("{at:?} {what}"));
    }

    pub(crate) fn digest(&self) -> Digest {
        let lines = self.0.borrow();
        Digest::of_parts(&lines.iter().map(String::as_bytes).collect::<Vec<_>>())
    }
}

pub(crate) fn now() -> Moment {
    let elapsed = turmoil::sim_elapsed().unwrap_or_default();
    Moment::default() + elapsed
}

struct Outcome {
    notes: Notes,
    applied: u64,
    newest: u64,
    crashes: u32,
}

fn run(seed: u64) -> Outcome {
    let mut chance = Chance::new(seed, 50);
    let mut sim = turmoil::Builder::new()
        .rng_seed(seed)
        .tick_duration(Duration::from_millis(10))
        .simulation_duration(FAILING + SETTLING + Duration::from_secs(60))
        .min_message_latency(Duration::from_millis(1))
        .max_message_latency(Duration::from_millis(200))
        .build();
    let notes = Notes::default();
    let (side, credentials) = control::Side::found(seed, notes.clone());
    let side = Rc::new(RefCell::new(side));
    let disk = Rc::new(RefCell::new(SimDisk::new()));
    let floor = record::encode(&Floor::nothing());
    disk.borrow_mut().replace(StateFile::Floor, &floor).unwrap();

    let for_control = side.clone();
    sim.host(CONTROL, move || control::serve(for_control.clone()));
    let (credentials, applied) = (Arc::new(credentials), Rc::new(RefCell::new(0)));
    let parts = agent::Parts {
        credentials,
        disk,
        notes: notes.clone(),
        applied: applied.clone(),
        seed: Rc::new(RefCell::new(Chance::new(seed, 51))),
    };
    sim.host(NODE, move || agent::run(parts.clone()));

    let mut crashes = 0;
    let mut next = Duration::from_secs(5);
    let mut repair = None;
    while sim.elapsed() < FAILING {
        sim.step().unwrap();
        if repair.is_some_and(|at| sim.elapsed() >= at) {
            sim.repair(NODE, CONTROL);
            repair = None;
        }
        if sim.elapsed() < next {
            continue;
        }
        next = sim.elapsed() + chance.between(Duration::from_secs(2), Duration::from_secs(9));
        match chance.below(3) {
            0 => {
                sim.partition(NODE, CONTROL);
                let lasts = chance.between(Duration::from_secs(1), Duration::from_secs(12));
                repair = Some(sim.elapsed() + lasts);
            }
            other => {
                let host = if other == 1 { NODE } else { CONTROL };
                sim.crash(host);
                sim.bounce(host);
                crashes += 1;
            }
        }
    }
    sim.repair(NODE, CONTROL);
    side.borrow_mut().stop_changing();
    while sim.elapsed() < FAILING + SETTLING {
        sim.step().unwrap();
    }
    let (newest, applied) = (side.borrow().newest(), *applied.borrow());
    Outcome { notes, applied, newest, crashes }
}

#[test]
fn actors_keep_up_through_lost_connections_and_crashes() {
    let mut crashes = 0;
    for seed in 0..4 {
        let outcome = run(seed);
        let notes = outcome.notes.0.borrow().join("\n");
        assert_eq!(outcome.applied, outcome.newest, "seed {seed}\n{notes}");
        crashes += outcome.crashes;
    }
    assert!(crashes > 0, "nothing crashed");
}

#[test]
fn one_seed_is_one_history() {
    let (one, other) = (run(7), run(7));
    assert_eq!(*one.notes.0.borrow(), *other.notes.0.borrow());
    assert_eq!(one.notes.digest(), other.notes.digest());
    assert_ne!(one.notes.digest(), run(8).notes.digest());
}
