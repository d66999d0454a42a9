//! The network between nodes, replicas of control, their primary and clients: what it does to a message, each
//! direction of each pair by itself.

use std::time::Duration;

use super::{Chance, Stage, World};

/// The most nodes and replicas that a run draws.
pub const MAX_NODES: usize = 5;
/// See [`MAX_NODES`].
pub const MAX_REPLICAS: usize = 3;
const PARTIES: usize = MAX_NODES + MAX_REPLICAS + 2;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Party {
    Node(usize),
    Replica(usize),
    Database,
    /// Everybody with a client.
    Client,
}

/// How the network treats what it carries.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Conditions {
    /// Of 1,000 messages, how many are lost.
    pub loss: u64,
    /// Of 1,000 messages between nodes and replicas, how many come twice.
    pub duplication: u64,
    pub latency: (Duration, Duration),
    /// Of 1,000 messages, how many take the slow latency.
    pub slow: u64,
    pub slow_latency: (Duration, Duration),
}

impl Conditions {
    /// Everything arrives, soon and once.
    pub const CALM: Self = Self {
        loss: 0,
        duplication: 0,
        latency: (Duration::from_millis(1), Duration::from_millis(20)),
        slow: 0,
        slow_latency: (Duration::from_millis(1), Duration::from_millis(1)),
    };
}

#[derive(Debug, Default)]
pub struct Network {
    /// How many partitions say that nothing passes from one to another.
    cut: [[u8; PARTIES]; PARTIES],
    /// How many congestions say that everything takes its time from one to another.
    slow: [[u8; PARTIES]; PARTIES],
}

impl Party {
    fn place(self) -> usize {
        match self {
            Self::Node(index) => index,
            Self::Replica(index) => MAX_NODES + index,
            Self::Database => MAX_NODES + MAX_REPLICAS,
            Self::Client => MAX_NODES + MAX_REPLICAS + 1,
        }
    }
}

impl Network {
    /// In one direction.
    pub fn cut(&mut self, from: Party, to: Party) {
        self.cut[from.place()][to.place()] += 1;
    }

    pub fn heal(&mut self, from: Party, to: Party) {
        let count = &mut self.cut[from.place()][to.place()];
        *count = count.saturating_sub(1);
    }

    /// In one direction.
    pub fn congest(&mut self, from: Party, to: Party) {
        self.slow[from.place()][to.place()] += 1;
    }

    pub fn relieve(&mut self, from: Party, to: Party) {
        let count = &mut self.slow[from.place()][to.place()];
        *count = count.saturating_sub(1);
    }

    pub fn heal_all(&mut self) {
        *self = Self::default();
    }

    pub fn passes(&self, from: Party, to: Party) -> bool {
        self.cut[from.place()][to.place()] == 0
    }

    /// Sends what `event` is the arrival of.
    pub fn post<W: World<Event: Clone>>(
        &self,
        stage: &mut Stage<W>,
        conditions: &Conditions,
        (from, to): (Party, Party),
        event: W::Event,
    ) {
        let [first, second] = self.deliveries(from, to, conditions, &mut stage.chance);
        if let Some(delay) = second {
            stage.coverage.fault("duplicate");
            stage.after(delay, event.clone());
        }
        if let Some(delay) = first {
            stage.after(delay, event);
        }
    }

    /// When the message arrives, and when its double does.
    fn deliveries(
        &self,
        from: Party,
        to: Party,
        conditions: &Conditions,
        chance: &mut Chance,
    ) -> [Option<Duration>; 2] {
        if !self.passes(from, to) || chance.happens(conditions.loss) {
            return [None; 2];
        }
        let congested = self.slow[from.place()][to.place()] > 0;
        let delay = |chance: &mut Chance| {
            let slow = congested || chance.happens(conditions.slow);
            let (least, greatest) = if slow { conditions.slow_latency } else { conditions.latency };
            chance.between(least, greatest)
        };
        // The database is spoken to over connections, which repeat nothing.
        let repeats = from != Party::Database && to != Party::Database;
        let double = repeats && chance.happens(conditions.duplication);
        [Some(delay(chance)), double.then(|| delay(chance))]
    }
}
