//! The node agent: an actor system around the machines of `rap-agent-core`.
//!
//! ```text
//! join(JoinOptions, on_pending) -> Joined        keys, CSR, approval, certificate; once per host
//! run(RunOptions, shutdown, on_ready)            this thread becomes the agent until shutdown
//! start(RunOptions) -> RunningAgent              the same on a thread of its own
//!     .ready().await   -> Ready { node, address }
//!     .stop().await                              graceful, bounded by `drain_limit`
//! ```
//!
//! Several agents run in one process, each with its own actix system: nothing in this crate is
//! global to the process.

pub mod options;

pub use options::{BusChoice, ControlUrl, JoinOptions, Joined, RunOptions};
