//! How long a connection is down when its holder goes, in a world in which nothing else fails.

use std::time::Duration;

use rap_proto::{LeaseClass, Moment};

use crate::kit::{Options, World as _};

use super::{faults::FaultMix, node::SimNode, world::World};

/// How the holder goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Departure {
    /// It is drained: it hands over.
    Planned,
    /// It loses its power.
    Unplanned,
}

/// From one state of the connection to the next, in true time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Handover {
    /// From the departure until another node serves.
    pub took: Duration,
    /// For how long of that nobody served.
    pub down: Duration,
}

const STEP: Duration = Duration::from_millis(1);
/// A connection that nobody has taken over by then is not going to be.
const LIMIT: Duration = Duration::from_secs(120);

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("nobody took over, or two did, with seed {0}")]
pub struct NotHandedOver(pub u64);

/// Lets the first connection's holder go once it has settled.
pub fn measure(
    seed: u64,
    class: LeaseClass,
    departure: Departure,
) -> Result<Handover, NotHandedOver> {
    let mut world = World::new(Options { seed, mutation: None });
    world.stage.mix = FaultMix::calm();
    world.stage.failing = false;
    world.ask_for(class);
    world.begin();
    // At any point between two renewals and two reads.
    let settled = 2 * class.hold_off() + Duration::from_secs(10);
    let spread = Duration::from_millis(world.stage.chance.below(10_000));
    world.advance(settled + spread);
    let [holder] = world.serving(0)[..] else { return Err(NotHandedOver(seed)) };
    let left = world.stage.now();
    match departure {
        Departure::Planned => {
            world.wishes.draining.insert(holder);
            world.tell_everybody();
        }
        Departure::Unplanned => world.node_turn(holder, SimNode::crash),
    }
    let mut served = left;
    loop {
        world.advance(STEP);
        let now = world.stage.now();
        match world.serving(0)[..] {
            [node] if node != holder => return Ok(handover(left, served, now)),
            [_] => served = now,
            _ if now.since(left) > LIMIT || world.stage.violation().is_some() => {
                return Err(NotHandedOver(seed));
            }
            _ => {}
        }
    }
}

fn handover(left: Moment, served: Moment, now: Moment) -> Handover {
    Handover { took: now.since(left), down: now.since(served) }
}
