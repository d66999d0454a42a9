//! The seeds of level 2, as of level 1: a failure says what repeats it.

use std::{
    env,
    fmt::Debug,
    mem,
    ops::Range,
    str::FromStr,
    time::{Duration, Instant},
};

use rap_simulations::{
    kit::{Coverage, Left, Report, Violation, first_seed, search},
    level2::{COMMIT, Mutation, PLANT, RUNS, SECONDS, SEED, SEEDS, SEEDS_OF_A_COMMIT, Scenario},
};

use crate::meshes::record::Record;

/// A seed is one history.
const HISTORY: &str = "history";

/// Everything that a run follows from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Options {
    pub(crate) seed: u64,
    pub(crate) plant: Option<Mutation>,
}

/// A seed of which nothing is planted.
pub(crate) const fn seed(seed: u64) -> Options {
    Options { seed, plant: None }
}

/// What the environment asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Asked {
    seeds: Range<u64>,
    limit: Option<Duration>,
    /// Of each seed.
    runs: u64,
    plant: Option<Mutation>,
    /// It asks for nothing else than the seeds that are looked at for each commit.
    is_usual: bool,
    /// Those that follow from the commit.
    of_commit: Option<Range<u64>>,
}

impl Asked {
    fn read(scenario: Scenario, usual: u64, variable: impl Fn(&str) -> Option<String>) -> Self {
        let [one, many, seconds, runs] = [SEED, SEEDS, SECONDS, RUNS]
            .map(|name| variable(name).map(|text| parsed::<u64>(name, &text)));
        let plant = variable(PLANT).map(|text| parsed::<Mutation>(PLANT, &text));
        if let Some(plant) = plant {
            let known = scenario.plants;
            assert!(known.contains(&plant), "{} has the planted bugs {known:?}", scenario.name);
        }
        let seeds = match (one, many) {
            (Some(seed), _) => seed..seed + 1,
            (None, Some(seeds)) => 0..seeds,
            (None, None) if seconds.is_some() => 0..u64::MAX,
            (None, None) => 0..usual,
        };
        let is_usual = plant.is_none() && seeds == (0..usual);
        let (limit, runs) = (seconds.map(Duration::from_secs), runs.unwrap_or(1));
        let first = variable(COMMIT).filter(|_| is_usual).map(|commit| first_seed(&commit));
        let of_commit = first.map(|first| first..first + SEEDS_OF_A_COMMIT);
        Self { seeds, limit, runs, plant, is_usual, of_commit }
    }
}

fn parsed<T: FromStr<Err: Debug>>(name: &str, text: &str) -> T {
    text.parse().unwrap_or_else(|error| panic!("{name} is {text:?}: {error:?}"))
}

/// Seeds from 0, as many as usual, and some of the commit, or those that the environment asks for. Returns how
/// much happened in the usual ones.
///
/// # Panics
/// With the report of a seed that fails.
pub(crate) fn expect_nothing(
    scenario: Scenario,
    usual: u64,
    run: impl Fn(Options) -> Report + Sync,
) -> Option<Coverage> {
    let Asked { seeds, limit, runs, plant, is_usual, of_commit } =
        Asked::read(scenario, usual, |name| env::var(name).ok());
    let run = |seed| repeated(runs, || run(Options { seed, plant }));
    let coverage = look(scenario, seeds, limit, &run);
    if let Some(seeds) = of_commit {
        look(scenario, seeds, limit, &run);
    }
    is_usual.then_some(coverage)
}

fn look(
    scenario: Scenario,
    seeds: Range<u64>,
    limit: Option<Duration>,
    run: impl Fn(u64) -> Report + Sync,
) -> Coverage {
    let (first, begun) = (seeds.start, Instant::now());
    let found = search(seeds, limit.map(|limit| begun + limit), run);
    println!(
        "{}: {} seeds from {first} in {:.1} s, {} simulated seconds\n{}",
        scenario.name,
        found.tried,
        begun.elapsed().as_secs_f64(),
        found.simulated.as_secs(),
        found.coverage,
    );
    found.expect_nothing();
    found.coverage
}

