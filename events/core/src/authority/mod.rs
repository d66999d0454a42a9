//! Who speaks for the cluster, and on what: its epoch statements, and which losses of its database
//! were given up. One stream for each cluster; its id is the cluster's.

mod command;
mod decide;
mod event;
mod state;
#[cfg(test)]
mod tests;

pub use command::*;
pub use event::*;
pub use state::*;
