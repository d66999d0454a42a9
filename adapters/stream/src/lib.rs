//! The byte-stream adapter worker for ssh, web and tcp resources.
//!
//! A process of its own that the node agent starts: it holds no credential, knows no user and no
//! policy, and dials what the agent asks for within the address rules of the adapter contract.
//! One Unix connection is one channel, whose bytes pass over it or by the target's socket itself,
//! which the agent is then given. The worker lives as long as its control connection.

mod channel;
mod control;
mod frames;
mod hand;
pub mod program;
mod socket;
mod splice;
mod stop;
mod target;
mod worker;

pub use socket::SocketError;
pub use target::MAX_RESOLUTIONS;
pub use worker::{MAX_PENDING, Options, WorkerError, run};
