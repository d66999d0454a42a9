//! Runs the simulation over one seed, a number of seeds, or for some minutes.

use std::{
    num::NonZero,
    process::ExitCode,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use clap::Parser;
use rap_proto::Digest;
use rap_simulations::{Mutation, Options, Report, run};

const DEFAULT_SEEDS: u64 = 1_000;

/// Searches for histories in which an invariant does not hold.
#[derive(Debug, Parser)]
struct Arguments {
    /// Run this seed only, and show what happened.
    #[arg(long, conflicts_with_all = ["seeds", "minutes", "commit"])]
    seed: Option<u64>,
    /// How many seeds to run, from 0 [default: 1000].
    #[arg(long)]
    seeds: Option<u64>,
    /// Run as many seeds as fit into so many minutes.
    #[arg(long)]
    minutes: Option<u64>,
    /// Begin at a seed that follows from this text, such as a commit's hash, and not at 0.
    #[arg(long)]
    commit: Option<String>,
    /// Plant a bug, which the checkers should find.
    #[arg(long)]
    plant: Option<Mutation>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if let Some(seed) = arguments.seed {
        let report = run(Options { seed, mutation: arguments.plant });
        println!("{report}");
        return verdict(report.violation.is_none());
    }
    let first = arguments.commit.as_deref().map_or(0, first_seed);
    let seeds = match (arguments.seeds, arguments.minutes) {
        (Some(seeds), _) => seeds,
        (None, Some(_)) => u64::MAX - first,
        (None, None) => DEFAULT_SEEDS,
    };
    let deadline =
        arguments.minutes.map(|minutes| Instant::now() + Duration::from_secs(60 * minutes));
    search(first, seeds, deadline, arguments.plant)
}

/// Spread over the processors; the first violation ends the search.
fn search(first: u64, seeds: u64, deadline: Option<Instant>, plant: Option<Mutation>) -> ExitCode {
    let (next, failed) = (AtomicU64::new(0), AtomicBool::new(false));
    let begun = Instant::now();
    let workers = thread::available_parallelism().map_or(1, NonZero::get);
    let reports: Vec<Report> = thread::scope(|scope| {
        let worker = || {
            while !failed.load(Ordering::Relaxed) && deadline.is_none_or(|at| Instant::now() < at) {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= seeds {
                    return None;
                }
                let report = run(Options { seed: first + number, mutation: plant });
                if report.violation.is_some() {
                    failed.store(true, Ordering::Relaxed);
                    return Some(report);
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
    for report in &reports {
        println!("{report}\n");
    }
    let tried = next.load(Ordering::Relaxed).min(seeds);
    println!("{tried} seeds from {first} in {:.1} s", begun.elapsed().as_secs_f64());
    verdict(reports.is_empty())
}

/// Leaves room above for any number of seeds.
fn first_seed(text: &str) -> u64 {
    let digest = Digest::of(text.as_bytes());
    let bytes: [u8; 8] = digest.as_bytes()[..8].try_into().expect("a digest has 32 bytes");
    u64::from_be_bytes(bytes) >> 16
}

fn verdict(held: bool) -> ExitCode {
    if held { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
