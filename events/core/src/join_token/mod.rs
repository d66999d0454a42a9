//! A join token: lets one host ask for enrollment, once. Its stream's id is its own.
//!
//! Two hosts that show one token at once race for the same revision of this stream: one append
//! wins, the other decides again over a used token and is rejected.

mod command;
mod decide;
mod event;
mod state;
#[cfg(test)]
mod tests;

pub use command::*;
pub use event::*;
pub use state::*;
