//! Aggregates, the log's port and the in-memory log.
//!
//! Every change of authority is an event, and this crate is the only place where events are
//! decided. One folder per aggregate holds its commands, its events, its state and its rules;
//! [`handler`] runs any of them over any [`log::Log`]. What is stored is described by
//! [`catalogue`], and how a stored event of an older schema is read is part of its codec.
//!
//! The crate is pure: time, ids and randomness are arguments.

pub mod aggregate;
pub mod allowed;
pub mod api_token;
pub mod authority;
pub mod backup;
pub mod beat;
pub mod catalogue;
pub mod cluster;
#[cfg(any(test, feature = "conformance"))]
pub mod conformance;
pub mod entry;
pub mod export;
pub mod guessing;
pub mod handler;
pub mod heads;
pub mod join_token;
pub mod keys;
pub mod leadership;
pub mod lease;
pub mod log;
pub mod login;
pub mod membership;
pub mod memory;
pub mod node;
pub mod node_report;
pub mod organization;
pub mod personal;
pub mod policy;
pub mod pool;
pub mod resource;
pub mod sensitive;
pub mod session;
#[cfg(any(test, feature = "conformance"))]
pub mod tapped;
pub mod tree;
pub mod user;
pub mod vpn_connection;
pub mod witnessed;

#[cfg(test)]
mod tests;

pub use aggregate::{Aggregate, EventCodec};
pub use allowed::Allowed;
pub use beat::BeatTable;
pub use catalogue::DomainEvent;
pub use heads::Heads;
pub use lease::LeaseTable;
pub use log::{Actor, Append, AppendError, Appended, Envelope, Log, StreamId};
pub use memory::MemoryLog;
pub use personal::{Personal, SubjectKeys};
pub use sensitive::Sensitive;
pub use tree::Tree;
