//! The scenarios of level 2, and the bugs that are planted there.
//!
//! What runs is among this crate's tests, with everything that only they depend on: whole agents, the mesh,
//! the network and the clock. A test looks at the seeds of its scenario, or at those that these variables of
//! the environment ask for, which `cargo xtask sim --scenario NAME` sets.

use crate::kit::mutation::mutations;

/// Run this seed only.
pub const SEED: &str = "RAP_SIM_SEED";
/// Run so many seeds, from 0.
pub const SEEDS: &str = "RAP_SIM_SEEDS";
/// Run as many seeds as fit into so many seconds.
pub const SECONDS: &str = "RAP_SIM_SECONDS";
/// Run each seed so often: it has to be one history each time.
pub const RUNS: &str = "RAP_SIM_RUNS";
/// With the usual seeds also so many that follow from this text, such as a commit's hash …
pub const COMMIT: &str = "RAP_SIM_COMMIT";
/// … of each scenario.
pub const SEEDS_OF_A_COMMIT: u64 = 2;
/// Plant this bug, which the checkers should find.
pub const PLANT: &str = "RAP_SIM_PLANT";

/// A scenario, as one names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scenario {
    pub name: &'static str,
    /// The bugs that are planted there.
    pub plants: &'static [Mutation],
}

/// A lane of the mesh through relays that crash.
pub const LANES: Scenario = Scenario { name: "lanes", plants: &[] };
/// Channels of messages on it.
pub const MESSAGES: Scenario = Scenario { name: "messages", plants: &[] };
/// Whole agents that carry a connection by turns.
pub const AGENTS: Scenario = Scenario {
    name: "agents",
    plants: &[
        Mutation::AnsweredBeforeWritten,
        Mutation::FloorNotWritten,
        Mutation::StateRolledBack,
        Mutation::OldGenerationSent,
        Mutation::DriverGoesOn,
        Mutation::ActorPanics,
    ],
};
/// Clients with sessions through whole agents.
pub const SESSIONS: Scenario =
    Scenario { name: "sessions", plants: &[Mutation::TakenInTwice, Mutation::SessionNotClosed] };

mutations! {
    /// What waits for a disk is answered at once, and is there a little later, unless the power goes.
    AnsweredBeforeWritten = "answered-before-written",
    /// A snapshot is applied, and its floor is not on the disk.
    FloorNotWritten = "floor-not-written",
    /// A node that crashed starts again from the state directory that it had long before.
    StateRolledBack = "state-rolled-back",
    /// A driver that is activated again goes on under the generation that it had first.
    OldGenerationSent = "old-generation-sent",
    /// A driver asks no gate, and does not stop.
    DriverGoesOn = "driver-goes-on",
    /// An actor panics once, at what it does for the first time.
    ActorPanics = "actor-panics",
    /// A resource takes in again what it took in before.
    TakenInTwice = "taken-in-twice",
    /// A client that is done does not close its session.
    SessionNotClosed = "session-not-closed",
}
