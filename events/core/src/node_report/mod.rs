//! What a node observed that belongs to no session, in one stream per node with the node's id.

mod command;
mod decide;
mod event;
mod state;
#[cfg(test)]
mod tests;

pub use command::*;
pub use event::*;
pub use state::*;
