//! One seed, from its number to a verdict.

use std::{fmt, time::Duration};

use rap_proto::Digest;

use crate::checkers::Violation;

use super::{coverage::Coverage, faults::FaultMix, mutation::Mutation, world::World};

/// How many nodes a run has when nobody says otherwise.
pub const NODES: usize = 10;

/// Everything that a run follows from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    pub seed: u64,
    pub nodes: usize,
    /// A bug to plant, for testing the checkers.
    pub mutation: Option<Mutation>,
}

/// What a run came to.
#[derive(Debug)]
pub struct Report {
    pub options: Options,
    pub mix: FaultMix,
    pub violation: Option<Violation>,
    /// The last lines of the trace.
    pub lines: Vec<String>,
    /// A hash over the whole trace: the same for the same options.
    pub digest: Digest,
    pub coverage: Coverage,
    pub events: u64,
    pub simulated: Duration,
}

/// Runs the scenario once.
pub fn run(options: Options) -> Report {
    let end = World::new(options).run();
    Report {
        options,
        mix: end.mix,
        violation: end.violation,
        digest: end.trace.digest(),
        lines: end.trace.into_lines(),
        coverage: end.coverage,
        events: end.events,
        simulated: end.simulated,
    }
}

impl fmt::Display for Report {
    /// For a failure: the options, what happened last, and the command that repeats it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Options { seed, nodes, mutation } = self.options;
        for line in &self.lines {
            writeln!(f, "  {line}")?;
        }
        writeln!(f, "seed {seed}, {nodes} nodes: {}", self.mix)?;
        match &self.violation {
            Some(violation) => writeln!(f, "violated: {violation}")?,
            None => writeln!(f, "every invariant held")?,
        }
        write!(f, "again: cargo xtask sim --scenario fleet --nodes {nodes} --seed {seed}")?;
        match mutation {
            Some(mutation) => write!(f, " --plant {mutation}"),
            None => Ok(()),
        }
    }
}
