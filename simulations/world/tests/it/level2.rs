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
    kit::{Coverage, Left, Report, Violation, search},
    level2::{Mutation, PLANT, SECONDS, SEED, SEEDS, Scenario},
};

use crate::meshes::record::Record;

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
#[derive(Debug, PartialEq, Eq)]
struct Asked {
    seeds: Range<u64>,
    limit: Option<Duration>,
    plant: Option<Mutation>,
    /// It asks for nothing.
    is_usual: bool,
}

impl Asked {
    fn read(scenario: Scenario, usual: u64, variable: impl Fn(&str) -> Option<String>) -> Self {
        let [one, many, seconds] = [SEED, SEEDS, SECONDS]
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
        Self { seeds, limit: seconds.map(Duration::from_secs), plant, is_usual }
    }
}

fn parsed<T: FromStr<Err: Debug>>(name: &str, text: &str) -> T {
    text.parse().unwrap_or_else(|error| panic!("{name} is {text:?}: {error:?}"))
}

/// Seeds from 0, as many as usual, or those that the environment asks for. Returns how much happened in the
/// usual ones.
///
/// # Panics
/// With the report of a seed that fails.
pub(crate) fn expect_nothing(
    scenario: Scenario,
    usual: u64,
    run: impl Fn(Options) -> Report + Sync,
) -> Option<Coverage> {
    let Asked { seeds, limit, plant, is_usual } =
        Asked::read(scenario, usual, |name| env::var(name).ok());
    let (first, begun) = (seeds.start, Instant::now());
    let deadline = limit.map(|limit| begun + limit);
    let found = search(seeds, deadline, |seed| run(Options { seed, plant }));
    println!(
        "{}: {} seeds from {first} in {:.1} s, {} simulated seconds\n{}",
        scenario.name,
        found.tried,
        begun.elapsed().as_secs_f64(),
        found.simulated.as_secs(),
        found.coverage,
    );
    found.expect_nothing();
    is_usual.then_some(found.coverage)
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
    let usual = Asked { seeds: 0..3, limit: None, plant: None, is_usual: true };
    assert_eq!(asked(&[]), usual);
    let plant = Some(Mutation::DriverGoesOn);
    let one = Asked { seeds: 7..8, limit: None, plant, is_usual: false };
    assert_eq!(asked(&[(SEED, "7"), (PLANT, "driver-goes-on")]), one);
    let limit = Some(Duration::from_secs(9));
    let timed = Asked { seeds: 0..u64::MAX, limit, plant: None, is_usual: false };
    assert_eq!(asked(&[(SECONDS, "9")]), timed);
    assert_eq!(asked(&[(SEEDS, "50")]).seeds, 0..50);
}

#[test]
#[should_panic(expected = "agents has the planted bugs")]
fn a_bug_of_another_scenario_is_not_planted() {
    let variable = |name: &str| (name == PLANT).then(|| "taken-in-twice".to_owned());
    Asked::read(rap_simulations::level2::AGENTS, 3, variable);
}
