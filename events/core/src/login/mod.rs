//! A login: one person on one device, until it is closed or expires. Its stream's id is its own.

mod command;
mod decide;
mod event;
mod state;
#[cfg(test)]
mod tests;

pub use command::*;
pub use event::*;
pub use state::*;
