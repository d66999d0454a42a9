//! Everything random in the world, from one seed.

use std::time::Duration;

use rand_chacha::ChaCha8Rng;
use rand_core::{RngCore as _, SeedableRng as _};

/// A stream of chance. Two streams of one seed do not disturb each other: drawing once more in
/// one leaves the other as it was.
#[derive(Debug, Clone)]
pub struct Chance(ChaCha8Rng);

impl Chance {
    pub fn new(seed: u64, stream: u64) -> Self {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        random.set_stream(stream);
        Self(random)
    }

    pub fn number(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// A number from 0 to `bound - 1`; 0 when `bound` is 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        // The bias of the remainder is far below anything that a scenario could notice.
        self.number().checked_rem(bound).unwrap_or(0)
    }

    /// True in `permille` of 1,000 cases.
    pub fn happens(&mut self, permille: u64) -> bool {
        self.below(1_000) < permille
    }

    pub fn between(&mut self, least: Duration, greatest: Duration) -> Duration {
        let span = greatest.saturating_sub(least).as_micros();
        let span = u64::try_from(span).unwrap_or(u64::MAX - 1);
        least + Duration::from_micros(self.below(span + 1))
    }

    /// In `permille` of 1,000 cases an interval, drawn between these many seconds.
    pub fn sometimes(&mut self, permille: u64, least: u64, greatest: u64) -> Option<Duration> {
        let seconds = Duration::from_secs;
        self.happens(permille).then(|| self.between(seconds(least), seconds(greatest)))
    }

    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> Option<&'a T> {
        let length = u64::try_from(from.len()).ok()?;
        from.get(usize::try_from(self.below(length)).ok()?)
    }

    pub fn bytes<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        self.0.fill_bytes(&mut bytes);
        bytes
    }
}
