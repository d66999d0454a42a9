//! Which replica of the control plane does a duty. One stream for each duty; its id is
//! [`crate::keys::leadership_id`].

mod command;
mod decide;
mod event;
mod state;
#[cfg(test)]
mod tests;

pub use command::*;
pub use event::*;
pub use state::*;
