//! The scenario "fleet".
//!
//! Ten nodes, or as many as one asks for, keep their peers with the real
//! [`PeerBook`](rap_mesh_core::peers::PeerBook) over a network in which nodes crash and come back
//! with what was on their disk, regions go dark, links lose in one direction or flap, nodes are
//! withdrawn from the directory, one relay answers fast and swallows what it should forward, and one
//! takes nobody more. Then nothing fails, but the liar lies on and the full relay stays full: every
//! node comes to have the peers that it needs, its choice of a relay forwards, and nobody changes
//! peers any more.
//!
//! What the model leaves out: bytes. A question is answered after a round trip or not at all; how
//! the shell asks is tested with real connections.

pub mod checkers;
pub mod coverage;
pub mod faults;
pub mod mutation;
pub mod network;
pub mod node;
pub mod run;
mod trouble;
pub mod world;

pub use coverage::Coverage;
pub use mutation::Mutation;
pub use run::{Options, Report, run};
