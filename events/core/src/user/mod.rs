//! A person's account: name, password verifier, invitation and platform roles.
//!
//! Its stream's id is the user's id. What a person may do in an organization is a membership.

mod command;
mod decide;
mod event;
mod state;
#[cfg(test)]
mod tests;

pub use command::*;
pub use event::*;
pub use state::*;
