//! What goes wrong, drawn anew for each seed so that rare mixtures come up as well.

use std::{fmt, time::Duration};

use crate::{chance::Chance, lease::network::Conditions};

/// Whose calendar is set wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Jumps {
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
#[derive(Debug, Clone, PartialEq, Eq)]
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
        let sometimes = |chance: &mut Chance, permille, least, greatest| {
            chance.happens(permille).then(|| chance.between(seconds(least), seconds(greatest)))
        };
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
            sometimes(chance, 300, 15, 40)
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
            cut_every: sometimes(chance, 600, 4, 20),
            cut_lasts: chance.between(seconds(5), seconds(40)),
            crash_every: sometimes(chance, 600, 3, 20),
            replicas_crash: !unsynced,
            torn: chance.below(1_000),
            pause_every: sometimes(chance, 500, 5, 25),
            pause_lasts: chance.between(seconds(5), seconds(45)),
            jumps,
            jump_every: chance.between(seconds(4), seconds(20)),
            failover_every,
            unsynced,
            rival: if chance.happens(350) { 500 } else { 0 },
            restate_every: sometimes(chance, 500, 8, 30),
            two_leaders: if chance.happens(400) { 300 } else { 0 },
            outage: kind
                .filter(|_| chance.happens(200))
                .map(|kind| (kind, chance.between(seconds(345), seconds(380)))),
        }
    }

    /// The second phase: everything works.
    pub fn calm() -> Self {
        let ms = Duration::from_millis;
        Self {
            conditions: Conditions {
                loss: 0,
                duplication: 0,
                latency: (ms(1), ms(20)),
                slow: 0,
                slow_latency: (ms(1), ms(1)),
            },
            cut_every: None,
            cut_lasts: Duration::ZERO,
            crash_every: None,
            replicas_crash: false,
            torn: 0,
            pause_every: None,
            pause_lasts: Duration::ZERO,
            jumps: Jumps::Nobody,
            jump_every: Duration::MAX,
            failover_every: None,
            unsynced: false,
            rival: 0,
            restate_every: None,
            two_leaders: 0,
            outage: None,
        }
    }
}

impl fmt::Display for FaultMix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Conditions { loss, duplication, latency, slow, slow_latency } = self.conditions;
        write!(
            f,
            "loss {loss}‰, duplication {duplication}‰, latency {:?} to {:?}, {slow}‰ slow up to \
             {:?}, cut every {:?} for {:?}, crash every {:?} (replicas too: {}, {}‰ torn), pause \
             every {:?} for {:?}, {:?} jumps every {:?}, failover every {:?} (unsynced: {}), \
             rivals {}‰, statement every {:?}, two leaders {}‰, outage {:?}",
            latency.0,
            latency.1,
            slow_latency.1,
            self.cut_every,
            self.cut_lasts,
            self.crash_every,
            self.replicas_crash,
            self.torn,
            self.pause_every,
            self.pause_lasts,
            self.jumps,
            self.jump_every,
            self.failover_every,
            self.unsynced,
            self.rival,
            self.restate_every,
            self.two_leaders,
            self.outage,
        )
    }
}
