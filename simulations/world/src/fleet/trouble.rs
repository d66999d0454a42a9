//! What goes wrong, from time to time, as the seed's mix says.

use std::time::Duration;

use super::{
    faults::FaultMix,
    rules::TOLD_WITHIN,
    world::{Event, World},
};

/// How long a link that flaps is away each time, and how often.
const FLAP_AWAY: Duration = Duration::from_secs(9);
const FLAPS: u32 = 4;

/// Kinds of trouble, each with its own interval.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    Churn,
    Outage,
    OneWay,
    Flap,
    Withdraw,
    Rule,
    Reassign,
}

impl Trouble {
    pub(super) const ALL: &'static [Self] = &[
        Self::Churn,
        Self::Outage,
        Self::OneWay,
        Self::Flap,
        Self::Withdraw,
        Self::Rule,
        Self::Reassign,
    ];

    pub(super) fn every(self, mix: &FaultMix) -> Option<Duration> {
        match self {
            Self::Churn => mix.churn_every,
            Self::Outage => mix.outage_every,
            Self::OneWay => mix.one_way_every,
            Self::Flap => mix.flap_every,
            Self::Withdraw => mix.withdraw_every,
            Self::Rule => mix.rule_every,
            Self::Reassign => mix.reassign_every,
        }
    }
}

impl World {
    pub(super) fn trouble(&mut self, trouble: Trouble) {
        match trouble {
            Trouble::Churn => self.churn(),
            Trouble::Outage => self.outage(),
            Trouble::OneWay => self.one_way(),
            Trouble::Flap => self.flap(),
            Trouble::Withdraw => self.withdraw(),
            Trouble::Rule => self.rule(),
            Trouble::Reassign => self.reassign(),
        }
        self.stage.again(trouble.every(&self.stage.mix), Event::Trouble(trouble));
    }

    fn churn(&mut self) {
        let index = self.stage.any(self.nodes.len());
        if !self.nodes[index].is_up() {
            return;
        }
        self.stage.coverage.fault("crash");
        self.stage.note(format_args!("node {index} crashes"));
        self.crash(index);
        self.stage.within_secs(2, 60, Event::Boot(index));
    }

    fn outage(&mut self) {
        let region = self.stage.any(self.regions);
        let lasts = self.stage.chance.between(Duration::from_secs(3), self.stage.mix.outage_lasts);
        self.stage.coverage.fault("regional outage");
        self.stage.note(format_args!("region {region} is dark for {lasts:?}"));
        self.network.darken(region);
        self.stage.after(lasts, Event::Lighten(region));
    }

    fn one_way(&mut self) {
        let index = self.stage.any(self.nodes.len());
        self.stage.coverage.fault("one-way loss");
        self.network.hosts[index].outward_loss = 300 + self.stage.chance.below(700);
        self.stage.within_secs(5, 60, Event::Hear(index));
    }

    /// A connection that somebody has comes and goes a few times.
    fn flap(&mut self) {
        let index = self.stage.any(self.nodes.len());
        let open: Vec<usize> = self.nodes[index].answered.keys().copied().collect();
        let Some(other) = self.stage.chance.pick(&open).copied() else { return };
        self.stage.coverage.fault("flapping link");
        self.flap_again(index, other, FLAPS);
    }

    pub(super) fn flap_again(&mut self, index: usize, other: usize, left: u32) {
        self.network.cut(index, other);
        self.stage.after(FLAP_AWAY, Event::Heal(index, other));
        if left > 1 {
            self.stage.after(FLAP_AWAY * 2, Event::Flap(index, other, left - 1));
        }
    }

    /// A node is taken out of everybody's directory; each hears of it when it hears of it.
    fn withdraw(&mut self) {
        let index = self.stage.any(self.nodes.len());
        let role = self.nodes[index].role;
        let left = self.with_role(role).into_iter().filter(|node| !self.withdrawn.contains(node));
        if left.count() <= 2 || !self.withdrawn.insert(index) {
            return;
        }
        self.stage.coverage.fault("withdrawal");
        self.version += 1;
        self.stage.note(format_args!("node {index} is withdrawn"));
        let now = self.stage.now();
        self.shown.revokes(now, index);
        self.stage.checkers.revoked(index);
        let told = |node: &usize| self.told[*node].contains(&index);
        let told: Vec<usize> = (0..self.nodes.len()).filter(told).collect();
        for node in told {
            self.stage.within(Duration::ZERO, TOLD_WITHIN, Event::Directory(node));
        }
        if self.nodes[index].is_up() {
            self.crash(index);
        }
    }
}
