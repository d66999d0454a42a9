//! An egress pool: the logical place that resources are reached from. Its stream's id is its own.

mod command;
mod decide;
mod event;
mod state;
#[cfg(test)]
mod tests;

pub use command::*;
pub use event::*;
pub use state::*;
