//! Spread in time from a seed that the shell draws: machines stay repeatable.

use std::{collections::BTreeSet, time::Duration};

/// A sequence of numbers that follows from its seed (SplitMix64); for spreading load, never for
/// secrets.
#[derive(Debug, Clone)]
pub struct Jitter(u64);

impl Jitter {
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A seed for another sequence.
    pub fn draw(&mut self) -> u64 {
        self.next()
    }

    /// Any one of them, each as likely as the others.
    pub fn pick<'a, T>(&mut self, of: &'a BTreeSet<T>) -> Option<&'a T> {
        let count = u64::try_from(of.len()).ok().filter(|count| *count > 0)?;
        of.iter().nth(usize::try_from(self.next() % count).ok()?)
    }

    /// A duration between `base − base·percent/100` and `base + base·percent/100`.
    pub fn around(&mut self, base: Duration, percent: u32) -> Duration {
        let base = u64::try_from(base.as_micros()).unwrap_or(u64::MAX / 4).min(u64::MAX / 4);
        let spread = base / 100 * u64::from(percent.min(100));
        let offset = if spread == 0 { 0 } else { self.next() % (2 * spread + 1) };
        Duration::from_micros(base - spread + offset)
    }
}

/// Doubling delays between two bounds.
#[derive(Debug, Clone)]
pub struct Backoff {
    first: Duration,
    greatest: Duration,
    failures: u32,
}

impl Backoff {
    pub const fn new(first: Duration, greatest: Duration) -> Self {
        Self { first, greatest, failures: 0 }
    }

    /// The delay after one more failure, spread by a fifth.
    pub fn next_delay(&mut self, jitter: &mut Jitter) -> Duration {
        let factor = 1u32 << self.failures.min(16);
        self.failures = self.failures.saturating_add(1);
        let delay = self.first.saturating_mul(factor).min(self.greatest);
        jitter.around(delay, 20)
    }

    pub fn reset(&mut self) {
        self.failures = 0;
    }

    pub fn failures(&self) -> u32 {
        self.failures
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_the_bound_and_start_again() {
        let mut jitter = Jitter::new(7);
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(1));
        for expected in [100, 200, 400, 800, 1000, 1000] {
            let delay = backoff.next_delay(&mut jitter).as_millis();
            assert!((expected * 4 / 5..=expected * 6 / 5).contains(&delay), "{delay} {expected}");
        }
        backoff.reset();
        assert!(backoff.next_delay(&mut jitter).as_millis() <= 120);
    }

    #[test]
    fn spread_stays_within_its_bounds_and_follows_the_seed() {
        let draws = |seed| {
            let mut jitter = Jitter::new(seed);
            (0..100).map(|_| jitter.around(Duration::from_secs(10), 30)).collect::<Vec<_>>()
        };
        assert!(draws(1).iter().all(|d| (7.0..=13.0).contains(&d.as_secs_f64())));
        assert_eq!(draws(1), draws(1));
        assert_ne!(draws(1), draws(2));
        assert_eq!(Jitter::new(1).around(Duration::ZERO, 50), Duration::ZERO);
    }
}
