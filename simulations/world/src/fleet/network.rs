//! Who reaches whom, how fast, and who takes how many.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use rap_proto::Moment;

use crate::kit::Chance;

use super::lie::Lie;

/// How long a round trip takes within one region, and for each region that lies between.
const NEAR: Duration = Duration::from_millis(6);
const FAR: Duration = Duration::from_millis(25);
/// What a relay that lies seems to take.
pub const CLAIMED_RTT_US: u32 = 100;

/// One machine, as the network sees it.
#[derive(Debug, Clone)]
pub struct Host {
    pub up: bool,
    pub region: usize,
    /// Answers at once, and does not forward all.
    pub lie: Option<Lie>,
    /// How many others it takes; nobody counts those of most hosts.
    pub capacity: usize,
    pub inbound: BTreeSet<usize>,
    /// How many entries lead through it.
    pub carries: usize,
    /// Of 1,000 messages that it sends, how many are lost.
    pub outward_loss: u64,
}

impl Host {
    pub fn new(region: usize) -> Self {
        let inbound = BTreeSet::new();
        Self {
            up: false,
            region,
            lie: None,
            capacity: usize::MAX,
            inbound,
            carries: 0,
            outward_loss: 0,
        }
    }
}

/// What a host says to whoever wants to be connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Welcome {
    Taken,
    Full,
}

#[derive(Debug, Default)]
pub struct Network {
    pub hosts: Vec<Host>,
    dark: BTreeSet<usize>,
    /// From one host to another, and how many faults say so.
    cut: BTreeMap<(usize, usize), u32>,
    /// Relays in a row and the egress behind them: none behind the first speaks with anybody but its
    /// neighbours.
    row: Vec<usize>,
    pub loss: u64,
}

impl Network {
    pub fn new(hosts: Vec<Host>, loss: u64) -> Self {
        Self { hosts, loss, ..Self::default() }
    }

    pub fn darken(&mut self, region: usize) {
        self.dark.insert(region);
    }

    pub fn lighten(&mut self, region: usize) {
        self.dark.remove(&region);
    }

    pub fn cut(&mut self, from: usize, to: usize) {
        *self.cut.entry((from, to)).or_default() += 1;
    }

    pub fn heal(&mut self, from: usize, to: usize) {
        if let Some(count) = self.cut.get_mut(&(from, to)) {
            *count = count.saturating_sub(1);
        }
    }

    pub fn heal_all(&mut self) {
        self.cut.clear();
        self.dark.clear();
        self.loss = 0;
        self.hosts.iter_mut().for_each(|host| host.outward_loss = 0);
    }

    /// Has an egress reached over these relays alone, which come before it.
    pub fn wall(&mut self, row: Vec<usize>) {
        self.row = row;
    }

    /// Whether two hosts never reach each other.
    pub fn is_walled(&self, one: usize, other: usize) -> bool {
        let place = |host: usize| self.row.iter().position(|it| *it == host);
        !self.row.is_empty()
            && match (place(one), place(other)) {
                (Some(one), Some(other)) => one.abs_diff(other) > 1,
                (one, other) => one.or(other).is_some_and(|place| place > 0),
            }
    }

    /// Whether a question and its answer arrive.
    pub fn round_trip(&self, one: usize, other: usize, chance: &mut Chance) -> bool {
        !self.is_walled(one, other)
            && self.arrives(one, other, chance)
            && self.arrives(other, one, chance)
    }

    /// Whether a relay loses what it is to forward now.
    pub fn swallows(&self, relay: usize, now: Moment, chance: &mut Chance) -> bool {
        self.hosts[relay].lie.is_some_and(|lie| lie.swallows(now, chance))
    }

    pub fn rtt(&self, one: usize, other: usize, chance: &mut Chance) -> Duration {
        let (here, there) = (self.hosts[one].region, self.hosts[other].region);
        let far = u32::try_from(here.abs_diff(there)).unwrap_or(0);
        let base = NEAR + FAR * far;
        base + chance.between(Duration::ZERO, base)
    }

    /// Whether `host` takes `from` in; a connection that stays is counted.
    pub fn welcome(&mut self, host: usize, from: usize, stays: bool) -> Welcome {
        let host = &mut self.hosts[host];
        if !host.inbound.contains(&from) && host.inbound.len() >= host.capacity {
            return Welcome::Full;
        }
        if stays {
            host.inbound.insert(from);
        }
        Welcome::Taken
    }

    fn arrives(&self, from: usize, to: usize, chance: &mut Chance) -> bool {
        let dark = |host: usize| self.dark.contains(&self.hosts[host].region);
        // Within a region that is cut off, everybody still sees each other.
        let parted = (dark(from) || dark(to)) && self.hosts[from].region != self.hosts[to].region;
        let severed = self.cut.get(&(from, to)).is_some_and(|count| *count > 0);
        let loss = self.loss.max(self.hosts[from].outward_loss);
        let lost = loss > 0 && chance.happens(loss);
        self.hosts[to].up && !parted && !severed && !lost
    }
}
