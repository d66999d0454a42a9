//! One token bucket, as RFC 2697 has it, in whole numbers.

use std::time::Duration;

use rap_proto::{BitRate, Moment};

/// The most that is granted at once, in bytes; also what is read of a resource at once.
pub const MAX_GRANT: usize = 64 * 1024;
/// The least that somebody waits for who wants as much, in bytes: about a packet.
pub const MIN_GRANT: usize = 1_500;
/// How much a bucket holds: what flows in this time. Timers that are late by less cost nothing.
pub const BURST: Duration = Duration::from_millis(50);
/// What even the slowest bucket holds, in bytes.
pub const MIN_BURST: usize = 2 * MIN_GRANT;
/// How long somebody waits for a grant at least who wants more than flows in this time: a bucket
/// wakes its flows so often and not for each byte.
pub const QUANTUM: Duration = Duration::from_millis(4);

/// Tokens are bits times microseconds: a rate for a time is a plain product.
const BYTE: u64 = 8 * 1_000_000;

/// INVARIANT: `level` is never above the depth, so that in any time no more is taken than flowed
/// in it, and one burst.
#[derive(Debug, Clone)]
pub(crate) struct Bucket {
    /// Bits per second, from one to [`BitRate::MAX`].
    rate: u64,
    level: u64,
    at: Moment,
}

impl Bucket {
    pub(crate) fn full(rate: u64, now: Moment) -> Self {
        let rate = bounded(rate);
        Self { rate, level: depth(rate), at: now }
    }

    /// The same tokens at another rate.
    pub(crate) fn change(&mut self, rate: u64, now: Moment) {
        let rate = bounded(rate);
        self.level = self.level_at(now).min(depth(rate));
        self.at = self.at.max(now);
        self.rate = rate;
    }

    /// Bytes that may pass now.
    pub(crate) fn bytes(&self, now: Moment) -> usize {
        usize::try_from(self.level_at(now) / BYTE).unwrap_or(usize::MAX)
    }

    /// When so many bytes may pass, at most a whole bucket.
    pub(crate) fn ready(&self, now: Moment, bytes: usize) -> Moment {
        let tokens = tokens(bytes).min(depth(self.rate));
        let missing = tokens.saturating_sub(self.level_at(now));
        now + Duration::from_micros(missing.div_ceil(self.rate))
    }

    /// Takes what is there, and no more than `bytes`.
    pub(crate) fn take(&mut self, now: Moment, bytes: usize) {
        self.level = self.level_at(now).saturating_sub(tokens(bytes));
        self.at = self.at.max(now);
    }

    /// Puts back what was taken and not used, as far as it fits.
    pub(crate) fn put_back(&mut self, now: Moment, bytes: usize) {
        self.level = self.level_at(now).saturating_add(tokens(bytes)).min(depth(self.rate));
        self.at = self.at.max(now);
    }

    pub(crate) fn is_full(&self, now: Moment) -> bool {
        self.level_at(now) >= depth(self.rate)
    }

    /// What somebody waits for who wants no less.
    pub(crate) fn quantum(&self) -> usize {
        bytes_in(self.rate, QUANTUM).clamp(MIN_GRANT, MAX_GRANT)
    }

    fn level_at(&self, now: Moment) -> u64 {
        let elapsed = u64::try_from(now.since(self.at).as_micros()).unwrap_or(u64::MAX);
        let flowed = self.rate.saturating_mul(elapsed);
        self.level.saturating_add(flowed).min(depth(self.rate))
    }
}

/// The most that a bucket of this rate holds, in bytes.
pub fn burst(rate: BitRate) -> usize {
    burst_of(bounded(rate.bits_per_second()))
}

/// A share of a reserve can be below [`BitRate::MIN`], and what was sent is not believed blindly.
fn bounded(rate: u64) -> u64 {
    rate.clamp(1, BitRate::MAX.bits_per_second())
}

fn burst_of(rate: u64) -> usize {
    bytes_in(rate, BURST).max(MIN_BURST)
}

fn bytes_in(rate: u64, time: Duration) -> usize {
    // At most 100 Gbit/s for some milliseconds.
    (rate / 8 * time.as_millis() as u64 / 1_000) as usize
}

fn depth(rate: u64) -> u64 {
    tokens(burst_of(rate))
}

const fn tokens(bytes: usize) -> u64 {
    (bytes as u64).saturating_mul(BYTE)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn at(micros: u64) -> Moment {
        Moment::from_micros(micros)
    }

    fn rate(text: &str) -> u64 {
        text.parse::<BitRate>().unwrap().bits_per_second()
    }

    #[test]
    fn a_bucket_holds_a_burst_and_fills_at_its_rate() {
        let mut bucket = Bucket::full(rate("8mbit"), at(0));
        assert_eq!(bucket.bytes(at(0)), 50_000, "50 ms of a megabyte per second");
        bucket.take(at(0), 50_000);
        assert_eq!(bucket.bytes(at(0)), 0);
        assert_eq!(bucket.ready(at(0), 1_000), at(1_000));
        assert_eq!((bucket.bytes(at(999)), bucket.bytes(at(1_000))), (999, 1_000));
        assert_eq!(bucket.bytes(at(10_000_000)), 50_000, "no more than a burst");
        assert_eq!(bucket.ready(at(0), 60_000), at(50_000), "more than it holds is never there");
    }

    #[test]
    fn what_is_put_back_is_there_again_and_never_more_than_a_burst() {
        let mut bucket = Bucket::full(rate("8mbit"), at(0));
        bucket.take(at(0), 50_000);
        bucket.put_back(at(0), 20_000);
        assert_eq!(bucket.bytes(at(0)), 20_000);
        bucket.put_back(at(0), usize::MAX);
        assert_eq!(bucket.bytes(at(0)), 50_000);
    }

    #[test]
    fn time_that_goes_back_gives_nothing() {
        let mut bucket = Bucket::full(rate("8mbit"), at(1_000));
        bucket.take(at(1_000), 50_000);
        bucket.take(at(500), 0);
        assert_eq!(bucket.bytes(at(1_000)), 0);
        bucket.change(rate("8mbit"), at(500));
        assert_eq!(bucket.bytes(at(1_000)), 0);
    }

    #[test]
    fn a_new_rate_counts_from_now_and_what_was_saved_fits_its_burst() {
        let mut bucket = Bucket::full(rate("8mbit"), at(0));
        bucket.change(rate("800kbit"), at(0));
        assert_eq!(bucket.bytes(at(0)), 5_000);
        bucket.take(at(0), 5_000);
        assert_eq!(bucket.bytes(at(10_000)), 1_000);
    }

    #[test]
    fn the_extreme_rates_are_counted_without_overflow() {
        let most = BitRate::MAX.bits_per_second();
        for (rate, burst) in [(0, MIN_BURST), (most, 625_000_000), (u64::MAX, 625_000_000)] {
            let mut bucket = Bucket::full(rate, at(0));
            bucket.take(at(0), burst);
            assert_eq!(bucket.bytes(at(0)), 0);
            assert_eq!(bucket.bytes(at(u64::MAX)), burst);
        }
    }

    #[test]
    fn a_bucket_holds_what_two_wait_for() {
        for text in ["8kbit", "3mbit", "20mbit", "1gbit", "100gbit"] {
            let bucket = Bucket::full(rate(text), at(0));
            assert!(2 * bucket.quantum() <= bucket.bytes(at(0)), "{text}");
        }
        let least = Bucket::full(1, at(0));
        assert!(2 * least.quantum() <= least.bytes(at(0)));
    }
}
