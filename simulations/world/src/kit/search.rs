//! Many seeds, on every processor.

use std::{
    fmt::Display,
    num::NonZero,
    ops::Range,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use rap_proto::Digest;

use super::{Coverage, Report};

/// What many seeds came to.
#[derive(Debug, Default)]
pub struct Found {
    pub tried: u64,
    pub simulated: Duration,
    pub coverage: Coverage,
    /// Of each processor at most one: the search ends with the first.
    pub failures: Vec<Report>,
}

/// Runs each of these seeds, until one fails or it is too late.
pub fn search(
    seeds: Range<u64>,
    deadline: Option<Instant>,
    run: impl Fn(u64) -> Report + Sync,
) -> Found {
    let (next, failed) = (AtomicU64::new(seeds.start), AtomicBool::new(false));
    let worker = || {
        let mut found = Found::default();
        while !failed.load(Ordering::Relaxed) && deadline.is_none_or(|at| Instant::now() < at) {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds.end {
                break;
            }
            let report = run(seed);
            failed.fetch_or(report.violation.is_some(), Ordering::Relaxed);
            found.take_in(report);
        }
        found
    };
    let workers = thread::available_parallelism().map_or(1, NonZero::get);
    thread::scope(|scope| {
        let running: Vec<_> = (0..workers).map(|_| scope.spawn(worker)).collect();
        let mut all = Found::default();
        for worker in running {
            all.add(worker.join().expect("a run does not panic"));
        }
        all
    })
}

/// The first of the seeds that follow from a text, such as a commit's hash. Leaves room above for any
/// number of them.
pub fn first_seed(text: &str) -> u64 {
    let digest = Digest::of(text.as_bytes());
    let bytes: [u8; 8] = digest.as_bytes()[..8].try_into().expect("a digest has 32 bytes");
    u64::from_be_bytes(bytes) >> 16
}

impl Found {
    /// # Panics
    /// With the report of a seed that fails.
    pub fn expect_nothing(&self) {
        if let Some(report) = self.failures.first() {
            panic!("\n{report}");
        }
    }

    /// # Panics
    /// When the planted bug was not found, or by none of the checkers that are there for it.
    pub fn expect_bug(&self, bug: impl Display, checkers: &[&str]) {
        let violation = self.failures.iter().find_map(|report| report.violation.as_ref());
        let Some(violation) = violation else { panic!("{bug} was not found") };
        println!("{bug}: {violation}, after {} seeds", self.tried);
        assert!(checkers.contains(&violation.checker), "{bug}: {violation}");
    }

    fn take_in(&mut self, report: Report) {
        self.tried += 1;
        self.simulated += report.simulated;
        self.coverage.add(&report.coverage);
        if report.violation.is_some() {
            self.failures.push(report);
        }
    }

    fn add(&mut self, other: Self) {
        self.tried += other.tried;
        self.simulated += other.simulated;
        self.coverage.add(&other.coverage);
        self.failures.extend(other.failures);
    }
}
