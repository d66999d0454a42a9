//! The scenario "joint": everything in one world.
//!
//! Two or three replicas of control share one log. They lead by turns, compile and sign snapshots,
//! grant the lease of a connection, and authorize sessions. Three hosts may carry the connection; an
//! entry passes clients on to whoever does. Hosts and replicas are those of the scenario "fabric" with
//! their real machines, and each has a clock of its own; in some runs the replicas make beats, and the
//! nodes hear them. What goes wrong: loss, duplication, reordering, slow ways, partitions also in one
//! direction, power cuts also within a write, processes that stand still, clocks that drift and jump,
//! a primary that fails over, also to a standby that lacks what was stored last, a node that is
//! revoked. What must hold is what the other scenarios ask of their parts, and what only their meeting
//! can break: which channel passes under which lease, and what is left when a log went back.
//!
//! Some runs are aimed at what a chance of its own hardly ever brings together: who leads, a holder that is
//! revoked, what nodes saw of a log that then lost it.
//!
//! A loss is refused as in the field: replicas that read more halt and are started again, nodes that
//! saw more take nothing any more, and no lease is granted that may have been granted before. In the
//! second phase somebody accepts it, as `docs/operations.md` says. What the model leaves out: hosts
//! whose enrollment is lost, and two beats of one sequence where a failover lost the votes.

pub mod faults;
pub mod host;
pub mod judge;
mod loss;
mod post;
mod setup;
mod trouble;
mod turns;
pub mod way;
pub mod world;

use crate::{
    kit::{self, Report},
    mutation::Mutation,
};

/// What goes wrong.
pub const FAULT_KINDS: [&str; 17] = [
    "partition",
    "one-way partition",
    "congestion",
    "duplicate",
    "lost answer of the primary",
    "node crash",
    "torn write",
    "replica crash",
    "node pause",
    "replica pause",
    "primary clock forward",
    "primary clock back",
    "replica clock forward",
    "failover",
    "unsynced failover",
    "a minority reaches the primary",
    "log refused",
];

pub type Options = kit::Options<Mutation>;

/// Runs the scenario once.
pub fn run(options: Options) -> Report {
    kit::run(world::World::new(options), options.seed, "--scenario joint")
}
