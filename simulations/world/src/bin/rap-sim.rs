//! Runs the simulations over one seed, a number of seeds, or for some minutes.

use std::{
    fmt::Display,
    process::ExitCode,
    str::FromStr,
    time::{Duration, Instant},
};

use clap::{Parser, ValueEnum};
use mimalloc::MiMalloc;
use rap_simulations::{
    Mutation, Options, beat, fleet, joint,
    kit::{Report, first_seed, search},
    lease,
};
use rustix::time::{ClockId, clock_gettime};

/// A world makes and drops small things all day.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

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
    /// Print only how fast the simulation was, as a line for `cargo xtask bench`.
    #[arg(long, conflicts_with = "seed")]
    figure: bool,
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
    /// Log, replicas, snapshots, leases and sessions together.
    Joint,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let scenarios = match (arguments.scenario, &arguments.plant) {
        (Some(scenario), _) => vec![scenario],
        // A planted bug or a seed alone is one of the first scenario's.
        (None, Some(_)) => vec![Scenario::Fabric],
        (None, None) if arguments.seed.is_some() => vec![Scenario::Fabric],
        (None, None) => Scenario::value_variants().to_vec(),
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
    Ok(match scenario {
        Scenario::Fabric => {
            let mutation = planted(arguments, Mutation::ALL)?;
            look("fabric", arguments, |seed| rap_simulations::run(Options { seed, mutation }))
        }
        Scenario::Leases => {
            let mutation = planted(arguments, lease::Mutation::ALL)?;
            look("leases", arguments, |seed| lease::run(lease::Options { seed, mutation }))
        }
        Scenario::Beat => {
            let mutation = planted(arguments, beat::Mutation::ALL)?;
            look("beat", arguments, |seed| beat::run(beat::Options { seed, mutation }))
        }
        Scenario::Fleet => {
            let mutation = planted(arguments, fleet::Mutation::ALL)?;
            let nodes = arguments.nodes.map_or(fleet::NODES, |nodes| nodes as usize);
            look("fleet", arguments, |seed| fleet::run(fleet::Options { seed, nodes, mutation }))
        }
        Scenario::Joint => {
            let mutation = planted(arguments, Mutation::ALL)?;
            look("joint", arguments, |seed| joint::run(joint::Options { seed, mutation }))
        }
    })
}

fn planted<M: Copy + Display + FromStr>(
    arguments: &Arguments,
    all: &[M],
) -> Result<Option<M>, String> {
    let parse = |text: &String| {
        text.parse().map_err(|_| {
            let known: Vec<_> = all.iter().map(M::to_string).collect();
            format!("no planted bug {text:?}; the bugs are: {}", known.join(", "))
        })
    };
    arguments.plant.as_ref().map(parse).transpose()
}

fn look(name: &str, arguments: &Arguments, run: impl Fn(u64) -> Report + Sync) -> bool {
    if let Some(seed) = arguments.seed {
        let report = run(seed);
        println!("{report}\n{}", report.coverage);
        return report.violation.is_none();
    }
    let (begun, used) = (Instant::now(), cpu_time());
    let first = arguments.commit.as_deref().map_or(0, first_seed);
    let end = match (arguments.seeds, arguments.minutes) {
        (Some(seeds), _) => first.saturating_add(seeds),
        (None, Some(_)) => u64::MAX,
        (None, None) => first + DEFAULT_SEEDS,
    };
    let deadline = arguments.minutes.map(|minutes| begun + Duration::from_secs(60 * minutes));
    let found = search(first..end, deadline, run);
    for report in &found.failures {
        println!("{report}\n");
    }
    let simulated = found.simulated.as_secs();
    let pace = found.simulated.as_secs_f64() / (cpu_time() - used).as_secs_f64();
    if arguments.figure {
        println!("sim_{name}\t{pace:.0}\tsimulated s per CPU-s");
    } else {
        println!(
            "{name}: {} seeds from {first} in {:.1} s, {simulated} simulated seconds, \
             {pace:.0} for each CPU-second\n{}",
            found.tried,
            begun.elapsed().as_secs_f64(),
            found.coverage,
        );
    }
    found.failures.is_empty()
}

/// What all threads of this program have used of processors.
fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}
