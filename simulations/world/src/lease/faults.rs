//! What goes wrong, drawn anew for each seed so that rare mixtures come up as well.

use std::time::Duration;

use crate::kit::{
    Chance,
    faults::{Bounds, Faults, Lasts, Often, Worst},
    network::Conditions,
};

const WORST: Worst = Worst { permille: 250, latency_ms: 150, slow_latency_secs: 6 };
/// Sometimes longer than even a steady lease lives.
const LONGER: Option<(u64, (u64, u64))> = Some((300, (60, 100)));
const BOUNDS: Bounds = Bounds {
    cut: Often { permille: 600, secs: (4, 30) },
    cut_lasts: Lasts { secs: (5, 20), longer: LONGER },
    crash: Often { permille: 600, secs: (4, 40) },
    pause: Often { permille: 600, secs: (4, 30) },
    pause_lasts: Lasts { secs: (3, 15), longer: LONGER },
};

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
    pub faults: Faults,
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
        let slowest = if chance.happens(300) { 500 } else { 50 };
        let jumps = match chance.below(4) {
            0 => Jumps::Database,
            1 => Jumps::Replica,
            _ => Jumps::Nobody,
        };
        // A grantor whose clock jumps relies on the database, which must then not forget.
        let unsynced = if jumps != Jumps::Replica && chance.happens(300) { 500 } else { 0 };
        Self {
            conditions: Conditions::draw(chance, quiet, slowest, WORST),
            faults: Faults::draw(chance, BOUNDS),
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
