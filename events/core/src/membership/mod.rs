//! A user's role in one organization.
//!
//! One stream per pair, whose id is [`crate::keys::membership_id`].

mod command;
mod decide;
mod event;
mod state;
#[cfg(test)]
mod tests;

pub use command::*;
pub use event::*;
pub use state::*;
