//! The scenario "joint": everything in one world.
//!
//! Two or three replicas of control share one log. They lead by turns, compile and sign snapshots,
//! grant the lease of a connection, and authorize sessions. Three hosts may carry the connection; an
//! entry passes clients on to whoever does. Hosts and replicas are those of the scenario "fabric" with
//! their real machines, and each has a clock of its own. What goes wrong: loss, duplication,
//! reordering, slow ways, partitions also in one direction, power cuts also within a write, processes
//! that stand still, clocks that drift and jump, a primary that fails over, a node that is revoked.
//! What must hold is what the other scenarios ask of their parts, and what only their meeting can
//! break: which channel passes under which lease.
//!
//! What it leaves out: beats, which the scenario "beat" has, and failovers that lose what was written
//! last, which the scenarios "leases" and "beat" have.

pub mod faults;
pub mod host;
mod trouble;
pub mod way;
pub mod world;

use crate::{
    kit::{self, Report},
    mutation::Mutation,
};

pub type Options = kit::Options<Mutation>;

/// Runs the scenario once.
pub fn run(options: Options) -> Report {
    kit::run(world::World::new(options), options.seed, "--scenario joint")
}
