//! What goes wrong, drawn anew for each seed so that rare mixtures come up as well.

use std::time::Duration;

use crate::kit::Chance;

/// The faults of one run's first phase.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FaultMix {
    /// Of 1,000 messages, how many are lost.
    pub loss: u64,
    /// Of 1,000 bus messages, how many come twice.
    pub duplication: u64,
    /// Messages overtake each other within this spread.
    pub latency: (Duration, Duration),
    /// How often a pair of parties loses sight of each other.
    pub partition_every: Option<Duration>,
    pub partition_lasts: Duration,
    /// How often a node or control loses its power.
    pub crash_every: Option<Duration>,
    /// Of 1,000 crashes of a node, how many come in the middle of a write.
    pub torn_writes: u64,
    /// How far a node's clock is off, at most, in either direction.
    pub clock_skew: Duration,
    /// How often somebody shows a node or control what they must refuse.
    pub attack_every: Option<Duration>,
}

impl FaultMix {
    pub fn draw(chance: &mut Chance) -> Self {
        let seconds = Duration::from_secs;
        let quiet_network = chance.happens(250);
        let worst = if quiet_network { 1 } else { 300 };
        Self {
            loss: chance.below(worst),
            duplication: chance.below(worst),
            latency: (
                Duration::from_millis(1),
                chance
                    .between(Duration::from_millis(2), seconds(if quiet_network { 1 } else { 5 })),
            ),
            partition_every: chance.sometimes(750, 5, 40),
            partition_lasts: chance.between(seconds(1), seconds(30)),
            crash_every: chance.sometimes(750, 5, 40),
            torn_writes: chance.below(1_000),
            clock_skew: chance.between(Duration::ZERO, Duration::from_millis(2_400)),
            attack_every: chance.sometimes(750, 2, 20),
        }
    }

    /// The second phase: everything works.
    pub fn stop(&mut self) {
        self.loss = 0;
        self.duplication = 0;
        self.latency = (Duration::from_millis(1), Duration::from_millis(20));
        self.partition_every = None;
        self.crash_every = None;
        self.torn_writes = 0;
        self.attack_every = None;
    }
}
