//! What the network does to a message: nothing, delay, loss, or two of it.

use std::{collections::BTreeMap, time::Duration};

use crate::{faults::FaultMix, kit::Chance};

/// A party of the world.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Party {
    Control,
    Node(usize),
    Client,
}

/// What a message travels on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Carriage {
    /// A request or an answer over a connection: it may be lost with the connection, but the
    /// transport delivers nothing twice.
    Connection,
    /// The bus: lossy, and it may repeat itself.
    Bus,
}

#[derive(Debug, Default)]
pub struct Network {
    /// From whom to whom nothing passes, and how many partitions say so.
    cut: BTreeMap<(Party, Party), u32>,
}

impl Network {
    /// In one direction.
    pub fn cut(&mut self, from: Party, to: Party) {
        *self.cut.entry((from, to)).or_default() += 1;
    }

    pub fn heal(&mut self, from: Party, to: Party) {
        if let Some(count) = self.cut.get_mut(&(from, to)) {
            *count = count.saturating_sub(1);
        }
    }

    pub fn heal_all(&mut self) {
        self.cut.clear();
    }

    pub fn severs(&self, from: Party, to: Party) -> bool {
        self.cut.get(&(from, to)).is_some_and(|count| *count > 0)
    }

    /// When each copy of a message arrives.
    pub fn deliveries(
        &self,
        from: Party,
        to: Party,
        carriage: Carriage,
        mix: &FaultMix,
        chance: &mut Chance,
    ) -> Vec<Duration> {
        let lost = chance.happens(mix.loss);
        let repeated = carriage == Carriage::Bus && chance.happens(mix.duplication);
        let (least, greatest) = mix.latency;
        let (first, second) = (chance.between(least, greatest), chance.between(least, greatest));
        match () {
            () if lost || self.severs(from, to) => Vec::new(),
            () if repeated => vec![first, second],
            () => vec![first],
        }
    }
}
