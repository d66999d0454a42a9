//! The deterministic world, its scenarios and its checkers.
//!
//! Level 1 runs the real pure machines of control, agents and mesh under a scheduler of our own:
//! one seed, one history. See [`world`] for the first scenario, [`lease`], [`beat`] and [`fleet`] for those
//! of one part each, [`joint`] for all parts together, [`kit`] for what they share, and [`checkers`] for
//! what must hold.
//! Level 2, real actors over a simulated network, is among this crate's tests.
//!
//! A failing seed is repeated by `cargo xtask sim --seed N`.

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
pub mod message;
pub mod mutation;
pub mod network;
pub mod node;
pub mod turn;
pub mod world;

pub use mutation::Mutation;
pub use world::{Options, run};
