//! An access policy: who may reach what. What no policy permits is denied.

mod spec;
pub use spec::*;

mod command;
mod decide;
mod event;
mod state;
#[cfg(test)]
mod tests;

pub use command::*;
pub use event::*;
pub use state::*;
