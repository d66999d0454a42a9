//! A session: one authorized access, from the request to its end. Its stream's id is its own.
//!
//! ```text
//! requested ─┬─ denied
//!            └─ authorized ─┬─ started ── ended
//!                           ├─ terminated ── ended
//!                           └─ ended (not used)
//! ```
//!
//! Authority requests, authorizes, denies, refreshes and terminates. Starts, refusals and ends are
//! what nodes saw, and arrive late when control or the bus was away: an observation is recorded
//! whenever it comes, once.

mod basis;
mod command;
mod decide;
mod event;
mod state;
#[cfg(test)]
mod tests;

pub use basis::*;
pub use command::*;
pub use event::*;
pub use state::*;
