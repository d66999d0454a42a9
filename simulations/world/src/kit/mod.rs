//! What every scenario needs and none should write again.
//!
//! A scenario is a [`World`]: events, what happens at each, and its phases. It keeps its time, its
//! chance, its faults and its trace on a [`Stage`]; [`run()`] takes it from a seed to a [`Report`],
//! and [`search()`] does so with many seeds. Scenarios with replicas of control over one primary
//! also share their [`network`], most of their [`faults`], their clocks and the [`process`] of a replica.

pub mod chance;
pub mod clock;
pub mod coverage;
pub mod election;
pub mod faults;
pub mod heads;
pub mod keys;
pub mod mutation;
pub mod network;
pub mod primary;
pub mod process;
pub mod run;
pub mod scheduler;
pub mod search;
pub mod stage;
pub mod trace;
pub mod turn;
pub mod verdict;

pub use chance::Chance;
pub use coverage::Coverage;
pub use run::{Left, Options, Phases, Report, World, caught, run};
pub use search::{Found, first_seed, search};
pub use stage::Stage;
pub use trace::Trace;
pub use turn::Turn;
pub use verdict::{Verdict, Violation};

#[cfg(test)]
mod tests;
