//! What goes wrong, drawn anew for each seed so that rare mixtures come up as well.

use std::time::Duration;

use crate::kit::{Chance, network::Conditions};

/// Whose calendar is set wrong.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Jumps {
    #[default]
    Nobody,
    Database,
    Node,
}

/// Who is cut off for so long that nodes become isolated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outage {
    /// Nobody reaches the primary.
    Primary,
    /// One replica still does: too few.
    Majority,
    /// One node reaches no replica.
    Node,
}

/// The faults of one run's first phase.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FaultMix {
    pub conditions: Conditions,
    pub cut_every: Option<Duration>,
    pub cut_lasts: Duration,
    pub crash_every: Option<Duration>,
    /// Whether replicas crash as well. Where the primary forgets they must not.
    pub replicas_crash: bool,
    /// Of 1,000 crashes of a node, how many come in the middle of a write.
    pub torn: u64,
    pub pause_every: Option<Duration>,
    pub pause_lasts: Duration,
    pub jumps: Jumps,
    pub jump_every: Duration,
    pub failover_every: Option<Duration>,
    /// Whether a failover loses what was written last.
    pub unsynced: bool,
    /// Of 1,000 proposals, how many somebody with access to the table replaces.
    pub rival: u64,
    /// A new statement is made valid.
    pub restate_every: Option<Duration>,
    /// Of 1,000 looks at who leads, how many make a second leader.
    pub two_leaders: u64,
    pub outage: Option<(Outage, Duration)>,
}

impl FaultMix {
    pub fn draw(chance: &mut Chance) -> Self {
        let (ms, seconds) = (Duration::from_millis, Duration::from_secs);
        let quiet = chance.happens(500);
        let worst = if quiet { 1 } else { 250 };
        let jumps = match chance.below(4) {
            0 => Jumps::Database,
            1 => Jumps::Node,
            _ => Jumps::Nobody,
        };
        let unsynced = chance.happens(250);
        let failover_every = if unsynced {
            Some(chance.between(seconds(10), seconds(30)))
        } else {
            chance.sometimes(300, 15, 40)
        };
        let kinds = [Outage::Primary, Outage::Majority, Outage::Node];
        let kind = chance.pick(&kinds).copied();
        let often_slow = if chance.happens(300) { 400 } else { 50 };
        Self {
            conditions: Conditions {
                loss: chance.below(worst),
                duplication: chance.below(worst),
                latency: (ms(1), chance.between(ms(2), ms(if quiet { 30 } else { 250 }))),
                slow: chance.below(often_slow),
                slow_latency: (ms(100), chance.between(seconds(1), seconds(8))),
            },
            cut_every: chance.sometimes(600, 4, 20),
            cut_lasts: chance.between(seconds(5), seconds(40)),
            crash_every: chance.sometimes(600, 3, 20),
            replicas_crash: !unsynced,
            torn: chance.below(1_000),
            pause_every: chance.sometimes(500, 5, 25),
            pause_lasts: chance.between(seconds(5), seconds(45)),
            jumps,
            jump_every: chance.between(seconds(4), seconds(20)),
            failover_every,
            unsynced,
            rival: if chance.happens(350) { 500 } else { 0 },
            restate_every: chance.sometimes(500, 8, 30),
            two_leaders: if chance.happens(400) { 300 } else { 0 },
            outage: kind
                .filter(|_| chance.happens(200))
                .map(|kind| (kind, chance.between(seconds(345), seconds(380)))),
        }
    }

    /// The second phase: everything works.
    pub fn calm() -> Self {
        Self { conditions: Conditions::CALM, ..Self::default() }
    }
}
