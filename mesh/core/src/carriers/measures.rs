//! What was measured of one carrier: the newest samples of each kind, while they are fresh.

use std::{collections::VecDeque, time::Duration};

use rap_proto::Moment;

use super::BEST_FOR;
use crate::shape::Direction;

/// The most samples of a kind; the oldest goes.
pub const SAMPLES: usize = 9;
/// Fewer say nothing.
pub const MIN_SAMPLES: usize = 3;
/// How long a sample counts.
pub const FRESH_FOR: Duration = Duration::from_secs(600);

/// One thing that was seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Measure {
    /// A flow that waited for its lane passed so much.
    Rate { direction: Direction, bytes_per_second: u64 },
    /// The answer to a flow's opening took so long.
    Opened { took: Duration },
}

/// What all samples together say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Measured {
    /// Bytes a second, towards resources and towards clients.
    pub up: Option<u64>,
    pub down: Option<u64>,
    pub opened: Option<Duration>,
}

#[derive(Debug, Clone, Default)]
pub(super) struct Measures {
    up: Rates,
    down: Rates,
    opened: Samples<Duration>,
}

#[derive(Debug, Clone, Default)]
struct Rates {
    samples: Samples<u64>,
    /// The most that the samples ever said, and when.
    best: Option<(u64, Moment)>,
}

#[derive(Debug, Clone)]
struct Samples<T>(VecDeque<(T, Moment)>);

impl<T> Default for Samples<T> {
    fn default() -> Self {
        Self(VecDeque::new())
    }
}

impl Measured {
    pub(super) const fn is_nothing(&self) -> bool {
        self.up.is_none() && self.down.is_none() && self.opened.is_none()
    }

    pub(super) fn slowest(&self) -> Option<u64> {
        [self.up, self.down].into_iter().flatten().min()
    }

    /// How long a byte takes here and there, in picoseconds, over the directions that both were
    /// measured in.
    pub(super) fn per_byte_beside(&self, other: &Self) -> Option<(u128, u128)> {
        let both = [(self.up, other.up), (self.down, other.down)];
        let both: Vec<_> = both.into_iter().filter_map(|(a, b)| a.zip(b)).collect();
        let per_byte = |rate: u64| 1_000_000_000_000 / u128::from(rate.max(1));
        let sums = (
            both.iter().map(|(here, _)| per_byte(*here)).sum(),
            both.iter().map(|(_, there)| per_byte(*there)).sum(),
        );
        (!both.is_empty()).then_some(sums)
    }
}

impl Measures {
    pub(super) fn note(&mut self, now: Moment, measure: Measure) {
        match measure {
            Measure::Rate { direction: Direction::Up, bytes_per_second } => {
                self.up.note(now, bytes_per_second);
            }
            Measure::Rate { direction: Direction::Down, bytes_per_second } => {
                self.down.note(now, bytes_per_second);
            }
            Measure::Opened { took } => self.opened.push(now, took),
        }
    }

    pub(super) fn at(&self, now: Moment) -> Measured {
        Measured {
            up: self.up.said(now),
            down: self.down.said(now),
            // The shortest: what a flow's resource took is in it, and differs.
            opened: self.opened.fresh(now).and_then(|sorted| sorted.first().copied()),
        }
    }

    /// Whether a direction has less than half of what it once had.
    pub(super) fn has_fallen(&self, now: Moment) -> bool {
        [&self.up, &self.down].into_iter().any(|rates| rates.has_fallen(now))
    }
}

impl Rates {
    fn note(&mut self, now: Moment, rate: u64) {
        self.samples.push(now, rate);
        let Some(said) = self.said(now) else { return };
        if self.best.is_none_or(|(best, at)| said >= best || now.since(at) >= BEST_FOR) {
            self.best = Some((said, now));
        }
    }

    /// The upper quartile. What the resource or a short burst had to do with a sample makes it lower
    /// more often than higher, so the middle would be too low, and the most is luck.
    fn said(&self, now: Moment) -> Option<u64> {
        let sorted = self.samples.fresh(now)?;
        Some(sorted[sorted.len() - 1 - sorted.len() / 4])
    }

    fn has_fallen(&self, now: Moment) -> bool {
        let (Some(said), Some((best, at))) = (self.said(now), self.best) else { return false };
        now.since(at) < BEST_FOR && said < best / 2
    }
}

impl<T: Copy + Ord> Samples<T> {
    fn push(&mut self, now: Moment, sample: T) {
        if self.0.len() == SAMPLES {
            self.0.pop_front();
        }
        self.0.push_back((sample, now));
    }

    /// Those that count, from the least; `None` when they are too few.
    fn fresh(&self, now: Moment) -> Option<Vec<T>> {
        let fresh = self.0.iter().filter(|(_, at)| now.since(*at) < FRESH_FOR);
        let mut fresh: Vec<T> = fresh.map(|(sample, _)| *sample).collect();
        fresh.sort_unstable();
        (fresh.len() >= MIN_SAMPLES).then_some(fresh)
    }
}
