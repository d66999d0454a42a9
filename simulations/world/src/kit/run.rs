//! One seed, from its number to a verdict.

use std::{
    any::Any,
    fmt, mem,
    panic::{AssertUnwindSafe, catch_unwind},
    time::Duration,
};

use rap_proto::{Digest, Moment, key::remember_signatures};

use super::{Coverage, Stage, Trace, Verdict, Violation};

/// The run ended in a panic: the world is wrong, or what it runs is.
pub const PANIC: &str = "panic";

/// A scenario: who is there and what happens next.
pub trait World: Sized {
    type Event;
    /// A planted bug.
    type Mutation: Copy + PartialEq + fmt::Display;
    /// What goes wrong.
    type Mix: Clone + fmt::Debug;
    type Checkers: AsRef<Verdict>;

    fn stage(&mut self) -> &mut Stage<Self>;

    fn phases(&self) -> Phases;

    /// Schedules what comes first.
    fn begin(&mut self);

    fn happen(&mut self, event: Self::Event);

    /// From now on nothing goes wrong: everybody who is down comes back.
    fn stop_failing(&mut self);

    /// Everything must have come right.
    fn judge_recovery(&mut self);

    /// Nothing may have moved since.
    fn judge_calm(&mut self) {}

    /// Lets time pass, or as much of it as there is before the first violation.
    fn advance(&mut self, span: Duration) {
        let end = self.stage().now() + span;
        while let Some(event) = self.stage().next(end) {
            self.happen(event);
        }
    }
}

/// How long each part of a run takes that finds nothing, in simulated time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Phases {
    /// How long things go wrong.
    pub failing: Duration,
    /// How long everything then has to come right.
    pub recovery: Duration,
    /// How long nothing may move after that.
    pub calm: Duration,
}

/// Everything that a run follows from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options<M> {
    pub seed: u64,
    /// A bug to plant, for testing the checkers.
    pub mutation: Option<M>,
}

/// What a run came to.
#[derive(Debug)]
pub struct Report {
    pub violation: Option<Violation>,
    /// A hash over the whole trace: the same for the same options.
    pub digest: Digest,
    /// How much happened, for telling a run that proves something from an idle one.
    pub coverage: Coverage,
    pub events: u64,
    pub simulated: Duration,
    seed: u64,
    mix: String,
    /// The last lines of the trace.
    lines: Vec<String>,
    /// What repeats the run.
    command: String,
}

/// What a run left behind, in whatever way it was made.
#[derive(Debug, Default)]
pub struct Left {
    pub violation: Option<Violation>,
    pub trace: Trace,
    pub coverage: Coverage,
    pub events: u64,
    pub simulated: Duration,
}

impl Report {
    /// `scenario` is what one says to `cargo xtask sim` beside the seed and the planted bug; `mix` is what
    /// goes wrong.
    pub fn new(
        left: Left,
        scenario: &str,
        seed: u64,
        mutation: Option<impl fmt::Display>,
        mix: String,
    ) -> Self {
        let Left { violation, trace, coverage, events, simulated } = left;
        let plant = mutation.map_or(String::new(), |mutation| format!(" --plant {mutation}"));
        Self {
            violation,
            digest: trace.digest(),
            coverage,
            events,
            simulated,
            seed,
            mix,
            lines: trace.into_lines(),
            command: format!("cargo xtask sim {scenario} --seed {seed}{plant}"),
        }
    }
}

/// All phases, or as far as the first violation or panic. `scenario` is what one says to
/// `cargo xtask sim` beside the seed and the planted bug.
pub fn run<W: World>(mut world: W, seed: u64, scenario: &str) -> Report {
    remember_signatures();
    // After a panic only what was noted is looked at.
    let panicked = caught(|| all_phases(&mut world)).err();
    report(world.stage(), panicked, seed, scenario)
}

/// What comes of it; a panic is a violation.
pub fn caught<T>(what: impl FnOnce() -> T) -> Result<T, Violation> {
    catch_unwind(AssertUnwindSafe(what)).map_err(|panic| Violation::new(PANIC, said(&*panic)))
}

fn all_phases<W: World>(world: &mut W) {
    let Phases { failing, recovery, calm } = world.phases();
    world.begin();
    world.advance(failing);
    world.stage().note(format_args!("nothing fails any more"));
    world.stage().failing = false;
    world.stop_failing();
    world.advance(recovery);
    world.judge_recovery();
    world.advance(calm);
    world.judge_calm();
}

fn said(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("without a word")
}

fn report<W: World>(
    stage: &mut Stage<W>,
    panicked: Option<Violation>,
    seed: u64,
    scenario: &str,
) -> Report {
    let left = Left {
        // A panic after a violation may well follow from it.
        violation: stage.violation().cloned().or(panicked),
        trace: mem::take(&mut stage.trace),
        coverage: mem::take(&mut stage.coverage),
        events: stage.events(),
        simulated: stage.now().since(Moment::default()),
    };
    Report::new(left, scenario, seed, stage.mutation, format!("{:?}", stage.drawn))
}

impl fmt::Display for Report {
    /// For a failure: what happened last, the faults, and the command that repeats it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in &self.lines {
            writeln!(f, "  {line}")?;
        }
        writeln!(f, "seed {}: {}", self.seed, self.mix)?;
        match &self.violation {
            Some(violation) => writeln!(f, "violated: {violation}")?,
            None => writeln!(f, "every invariant held")?,
        }
        write!(f, "again: {}", self.command)
    }
}