/// So many runs of one seed, which have to be one history. Returns the first, or the first that failed.
fn repeated(runs: u64, run: impl Fn() -> Report) -> Report {
    let mut first = run();
    for _ in 1..runs {
        if first.violation.is_some() {
            break;
        }
        let again = run();
        if again.violation.is_some() {
            return again;
        }
        let [one, other] = [&first, &again].map(|report| (report.digest, report.events));
        if one != other {
            let detail = format!("{} events in one run, and {} in another one", one.1, other.1);
            first.violation = Some(Violation::new(HISTORY, detail));
        }
    }
    first
}

/// Within the usual seeds the bug is found, and by the checker that is there for it.
pub(crate) fn expect_bug(
    plant: Mutation,
    checkers: &[&str],
    usual: u64,
    run: impl Fn(Options) -> Report + Sync,
) {
    let run = |seed| run(Options { seed, plant: Some(plant) });
    search(0..usual, None, run).expect_bug(plant, checkers);
}

/// Of a run that this was seen of.
pub(crate) fn report(
    scenario: Scenario,
    options: Options,
    record: &Record,
    outcome: Result<Coverage, Violation>,
    mix: String,
) -> Report {
    let mut seen = record.lock();
    let simulated = seen.last;
    let traffic = seen.traffic.digest();
    // The report's hash is of all that was seen.
    seen.story.note(simulated, format_args!("the traffic's hash is {traffic}"));
    let (coverage, violation) = match outcome {
        Ok(coverage) => (coverage, None),
        Err(violation) => (Coverage::default(), Some(violation)),
    };
    let events = seen.story.count() + seen.traffic.count();
    let trace = mem::take(&mut seen.story);
    let simulated = simulated.since(rap_proto::Moment::default());
    let left = Left { violation, trace, coverage, events, simulated };
    let name = format!("--scenario {}", scenario.name);
    Report::new(left, &name, options.seed, options.plant, mix)
}

#[test]
fn the_environment_chooses_seeds_and_a_planted_bug_of_the_scenario() {
    use rap_simulations::level2::AGENTS;
    let asked = |set: &[(&str, &str)]| {
        let variable = |name: &str| {
            set.iter().find(|(known, _)| *known == name).map(|(_, text)| (*text).to_owned())
        };
        Asked::read(AGENTS, 3, variable)
    };
    let usual =
        Asked { seeds: 0..3, limit: None, runs: 1, plant: None, is_usual: true, of_commit: None };
    assert_eq!(asked(&[]), usual);
    let first = first_seed("c0ffee");
    assert_ne!(first, first_seed("c0ffef"));
    let of_commit = Some(first..first + SEEDS_OF_A_COMMIT);
    assert_eq!(asked(&[(COMMIT, "c0ffee")]), Asked { of_commit, ..usual.clone() });
    let plant = Some(Mutation::DriverGoesOn);
    let one = Asked { seeds: 7..8, plant, is_usual: false, ..usual.clone() };
    let repeated = [(SEED, "7"), (PLANT, "driver-goes-on"), (COMMIT, "c0ffee")];
    assert_eq!(asked(&repeated), one);
    let limit = Some(Duration::from_secs(9));
    let timed = Asked { seeds: 0..u64::MAX, limit, is_usual: false, ..usual.clone() };
    assert_eq!(asked(&[(SECONDS, "9")]), timed);
    assert_eq!(asked(&[(SEEDS, "50")]).seeds, 0..50);
    assert_eq!(asked(&[(RUNS, "2")]), Asked { runs: 2, ..usual });
}

#[test]
fn a_seed_that_is_two_histories_is_found() {
    use std::cell::Cell;
    let runs = Cell::new(0);
    let run = |changes_at: u32| {
        runs.set(runs.get() + 1);
        let record = Record::default();
        record.note_at(rap_proto::Moment::default(), format_args!("{}", runs.get() >= changes_at));
        let outcome = Ok(Coverage::default());
        report(rap_simulations::level2::LANES, seed(0), &record, outcome, String::new())
    };
    assert_eq!(repeated(3, || run(4)).violation, None);
    assert_eq!(runs.take(), 3);
    let found = repeated(3, || run(3)).violation.map(|violation| violation.checker);
    assert_eq!((found, runs.get()), (Some(HISTORY), 3));
}

#[test]
#[should_panic(expected = "agents has the planted bugs")]
fn a_bug_of_another_scenario_is_not_planted() {
    let variable = |name: &str| (name == PLANT).then(|| "taken-in-twice".to_owned());
    Asked::read(rap_simulations::level2::AGENTS, 3, variable);
}
