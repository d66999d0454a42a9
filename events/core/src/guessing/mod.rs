//! Wrong passwords, counted for the whole cluster: one stream with the cluster's id.
//!
//! What a stranger can cause is one event in a while, whatever is guessed and for whom, and the
//! same whether the names that were tried are anybody's or not.

mod command;
mod decide;
mod event;
mod state;
#[cfg(test)]
mod tests;

pub use command::*;
pub use event::*;
pub use state::*;
