//! Rates, and what they mean in bytes and in time.

use std::time::Duration;

/// The shortest queue that is aimed at. What is shorter cannot be told from a process that was not
/// scheduled at once.
pub const LEAST_QUEUE: Duration = Duration::from_micros(1_500);
/// The longest: a few datagrams of a slow link.
pub const MOST_QUEUE: Duration = Duration::from_millis(25);

/// The aim falls with the root of the rate. This is 2 ms at 100 Mbit/s: its square in µs², times
/// the rate in bytes per second.
const AIM: u64 = 2_000 * 2_000 * 12_500_000;

/// How many rounds a rate counts for.
const ROUNDS: usize = 3;

const MICROS: u64 = 1_000_000;

/// How long a queue a flow of this rate aims at, in bytes per second.
pub fn queue_aim(rate: u64) -> Duration {
    let aim = Duration::from_micros((AIM / rate.max(1)).isqrt());
    aim.clamp(LEAST_QUEUE, MOST_QUEUE)
}

/// Bytes per second.
pub(super) fn rate(bytes: u64, time: Duration) -> u64 {
    bytes.saturating_mul(MICROS) / micros(time).max(1)
}

/// The bytes that come in a time at this rate.
pub(super) fn held(rate: u64, time: Duration) -> u64 {
    rate.saturating_mul(micros(time)) / MICROS
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// The rates of the last rounds. The best counts: a round is slower than the path for many reasons
/// and faster for none that lasts.
#[derive(Debug, Clone, Default)]
pub(super) struct Rates {
    last: [u64; ROUNDS],
    next: usize,
}

impl Rates {
    /// A round that had less to send than fits says only that the path gives no less.
    pub(super) fn add(&mut self, rate: u64, is_paths_own: bool) {
        if is_paths_own || rate > self.best() {
            self.last[self.next] = rate;
            self.next = (self.next + 1) % ROUNDS;
        }
    }

    pub(super) fn best(&self) -> u64 {
        self.last.into_iter().max().unwrap_or(0)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.best() == 0
    }
}
