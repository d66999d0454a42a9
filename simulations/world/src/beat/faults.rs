//! What goes wrong, drawn anew for each seed so that rare mixtures come up as well.

use std::time::Duration;

use crate::kit::{
    Chance,
    faults::{Bounds, Faults, Lasts, Often, Worst},
    network::Conditions,
};

const WORST: Worst = Worst { permille: 250, latency_ms: 250, slow_latency_secs: 8 };
const BOUNDS: Bounds = Bounds {
    cut: Often { permille: 600, secs: (4, 20) },
    cut_lasts: Lasts { secs: (5, 40), longer: None },
    crash: Often { permille: 600, secs: (3, 20) },
    pause: Often { permille: 500, secs: (5, 25) },
    pause_lasts: Lasts { secs: (5, 45), longer: None },
};

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
    pub faults: Faults,
    /// Whether replicas crash as well. Where the primary forgets they must not.
    pub replicas_crash: bool,
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
        let seconds = Duration::from_secs;
        let quiet = chance.happens(500);
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
        let slowest = if chance.happens(300) { 400 } else { 50 };
        Self {
            conditions: Conditions::draw(chance, quiet, slowest, WORST),
            faults: Faults::draw(chance, BOUNDS),
            replicas_crash: !unsynced,
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
