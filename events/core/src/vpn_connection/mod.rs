//! A connection that one node at a time carries: its wishes, and who holds its lease.
//!
//! The stream alone says which node could be active when: [`crate::lease::Tenure`].

mod command;
mod decide;
mod event;
mod state;
#[cfg(test)]
mod tests;

pub use command::*;
pub use event::*;
pub use state::*;
