//! The cluster: its authority's certificate and keys, and the one-time set-up by its first owner.
//!
//! Its stream's id is the cluster's id, and `cluster.bootstrapped` is the first event of its log.

mod command;
mod decide;
mod event;
mod state;
#[cfg(test)]
mod tests;

pub use command::*;
pub use event::*;
pub use state::*;
