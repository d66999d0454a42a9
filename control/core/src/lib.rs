//! Projections, authorization, the snapshot compiler and the issue of access tokens.
//!
//! Everything that the control plane decides from the log is decided here, by pure functions over
//! one [`State`]:
//!
//! - [`state`] folds the log; [`State::to_bytes`] proves that a replay equals the live state.
//! - [`authorization`] says who may do what, and with which rule; what somebody may not know of is
//!   answered as if it were absent.
//! - [`access`] applies the access policies, chooses entries and egresses, and builds the claims
//!   of an access token.
//! - [`snapshot`] compiles what one node is told, and knows which nodes an event concerns.
//! - [`process`] says what follows from the state and the time: sessions to conclude, sessions to
//!   terminate, logins to close, snapshots to renew.
//! - [`leadership`] says when one replica may do what only one of them does.
//! - [`lease`] decides which node holds which connection, and says why.
//! - [`observation`] turns what nodes report into commands, once.
//! - [`beat`] proposes, votes for and collects the authority beat.
//! - [`quota`] says how much an organization may take of what all share.
//! - [`rate`] says whether somebody asks too often.
//! - [`rebuild`] folds everything anew beside the living state, and exchanges the two.
//! - [`rules`] compiles and asks policies in the Cedar language.
//! - [`tree_head`] judges the log by what it was once seen to be.
//! - [`audit`] shows an event to people without its secrets.
//!
//! The crate reads no clock, draws no random number, opens nothing: `now`, ids and what is known
//! of the nodes' health are arguments.

pub mod access;
pub mod audit;
pub mod authorization;
pub mod beat;
pub mod leadership;
pub mod lease;
pub mod observation;
pub mod process;
pub mod quota;
pub mod rate;
pub mod rebuild;
pub mod rules;
pub mod snapshot;
pub mod state;
pub mod tree_head;
#[cfg(test)]
#[path = "tests/world.rs"]
mod world;

pub use access::{AccessIds, AccessRequest, Authorized, Denied, Liveness, authorize_session};
pub use authorization::{Action, Decision, Principal, Rule, Target, authorize};
pub use snapshot::{Compiled, Compiler, NotCompiled, compile};
pub use state::{Corrupt, State};
