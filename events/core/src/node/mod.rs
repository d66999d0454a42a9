//! A node: an enrolled host, from its request to its revocation. Its stream's id is its own.
//!
//! What a host can do (capabilities) is reported by it; what it may do (roles, pools) is assigned
//! to it. A certificate proves which node it is and nothing else.

mod command;
mod decide;
mod event;
mod scope;
mod state;
#[cfg(test)]
mod tests;

pub use command::*;
pub use event::*;
pub(crate) use scope::ScopeFault;
pub use state::*;
