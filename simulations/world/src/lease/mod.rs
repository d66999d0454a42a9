//! The scenario "leases".
//!
//! Two to five nodes, one to three replicas of control and one database keep one or two
//! connections up. Every node and replica has a clock of its own, wrong by as much as a clock may
//! be. What the connections lead to, the [`resource`], stands behind the real fence and sees
//! which generations touch it. First everything fails as the seed's mix says: no two nodes may be
//! active for one connection at one instant of true time. Then nothing fails: every connection
//! comes to have its holder, and keeps it.
//!
//! The machines are the real ones: [`LeaseHolder`](rap_agent_core::lease::LeaseHolder),
//! [`Grantor`](rap_control_core::lease::Grantor) and [`Fence`](rap_mesh_core::fence::Fence). Where a
//! failover loses what was written last, each node also has its
//! [`Witness`](rap_agent_core::witness::Witness) of the log: a node that sees less of it than before,
//! or another one, hands over what it holds until a person looked.
//!
//! What the model leaves out: two databases that both believe to be the primary. Synchronous
//! replication rules that out, and nothing here could repair it.

pub mod admin;
pub mod checkers;
pub mod coverage;
pub mod database;
pub mod driver;
pub mod faults;
pub mod handover;
pub mod log;
pub mod message;
pub mod mutation;
pub mod node;
pub mod replica;
pub mod resource;
mod trouble;
pub mod witness;
pub mod world;

use crate::kit::{self, Report};

pub use mutation::Mutation;

pub type Options = kit::Options<Mutation>;

/// Runs the scenario once.
pub fn run(options: Options) -> Report {
    kit::run(world::World::new(options), options.seed, "--scenario leases")
}
