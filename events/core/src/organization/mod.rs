//! An organization: a tenancy boundary. Its stream's id is its own.

mod bandwidth;
mod quotas;
pub use bandwidth::*;
pub use quotas::*;

mod command;
mod decide;
mod event;
mod state;
#[cfg(test)]
mod tests;

pub use command::*;
pub use event::*;
pub use state::*;
