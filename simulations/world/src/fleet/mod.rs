//! The scenario "fleet".
//!
//! Ten nodes, or as many as one asks for, keep their peers with the real
//! [`PeerBook`](rap_mesh_core::peers::PeerBook) over a network in which nodes crash and come back
//! with what was on their disk, regions go dark, links lose in one direction or flap, nodes are
//! withdrawn from the directory, one relay answers fast and swallows what it should forward, all, half
//! or in turns, and one takes nobody more. Then nothing fails, but the liar lies on and the full relay stays full: every
//! node comes to have the peers that it needs, its choice of a relay forwards, and nobody changes
//! peers any more.
//!
//! Some relays are for one of two organizations alone, and every lane is one organization's. Where
//! every node knows all that it may know, entries set paths up, over one relay or several in a row; in
//! some fleets one egress is reached over two or three of them alone.
//!
//! While things go wrong the platform says other counts and weights, and relays are given to others and
//! taken from some; soon after, nobody does any more what that forbids.
//!
//! Control hears which nodes live, and shows one organization what it shows organizations: one word of
//! three, which no relay, no peer and no path may change.
//!
//! What the model leaves out: bytes. A question is answered after a round trip or not at all; how
//! the shell asks is tested with real connections.

pub mod checkers;
mod choice;
mod directory;
pub mod faults;
mod judge;
pub mod lie;
mod machines;
pub mod mutation;
pub mod network;
pub mod node;
pub mod organization;
mod path;
mod rules;
pub mod scope;
pub mod snapshot;
mod trouble;
pub mod world;

use crate::kit::{self, Report};

pub use lie::Lie;
pub use mutation::Mutation;

/// How many nodes a run has when nobody says otherwise.
pub const NODES: usize = 10;
/// What goes wrong.
pub const FAULT_KINDS: [&str; 13] = [
    "crash",
    "regional outage",
    "one-way loss",
    "flapping link",
    "withdrawal",
    Lie::SwallowsAll.as_str(),
    Lie::LosesHalf.as_str(),
    Lie::SwallowsInTurns.as_str(),
    "a full relay",
    "gone for good",
    "an egress behind relays",
    "other counts and weights",
    "another scope",
];
/// The heading under which is counted what machines wanted to be done.
pub const EFFECTS: &str = "effects";
pub const EFFECT_KINDS: [&str; 7] =
    ["heartbeat", "probe", "probe through", "release", "refresh", "discover", "persist"];
/// The heading of the steps of recoveries, and of their ends.
pub const RECOVERY: &str = "recovery";
/// The end of a recovery.
pub const REACHED: &str = "reached";
/// The heading of the relays that lanes are led over.
pub const RELAYS: &str = "relays";
/// Of them those that are for everybody, and those that are for one organization alone.
pub const EVERYBODY: &str = "everybody's";
pub const ONE_ALONE: &str = "one organization's alone";
/// The heading of how many relays lanes are led over.
pub const HOPS: &str = "relays in a row";
pub const HOP_COUNTS: [&str; 3] = ["one", "two", "three"];
/// The heading of the relays that were found by probing through them, by their lie.
pub const FOUND: &str = "found";
/// The heading under which is counted what the organization was shown.
pub const VIEWS: &str = "views";

/// Everything that a run follows from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    pub seed: u64,
    pub nodes: usize,
    /// A bug to plant, for testing the checkers.
    pub mutation: Option<Mutation>,
}

/// Runs the scenario once.
pub fn run(options: Options) -> Report {
    let scenario = format!("--scenario fleet --nodes {}", options.nodes);
    kit::run(world::World::new(options), options.seed, &scenario)
}
