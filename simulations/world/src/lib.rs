//! The deterministic world, its scenarios and its checkers.
//!
//! Level 1 runs the real pure machines of control, agents and mesh under a scheduler of our own:
//! one seed, one history. See [`world`] for the first scenario, [`lease`], [`beat`] and [`fleet`] for those
//! of one part each, [`joint`] for all parts together, [`kit`] for what they share, and [`checkers`] for
//! what must hold.
//! Level 2, whole agents and the mesh over a simulated network, is among this crate's tests; see
//! [`level2`] for its scenarios and what is planted there.
//!
//! A failing seed of either level is repeated by `cargo xtask sim --scenario NAME --seed N`.

pub mod attack;
pub mod beat;
pub mod cast;
pub mod checkers;
pub mod clients;
pub mod control;
pub mod faults;
pub mod fleet;
pub mod joint;
pub mod kit;
pub mod lease;
pub mod level2;
pub mod message;
pub mod mutation;
pub mod network;
pub mod node;
pub mod turn;
pub mod world;

pub use mutation::Mutation;
pub use world::{Options, run};
