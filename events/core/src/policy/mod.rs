//! An access policy: who may reach what. What no policy permits is denied. It is written as lists
//! ([`PolicySpec`]) or as a document of rules ([`PolicyDocument`]), and may change from one to the other.

mod document;
mod spec;
pub use document::*;
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
