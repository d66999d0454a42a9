//! What goes wrong, drawn anew for each seed so that rare mixtures come up as well.

use std::time::Duration;

use crate::kit::Chance;

use super::lie::Lie;

/// The faults of one run's first phase.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FaultMix {
    /// Of 1,000 messages, how many are lost anywhere.
    pub loss: u64,
    pub churn_every: Option<Duration>,
    pub outage_every: Option<Duration>,
    pub outage_lasts: Duration,
    /// One node's messages get lost in one direction.
    pub one_way_every: Option<Duration>,
    /// A link comes and goes.
    pub flap_every: Option<Duration>,
    pub withdraw_every: Option<Duration>,
    /// Other counts and weights are said, and relays are given and taken.
    pub rule_every: Option<Duration>,
    pub reassign_every: Option<Duration>,
    /// Whether a relay swallows, and what, and whether one is full.
    pub liar: Option<Lie>,
    pub full: bool,
    /// Whether a machine breaks and is never taken out of the directory.
    pub gone: bool,
    /// How many relays in a row stand before the first egress, at the most: 0, 2 or 3.
    pub behind: usize,
}

impl FaultMix {
    /// For a fleet of this many: what happens to one node in a hundred happens more often there.
    pub fn draw(chance: &mut Chance, nodes: usize) -> Self {
        let seconds = Duration::from_secs;
        let crowd = u32::try_from((nodes / 20).max(1)).unwrap_or(u32::MAX);
        let sometimes = |chance: &mut Chance, permille, least, greatest| {
            let every = chance.between(seconds(least), seconds(greatest));
            chance.happens(permille).then_some(every)
        };
        let quiet = chance.happens(300);
        Self {
            loss: if quiet { 0 } else { chance.below(60) },
            churn_every: sometimes(chance, 700, 4, 40).map(|every| every / crowd),
            outage_every: sometimes(chance, 400, 30, 90),
            outage_lasts: chance.between(seconds(5), seconds(60)),
            one_way_every: sometimes(chance, 500, 8, 40).map(|every| every / crowd),
            flap_every: sometimes(chance, 500, 3, 12).map(|every| every / crowd),
            withdraw_every: sometimes(chance, 500, 30, 120),
            liar: chance.pick(&Lie::ALL).copied().filter(|_| chance.happens(600)),
            full: chance.happens(500),
            gone: chance.happens(500),
            rule_every: sometimes(chance, 400, 40, 120),
            reassign_every: sometimes(chance, 500, 20, 90),
            behind: *chance.pick(&[0, 0, 2, 3, 3]).unwrap_or(&0),
        }
    }
}
