//! What goes wrong, drawn anew for each seed so that rare mixtures come up as well.

use std::time::Duration;

use crate::kit::{Chance, network::Conditions};

/// Which clock may be wrong by more than its rate. One of two is survived, both are not.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Jumps {
    #[default]
    Nobody,
    /// The database's, in either direction.
    Database,
    /// One replica's, forward: a hypervisor that moves a guest.
    Replica,
}

/// The faults of one run's first phase.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FaultMix {
    pub conditions: Conditions,
    pub cut_every: Option<Duration>,
    pub cut_lasts: Duration,
    pub crash_every: Option<Duration>,
    /// Of 1,000 crashes of a node, how many come in the middle of a write.
    pub torn: u64,
    pub pause_every: Option<Duration>,
    pub pause_lasts: Duration,
    /// Every holder's clock is as slow as it may be, and the others are as fast.
    pub worst_clocks: bool,
    pub jumps: Jumps,
    pub jump_every: Duration,
    pub failover_every: Option<Duration>,
    /// Of 1,000 failovers, how many lose what was written last; they then follow grants.
    pub unsynced: u64,
    /// People change what they want, and drain nodes.
    pub change_every: Option<Duration>,
    /// Of 1,000 looks at who leads, how many make a second leader.
    pub two_leaders: u64,
    /// The replicas make no beat for a while.
    pub beatless_every: Option<Duration>,
    /// Of 1,000 starts of a driver, how many fail.
    pub driver_fails: u64,
    /// Of 1,000 stops of a driver, how many take as long as they may, and longer.
    pub driver_late: u64,
    /// How often the resource loses its power.
    pub resource_crash_every: Option<Duration>,
}

impl FaultMix {
    pub fn draw(chance: &mut Chance) -> Self {
        let seconds = Duration::from_secs;
        let quiet = chance.happens(500);
        let worst = if quiet { 1 } else { 250 };
        let ms = Duration::from_millis;
        let slowest = if chance.happens(300) { 500 } else { 50 };
        // Sometimes longer than even a steady lease lives.
        let longest = |chance: &mut Chance, usual| {
            let (least, greatest) =
                if chance.happens(300) { (60, 100) } else { (usual / 4, usual) };
            chance.between(seconds(least), seconds(greatest))
        };
        let jumps = match chance.below(4) {
            0 => Jumps::Database,
            1 => Jumps::Replica,
            _ => Jumps::Nobody,
        };
        // A grantor whose clock jumps relies on the database, which must then not forget.
        let unsynced = if jumps != Jumps::Replica && chance.happens(300) { 500 } else { 0 };
        Self {
            conditions: Conditions {
                loss: chance.below(worst),
                duplication: chance.below(worst),
                latency: (ms(1), chance.between(ms(2), ms(if quiet { 30 } else { 150 }))),
                slow: chance.below(slowest),
                slow_latency: (ms(100), chance.between(seconds(1), seconds(6))),
            },
            cut_every: chance.sometimes(600, 4, 30),
            cut_lasts: longest(chance, 20),
            crash_every: chance.sometimes(600, 4, 40),
            torn: chance.below(1_000),
            pause_every: chance.sometimes(600, 4, 30),
            pause_lasts: longest(chance, 15),
            worst_clocks: chance.happens(300),
            jumps,
            jump_every: chance.between(seconds(3), seconds(15)),
            failover_every: chance.sometimes(350, 15, 60),
            unsynced,
            change_every: chance.sometimes(700, 3, 20),
            two_leaders: if chance.happens(400) { 300 } else { 0 },
            beatless_every: chance.sometimes(200, 20, 60),
            driver_fails: if chance.happens(200) { 200 } else { 0 },
            driver_late: 500,
            resource_crash_every: chance.sometimes(400, 1, 10),
        }
    }

    /// The second phase: everything works.
    pub fn calm() -> Self {
        Self { conditions: Conditions::CALM, ..Self::default() }
    }
}
