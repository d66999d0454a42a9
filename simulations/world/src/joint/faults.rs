//! What goes wrong, drawn anew for each seed so that rare mixtures come up as well.

use std::time::Duration;

use crate::{
    kit::{
        Chance,
        faults::{Bounds, Faults, Lasts, Often, Worst},
        network::Conditions,
    },
    mutation::Mutation,
};

const WORST: Worst = Worst { permille: 150, latency_ms: 150, slow_latency_secs: 6 };
const BOUNDS: Bounds = Bounds {
    cut: Often { permille: 600, secs: (4, 30) },
    cut_lasts: Lasts { secs: (2, 20), longer: None },
    crash: Often { permille: 600, secs: (4, 30) },
    pause: Often { permille: 600, secs: (4, 30) },
    pause_lasts: Lasts { secs: (2, 20), longer: None },
};

/// Which clock may be wrong by more than its rate. One of two is survived, both are not.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Jumps {
    #[default]
    Nobody,
    /// The primary's, in either direction.
    Primary,
    /// One replica's, forward: a hypervisor that moves a guest.
    Replica,
}

/// What a run's faults are aimed at.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Aim {
    #[default]
    Anything,
    /// Who leads: the primary's clock takes the lead away from whoever believes to have it, while
    /// much is due.
    Leadership,
    /// Whoever carries the connection is revoked, and little else goes wrong.
    Revocation,
    /// What nodes saw of the log: it is lost at once, and they look again.
    Log,
}

/// The faults of one run's first phase.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FaultMix {
    pub aim: Aim,
    pub conditions: Conditions,
    pub faults: Faults,
    pub jumps: Jumps,
    pub jump_every: Duration,
    pub failover_every: Option<Duration>,
    /// Failovers lose what was stored last, and follow grants.
    pub unsynced: bool,
    /// The replicas make beats, which takes calendars that are right.
    pub beats: bool,
    /// For how long too few replicas reach the primary, once.
    pub outage: Option<Duration>,
    /// How far a node's calendar is off, at most, in either direction.
    pub clock_skew: Duration,
    /// Of 1,000 clients, how many are slow to show their token.
    pub slow_clients: u64,
    /// A node is revoked at some time.
    pub revocation: bool,
}

impl FaultMix {
    pub fn draw(chance: &mut Chance) -> Self {
        let (ms, seconds) = (Duration::from_millis, Duration::from_secs);
        let quiet = chance.happens(500);
        let slowest = if chance.happens(300) { 300 } else { 50 };
        let jumps = match chance.below(4) {
            0 => Jumps::Primary,
            1 => Jumps::Replica,
            _ => Jumps::Nobody,
        };
        // A grantor whose clock jumps relies on the database, which must then not forget.
        let unsynced = jumps != Jumps::Replica && chance.happens(350);
        let beats = jumps != Jumps::Primary && chance.happens(600);
        Self {
            aim: Aim::Anything,
            conditions: Conditions::draw(chance, quiet, slowest, WORST),
            faults: Faults::draw(chance, BOUNDS),
            jumps,
            jump_every: chance.between(seconds(3), seconds(15)),
            failover_every: chance.sometimes(if unsynced { 700 } else { 250 }, 10, 40),
            unsynced,
            beats,
            outage: Some(chance.between(seconds(32), seconds(55)))
                .filter(|_| chance.happens(if beats { 400 } else { 0 })),
            clock_skew: chance.between(Duration::ZERO, ms(2_400)),
            slow_clients: if chance.happens(500) { 500 } else { 50 },
            revocation: chance.happens(300),
        }
    }

    /// Another mix of the same seed, aimed at something in some of all seeds.
    pub fn aimed(chance: &mut Chance, planted: Option<Mutation>) -> Self {
        let seconds = Duration::from_secs;
        let aim = match chance.below(8) {
            0 => Aim::Leadership,
            1 => Aim::Revocation,
            3 => Aim::Log,
            _ => Aim::Anything,
        };
        let mix = Self { aim, ..Self::draw(chance) };
        match aim {
            Aim::Anything => mix,
            Aim::Leadership => Self {
                jumps: Jumps::Primary,
                jump_every: chance.between(seconds(3), seconds(6)),
                beats: false,
                outage: None,
                ..mix
            },
            Aim::Log => Self {
                // A node that is started again looks at once.
                faults: Faults {
                    crash_every: Some(chance.between(seconds(4), seconds(9))),
                    ..mix.faults
                },
                jumps: Jumps::Nobody,
                unsynced: true,
                outage: None,
                ..mix
            },
            Aim::Revocation => {
                let mix = mix.undisturbed(planted);
                let faults = Faults {
                    cut_lasts: chance.between(seconds(1), seconds(3)),
                    pause_lasts: chance.between(seconds(1), seconds(3)),
                    ..mix.faults
                };
                Self { revocation: true, faults, unsynced: false, outage: None, ..mix }
            }
        }
    }

    /// A holder that loses the connection for another reason does not show the bug that it is kept
    /// though it was revoked; without the bug it loses the connection for any.
    fn undisturbed(self, planted: Option<Mutation>) -> Self {
        if planted != Some(Mutation::RevokedHolderKept) {
            return self;
        }
        let faults = Faults { crash_every: None, ..self.faults };
        Self { faults, jumps: Jumps::Nobody, ..self }
    }

    /// The second phase: everything works.
    pub fn calm() -> Self {
        Self { conditions: Conditions::CALM, ..Self::default() }
    }
}
