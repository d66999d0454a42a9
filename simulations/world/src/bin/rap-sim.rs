//! Runs the simulations over one seed, a number of seeds, or for some minutes.

use std::{
    fmt::Display,
    num::NonZero,
    process::ExitCode,
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use clap::{Parser, ValueEnum};
use rap_proto::Digest;
use rap_simulations::{beat, fleet, lease};

const DEFAULT_SEEDS: u64 = 1_000;

/// Searches for histories in which an invariant does not hold.
#[derive(Debug, Parser)]
struct Arguments {
    /// Run this scenario only.
    #[arg(long, value_enum)]
    scenario: Option<Scenario>,
    /// Run this seed only, and show what happened.
    #[arg(long, conflicts_with_all = ["seeds", "minutes", "commit"])]
    seed: Option<u64>,
    /// How many seeds to run of each scenario, from 0 [default: 1000].
    #[arg(long)]
    seeds: Option<u64>,
    /// Run as many seeds as fit into so many minutes, for each scenario.
    #[arg(long)]
    minutes: Option<u64>,
    /// Begin at a seed that follows from this text, such as a commit's hash, and not at 0.
    #[arg(long)]
    commit: Option<String>,
    /// Plant a bug of the scenario, which the checkers should find.
    #[arg(long)]
    plant: Option<String>,
    /// How many nodes a fleet has [default: 10].
    #[arg(long, value_parser = clap::value_parser!(u32).range(10..=10_000))]
    nodes: Option<u32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Scenario {
    /// Enrollment, snapshots and sessions.
    Fabric,
    /// Leases: who is active for a connection.
    Leases,
    /// The authority beat: whose word counts.
    Beat,
    /// Peers and scores of a whole fleet.
    Fleet,
}

/// One run, as far as it concerns this program.
struct Outcome {
    report: Box<dyn Display + Send>,
    held: bool,
    simulated: Duration,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let scenarios = match (arguments.scenario, &arguments.plant) {
        (Some(scenario), _) => vec![scenario],
        // A planted bug or a seed alone is one of the first scenario's.
        (None, Some(_)) => vec![Scenario::Fabric],
        (None, None) if arguments.seed.is_some() => vec![Scenario::Fabric],
        (None, None) => vec![Scenario::Fabric, Scenario::Leases, Scenario::Beat, Scenario::Fleet],
    };
    for scenario in scenarios {
        match of(scenario, &arguments) {
            Ok(true) => {}
            Ok(false) => return ExitCode::FAILURE,
            Err(message) => {
                eprintln!("rap-sim: {message}");
                return ExitCode::from(2);
            }
        }
    }
    ExitCode::SUCCESS
}

/// Whether every invariant held.
fn of(scenario: Scenario, arguments: &Arguments) -> Result<bool, String> {
    let plant = arguments.plant.as_deref();
    match scenario {
        Scenario::Fabric => {
            let mutation =
                plant.map(|text| parse(text, rap_simulations::Mutation::ALL)).transpose()?;
            let run = |seed| {
                let report = rap_simulations::run(rap_simulations::Options { seed, mutation });
                let (held, simulated) = (report.violation.is_none(), rap_simulations::SIMULATED);
                Outcome { held, simulated, report: Box::new(report) }
            };
            Ok(search("fabric", arguments, run))
        }
        Scenario::Leases => {
            let mutation = plant.map(|text| parse(text, lease::Mutation::ALL)).transpose()?;
            let coverage = Mutex::new(lease::Coverage::default());
            let run = |seed| {
                let report = lease::run(lease::Options { seed, mutation });
                coverage.lock().expect("no run panics").add(&report.coverage);
                let (held, simulated) = (report.violation.is_none(), report.simulated);
                Outcome { held, simulated, report: Box::new(report) }
            };
            let held = search("leases", arguments, run);
            println!("{}", coverage.into_inner().expect("no run panics"));
            Ok(held)
        }
        Scenario::Beat => {
            let mutation = plant.map(|text| parse(text, beat::Mutation::ALL)).transpose()?;
            let coverage = Mutex::new(beat::Coverage::default());
            let run = |seed| {
                let report = beat::run(beat::Options { seed, mutation });
                coverage.lock().expect("no run panics").add(&report.coverage);
                let (held, simulated) = (report.violation.is_none(), report.simulated);
                Outcome { held, simulated, report: Box::new(report) }
            };
            let held = search("beat", arguments, run);
            println!("{}", coverage.into_inner().expect("no run panics"));
            Ok(held)
        }
        Scenario::Fleet => {
            let mutation = plant.map(|text| parse(text, fleet::Mutation::ALL)).transpose()?;
            let nodes = arguments.nodes.map_or(fleet::run::NODES, |nodes| nodes as usize);
            let coverage = Mutex::new(fleet::Coverage::default());
            let run = |seed| {
                let report = fleet::run(fleet::Options { seed, nodes, mutation });
                coverage.lock().expect("no run panics").add(&report.coverage);
                let (held, simulated) = (report.violation.is_none(), report.simulated);
                Outcome { held, simulated, report: Box::new(report) }
            };
            let held = search("fleet", arguments, run);
            println!("{}", coverage.into_inner().expect("no run panics"));
            Ok(held)
        }
    }
}

fn parse<M: Copy + Display + std::str::FromStr>(text: &str, all: &[M]) -> Result<M, String> {
    text.parse().map_err(|_| {
        let known: Vec<_> = all.iter().map(M::to_string).collect();
        format!("no planted bug {text:?}; the bugs are: {}", known.join(", "))
    })
}

fn search(name: &str, arguments: &Arguments, run: impl Fn(u64) -> Outcome + Sync) -> bool {
    if let Some(seed) = arguments.seed {
        let outcome = run(seed);
        println!("{}", outcome.report);
        return outcome.held;
    }
    let first = arguments.commit.as_deref().map_or(0, first_seed);
    let seeds = match (arguments.seeds, arguments.minutes) {
        (Some(seeds), _) => seeds,
        (None, Some(_)) => u64::MAX - first,
        (None, None) => DEFAULT_SEEDS,
    };
    let deadline =
        arguments.minutes.map(|minutes| Instant::now() + Duration::from_secs(60 * minutes));
    search_from(name, first, seeds, deadline, run)
}

/// Spread over the processors; the first violation ends the search.
fn search_from(
    name: &str,
    first: u64,
    seeds: u64,
    deadline: Option<Instant>,
    run: impl Fn(u64) -> Outcome + Sync,
) -> bool {
    let (next, failed) = (AtomicU64::new(0), AtomicBool::new(false));
    let simulated = AtomicU64::new(0);
    let begun = Instant::now();
    let workers = thread::available_parallelism().map_or(1, NonZero::get);
    let failures: Vec<Outcome> = thread::scope(|scope| {
        let worker = || {
            while !failed.load(Ordering::Relaxed) && deadline.is_none_or(|at| Instant::now() < at) {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= seeds {
                    return None;
                }
                let outcome = run(first + number);
                simulated.fetch_add(outcome.simulated.as_secs(), Ordering::Relaxed);
                if !outcome.held {
                    failed.store(true, Ordering::Relaxed);
                    return Some(outcome);
                }
            }
            None
        };
        let running: Vec<_> = (0..workers).map(|_| scope.spawn(worker)).collect();
        running
            .into_iter()
            .filter_map(|worker| worker.join().expect("a run does not panic"))
            .collect()
    });
    for failure in &failures {
        println!("{}\n", failure.report);
    }
    let tried = next.load(Ordering::Relaxed).min(seeds);
    println!(
        "{name}: {tried} seeds from {first} in {:.1} s on {workers} processors, {} simulated \
         seconds",
        begun.elapsed().as_secs_f64(),
        simulated.into_inner(),
    );
    failures.is_empty()
}

/// Leaves room above for any number of seeds.
fn first_seed(text: &str) -> u64 {
    let digest = Digest::of(text.as_bytes());
    let bytes: [u8; 8] = digest.as_bytes()[..8].try_into().expect("a digest has 32 bytes");
    u64::from_be_bytes(bytes) >> 16
}
