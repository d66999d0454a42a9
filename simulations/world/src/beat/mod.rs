//! The scenario "beat".
//!
//! Three replicas of control vote for the authority beat in the table of one primary, and up to
//! three nodes ask them for it. Every replica and node has a clock of its own and the nodes a
//! calendar each. First everything fails as the seed's mix says: no two beats of one sequence may
//! get a quorum, nobody signs what he did not read, no node goes back, and what a beat gives ends
//! in its time. Then nothing fails: every replica and every node comes to hold a beat, and keeps it.
//!
//! The machines are the real ones, [`Voter`](rap_control_core::beat::Voter) and
//! [`BeatListener`](rap_agent_core::beat::BeatListener), and so are the signatures.
//!
//! What the model leaves out: a failover that loses votes while the replicas that cast them start
//! again. A replica remembers in its table or in itself; when it loses both it may vote twice.
//! That is why the database must replicate synchronously.

pub mod checkers;
pub mod clock;
pub mod coverage;
pub mod database;
pub mod faults;
pub mod message;
pub mod mutation;
pub mod node;
pub mod replica;
mod trouble;
pub mod world;

use crate::kit::{self, Report};

pub use mutation::Mutation;

pub type Options = kit::Options<Mutation>;

/// Runs the scenario once.
pub fn run(options: Options) -> Report {
    kit::run(world::World::new(options), options.seed, "--scenario beat")
}
