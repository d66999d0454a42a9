//! Level 2, leases: real actors carry a connection over a simulated network and virtual time.
//!
//! Two nodes, each an actor around the real `Holders`, renew over frames on TCP at a control host
//! that runs the real `Grantor`. Connections are lost, the network is cut, and every host crashes:
//! at no step do two nodes carry the connection, and afterwards one does. One seed is one history.
//!
//! The daemon's own actors do the same in `daemons`; here the latencies are longer, and control is only a
//! grantor.

mod agent;
mod control;

use std::{cell::RefCell, collections::BTreeMap, rc::Rc, time::Duration};

use rap_agent_core::{disk::SimDisk, lease::Permit};
use rap_proto::Moment;
use rap_simulations::kit::Chance;

use crate::actors::{CONTROL, Notes};

const NODES: [&str; 2] = ["node-0", "node-1"];
/// How long connections are lost and hosts crash.
const FAILING: Duration = Duration::from_secs(60);
/// How long everything then has to come right: two hold-offs, and a grant.
const SETTLING: Duration = Duration::from_secs(30);

/// What each node's packet loop is shown.
type Carried = Rc<RefCell<BTreeMap<usize, Permit>>>;

struct Outcome {
    notes: Notes,
    /// Who carries the connection at the end.
    carrying: Vec<usize>,
    /// At how many steps two did.
    doubled: u32,
    grants: u64,
    crashes: u32,
}

fn run(seed: u64) -> Outcome {
    let mut chance = Chance::new(seed, 60);
    let mut sim = turmoil::Builder::new()
        .rng_seed(seed)
        .tick_duration(Duration::from_millis(10))
        .simulation_duration(FAILING + SETTLING + Duration::from_secs(60))
        .min_message_latency(Duration::from_millis(1))
        .max_message_latency(Duration::from_millis(200))
        .build();
    let (notes, carried) = (Notes::default(), Carried::default());
    let side = Rc::new(RefCell::new(control::Side::new(seed, notes.clone())));
    let for_control = side.clone();
    sim.host(CONTROL, move || control::serve(for_control.clone()));
    for (node, name) in NODES.into_iter().enumerate() {
        let parts = agent::Parts {
            node,
            disk: Rc::new(RefCell::new(SimDisk::new())),
            notes: notes.clone(),
            carried: carried.clone(),
            seed: Rc::new(RefCell::new(Chance::new(seed, 61 + node as u64))),
        };
        sim.host(name, move || agent::run(parts.clone()));
    }

    let (mut crashes, mut doubled) = (0, 0);
    let mut next = Duration::from_secs(8);
    let mut repair: Option<(Duration, &str)> = None;
    while sim.elapsed() < FAILING + SETTLING {
        sim.step().unwrap();
        doubled += u32::from(carrying(&carried, sim.elapsed()).len() > 1);
        if let Some((_, name)) = repair.take_if(|(at, _)| sim.elapsed() >= *at) {
            sim.repair(name, CONTROL);
        }
        if sim.elapsed() < next || sim.elapsed() >= FAILING {
            continue;
        }
        next = sim.elapsed() + chance.between(Duration::from_secs(2), Duration::from_secs(9));
        let node = usize::from(chance.happens(500));
        match chance.below(3) {
            0 if repair.is_none() => {
                sim.partition(NODES[node], CONTROL);
                let lasts = chance.between(Duration::from_secs(1), Duration::from_secs(12));
                repair = Some((sim.elapsed() + lasts, NODES[node]));
            }
            1 => {
                sim.crash(CONTROL);
                sim.bounce(CONTROL);
                crashes += 1;
            }
            _ => {
                sim.crash(NODES[node]);
                carried.borrow_mut().remove(&node);
                sim.bounce(NODES[node]);
                crashes += 1;
            }
        }
    }
    let carrying = carrying(&carried, sim.elapsed());
    let grants = side.borrow().grants();
    Outcome { notes, carrying, doubled, grants, crashes }
}

/// The nodes from which something may leave at this moment.
fn carrying(carried: &Carried, elapsed: Duration) -> Vec<usize> {
    let now = Moment::default() + elapsed;
    let carried = carried.borrow();
    let covered = carried.iter().filter(|(_, permit)| permit.covers(now, permit.generation));
    covered.map(|(node, _)| *node).collect()
}

#[test]
fn one_actor_at_a_time_carries_a_connection_through_lost_connections_and_crashes() {
    let (mut crashes, mut grants) = (0, 0);
    for seed in 0..4 {
        let outcome = run(seed);
        let notes = outcome.notes.0.borrow().join("\n");
        assert_eq!(outcome.doubled, 0, "seed {seed}\n{notes}");
        assert_eq!(outcome.carrying.len(), 1, "seed {seed}\n{notes}");
        crashes += outcome.crashes;
        grants += outcome.grants;
    }
    assert!(crashes > 0, "nothing crashed");
    assert!(grants > 8, "the connection hardly moved");
}

#[test]
fn one_seed_of_carriers_is_one_history() {
    let (one, other) = (run(7), run(7));
    assert_eq!(*one.notes.0.borrow(), *other.notes.0.borrow());
    assert_eq!(one.notes.digest(), other.notes.digest());
    assert_ne!(one.notes.digest(), run(8).notes.digest());
}
