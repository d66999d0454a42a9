//! Which replicas of the control plane speak for the cluster: its epoch statements. One stream for
//! each cluster; its id is the cluster's.

mod command;
mod decide;
mod event;
mod state;
#[cfg(test)]
mod tests;

pub use command::*;
pub use event::*;
pub use state::*;
