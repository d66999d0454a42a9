//! The smallest world: somebody counts, once a second.

use std::{fmt, time::Duration};

use super::*;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mutation {
    /// Counts on after the end of all faults.
    NeverStops,
    /// Counts again at once, for ever.
    InCircles,
}

const STILL: &str = "still";
const MAX_EVENTS: u64 = 100;

struct Counting {
    stage: Stage<Self>,
    counted: u64,
}

struct Tick;

#[derive(Debug, Clone)]
struct NoFaults;

#[derive(Debug, Default)]
struct Checkers(Verdict);

impl Counting {
    fn report(seed: u64, mutation: Option<Mutation>) -> Report {
        let chance = Chance::new(seed, 1);
        let stage = Stage::new(mutation, chance, NoFaults, Checkers::default(), MAX_EVENTS);
        run(Self { stage, counted: 0 }, seed, "--scenario counting")
    }
}

impl World for Counting {
    type Event = Tick;
    type Mutation = Mutation;
    type Mix = NoFaults;
    type Checkers = Checkers;

    fn stage(&mut self) -> &mut Stage<Self> {
        &mut self.stage
    }

    fn phases(&self) -> Phases {
        let seconds = Duration::from_secs;
        Phases { failing: seconds(10), recovery: seconds(5), calm: seconds(5) }
    }

    fn begin(&mut self) {
        self.stage.within_secs(0, 1, Tick);
    }

    fn happen(&mut self, Tick: Tick) {
        let circles = self.stage.planted(Mutation::InCircles);
        if self.stage.failing || self.stage.planted(Mutation::NeverStops) {
            self.counted += 1;
            self.stage.note(format_args!("counts {}", self.counted));
            let next = Duration::from_secs(u64::from(!circles));
            self.stage.after(next, Tick);
        }
    }

    fn stop_failing(&mut self) {
        self.stage.coverage.count_many("counts", "while failing", self.counted);
    }

    fn judge_recovery(&mut self) {
        if self.counted > self.stage.coverage.of("counts", "while failing") {
            self.stage.checkers.0.violated(STILL, format!("counted {}", self.counted));
        }
    }
}

impl AsRef<Verdict> for Checkers {
    fn as_ref(&self) -> &Verdict {
        &self.0
    }
}

impl fmt::Display for Mutation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NeverStops => "never-stops",
            Self::InCircles => "in-circles",
        })
    }
}

#[test]
fn one_seed_is_one_history_and_another_seed_another() {
    let [one, again, other] = [4, 4, 5].map(|seed| Counting::report(seed, None));
    assert_eq!(one.violation, None);
    assert_eq!((one.digest, one.events), (again.digest, again.events));
    assert_ne!(one.digest, other.digest);
    assert_eq!(one.coverage.of("counts", "while failing"), 10);
    assert_eq!(one.simulated, Duration::from_secs(20), "all phases");
}

#[test]
fn a_violation_ends_the_run_and_the_report_says_how_to_see_it_again() {
    let report = Counting::report(4, Some(Mutation::NeverStops));
    assert_eq!(report.violation.as_ref().map(|found| found.checker), Some(STILL));
    assert_eq!(report.simulated, Duration::from_secs(15), "nothing moves after it");
    let text = report.to_string();
    let end = "seed 4: NoFaults\nviolated: still: counted 15\nagain: cargo xtask sim \
               --scenario counting --seed 4 --plant never-stops";
    assert!(text.ends_with(end), "{text}");
}

#[test]
fn a_world_that_runs_in_circles_is_stopped_and_the_report_names_its_seed() {
    let bug = |seed| (seed == 20).then_some(Mutation::InCircles);
    let found = search(3..1_000_000, None, |seed| Counting::report(seed, bug(seed)));
    let text = found.failures.first().map(ToString::to_string).unwrap_or_default();
    let end = "seed 20: NoFaults\nviolated: panic: the world runs in circles\nagain: cargo xtask \
               sim --scenario counting --seed 20 --plant in-circles";
    assert!(text.ends_with(end), "{text}");
    assert!(text.contains(" counts "), "what happened before it: {text}");
    assert!(found.tried < 1_000_000, "it ends the search");
}

#[test]
fn every_seed_is_tried_until_one_fails() {
    let held = search(3..40, None, |seed| Counting::report(seed, None));
    held.expect_nothing();
    assert_eq!((held.tried, held.simulated), (37, Duration::from_secs(37 * 20)));
    assert_eq!(held.coverage.of("counts", "while failing"), 37 * 10);

    let bug = |seed| (seed == 20).then_some(Mutation::NeverStops);
    let found = search(3..1_000_000, None, |seed| Counting::report(seed, bug(seed)));
    assert_eq!(found.failures.len(), 1);
    assert!(found.tried < 1_000_000, "it ends with the first");
    found.expect_bug(Mutation::NeverStops, &[STILL]);
}

#[test]
#[should_panic(expected = "violated: still")]
fn a_seed_that_fails_is_shown() {
    search(0..1, None, |seed| Counting::report(seed, Some(Mutation::NeverStops))).expect_nothing();
}

#[test]
#[should_panic(expected = "never-stops was not found")]
fn a_bug_that_nobody_finds_is_missed() {
    search(0..3, None, |seed| Counting::report(seed, None))
        .expect_bug(Mutation::NeverStops, &[STILL]);
}
