//! What goes wrong in every world of nodes, replicas and one primary, drawn anew for each seed.
//!
//! A scenario says how bad it may become, and adds what only it knows. What is drawn, and in which
//! order, is part of what a seed means: a draw that moves makes another history of every seed.

use std::time::Duration;

use super::{Chance, network::Conditions};

/// How bad a network may be that is not quiet.
#[derive(Debug, Clone, Copy)]
pub struct Worst {
    /// Of 1,000 messages, how many are lost; and how many come twice.
    pub permille: u64,
    pub latency_ms: u64,
    pub slow_latency_secs: u64,
}

impl Conditions {
    /// In a `quiet` network hardly anything is lost. Of 1,000 messages fewer than `slowest` are slow.
    pub fn draw(chance: &mut Chance, quiet: bool, slowest: u64, worst: Worst) -> Self {
        let (ms, seconds) = (Duration::from_millis, Duration::from_secs);
        let (permille, latency) = if quiet { (1, 30) } else { (worst.permille, worst.latency_ms) };
        Self {
            loss: chance.below(permille),
            duplication: chance.below(permille),
            latency: (ms(1), chance.between(ms(2), ms(latency))),
            slow: chance.below(slowest),
            slow_latency: (ms(100), chance.between(seconds(1), seconds(worst.slow_latency_secs))),
        }
    }
}

/// How often something happens: in `permille` of 1,000 runs every so many seconds.
#[derive(Debug, Clone, Copy)]
pub struct Often {
    pub permille: u64,
    pub secs: (u64, u64),
}

/// For how many seconds something lasts at the most.
#[derive(Debug, Clone, Copy)]
pub struct Lasts {
    pub secs: (u64, u64),
    /// In so many of 1,000 runs it may last much longer.
    pub longer: Option<(u64, (u64, u64))>,
}

impl Often {
    fn draw(self, chance: &mut Chance) -> Option<Duration> {
        chance.sometimes(self.permille, self.secs.0, self.secs.1)
    }
}

impl Lasts {
    fn draw(self, chance: &mut Chance) -> Duration {
        let longer = self.longer.filter(|(permille, _)| chance.happens(*permille));
        let (least, greatest) = longer.map_or(self.secs, |(_, secs)| secs);
        chance.between(Duration::from_secs(least), Duration::from_secs(greatest))
    }
}

/// How often parties are cut off, crash and stand still in a scenario, and for how long.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    pub cut: Often,
    pub cut_lasts: Lasts,
    pub crash: Often,
    pub pause: Often,
    pub pause_lasts: Lasts,
}

/// What befalls single parties in one run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Faults {
    pub cut_every: Option<Duration>,
    /// At the most.
    pub cut_lasts: Duration,
    pub crash_every: Option<Duration>,
    /// Of 1,000 crashes of a node, how many come in the middle of a write.
    pub torn: u64,
    pub pause_every: Option<Duration>,
    /// At the most.
    pub pause_lasts: Duration,
}

impl Faults {
    pub fn draw(chance: &mut Chance, bounds: Bounds) -> Self {
        Self {
            cut_every: bounds.cut.draw(chance),
            cut_lasts: bounds.cut_lasts.draw(chance),
            crash_every: bounds.crash.draw(chance),
            torn: chance.below(1_000),
            pause_every: bounds.pause.draw(chance),
            pause_lasts: bounds.pause_lasts.draw(chance),
        }
    }
}
