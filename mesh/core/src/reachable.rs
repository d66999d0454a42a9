//! Egresses that only dial out: at which relays they keep themselves reachable, how long they pause
//! before they try again, and what a relay remembers of them.
//!
//! A relay that gives no line rests after a few attempts ([`Rests`]), and others get its turn.
//!
//! An egress is found at the relays of [`choose`]. Each of them holds one line to it, in a
//! [`Table`], and calls it over that line when somebody wants it. The shells own the lines.

mod rests;
#[cfg(test)]
mod tests;

use std::{
    collections::{
        BTreeMap, BTreeSet,
        btree_map::{Entry, OccupiedEntry},
    },
    time::Duration,
};

use rap_proto::{NodeId, RefusalCode};

use crate::peers::spread::Spread;

pub use rests::{MAX_RESTING, REST, Rests, TRIES};

/// The most relays at which one egress keeps itself reachable.
pub const MAX_RELAYS: usize = 8;
/// The most egresses that keep themselves reachable at one relay.
pub const MAX_NODES: usize = 4096;
/// The most calls of one relay that wait for their egress.
pub const MAX_CALLS: usize = 1024;
/// Those of them that wait for the same egress.
pub const MAX_CALLS_OF_ONE: usize = 64;
/// Those of them that the same node asked for.
pub const MAX_CALLS_OF_ASKER: usize = 256;
/// The pause after the first failure, spread by half; each further one doubles it.
pub const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// No pause is longer, but for the spread.
pub const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// A line that was held for so long begins with the first pause again.
pub const HELD_WELL: Duration = Duration::from_secs(10);
/// Pauses differ by so many percent, so that a fleet does not come back at once.
const PAUSE_SPREAD: u32 = 50;

/// Chooses at which relays an egress keeps itself reachable. `orders` has the relays for each lane of each
/// of its organizations, best first; `held` are those where it is, and `resting` those that gave no line.
/// Every order gets one first, as far as there are places, also one that another order got; then what is
/// held stays, and the best fill the rest. One that rests comes behind all that do not.
pub fn choose(
    orders: &[Vec<NodeId>],
    held: &BTreeSet<NodeId>,
    resting: &BTreeSet<NodeId>,
) -> BTreeSet<NodeId> {
    let rested = |order: &Vec<NodeId>| -> Vec<NodeId> {
        order.iter().filter(|relay| !resting.contains(relay)).copied().collect()
    };
    let rested: Vec<Vec<NodeId>> = orders.iter().map(rested).collect();
    let mut chosen = BTreeSet::new();
    for (order, rested) in orders.iter().zip(&rested) {
        if chosen.len() == MAX_RELAYS || rested.iter().any(|relay| chosen.contains(relay)) {
            continue;
        }
        let stays = order.iter().find(|relay| held.contains(relay));
        chosen.extend(stays.or(rested.first()).or(order.first()));
    }
    let mut take = |relay: NodeId| {
        if chosen.len() < MAX_RELAYS {
            chosen.insert(relay);
        }
    };
    let named = orders.iter().flatten();
    named.filter(|relay| held.contains(relay)).copied().for_each(&mut take);
    for (orders, place) in [&rested[..], orders].into_iter().flat_map(by_place) {
        orders.iter().filter_map(|order| order.get(place)).copied().for_each(&mut take);
    }
    chosen
}

/// The first places of each order: the first of all, then the second of all.
fn by_place(orders: &[Vec<NodeId>]) -> impl Iterator<Item = (&[Vec<NodeId>], usize)> {
    (0..MAX_RELAYS).map(move |place| (orders, place))
}

/// The pauses of one egress before it asks one relay again.
#[derive(Debug, Clone)]
pub struct Pauses {
    next: Duration,
    spread: Spread,
}

impl Pauses {
    /// `seed` is random bits.
    pub const fn new(seed: u64) -> Self {
        Self { next: FIRST_PAUSE, spread: Spread::new(seed) }
    }

    /// How long to wait now: after an attempt that failed, or after a line that was held for
    /// `held`.
    pub fn after(&mut self, held: Option<Duration>) -> Duration {
        if held.is_some_and(|held| held >= HELD_WELL) {
            self.next = FIRST_PAUSE;
        }
        let pause = self.spread.around(self.next, PAUSE_SPREAD);
        self.next = LONGEST_PAUSE.min(self.next * 2);
        pause
    }
}

/// How much a table holds; a relay uses [`Limits::RELAY`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    pub nodes: usize,
    pub calls: usize,
    pub calls_of_one: usize,
    pub calls_of_asker: usize,
}

impl Limits {
    pub const RELAY: Self = Self {
        nodes: MAX_NODES,
        calls: MAX_CALLS,
        calls_of_one: MAX_CALLS_OF_ONE,
        calls_of_asker: MAX_CALLS_OF_ASKER,
    };
}

/// Who keeps itself reachable at a relay, and how many calls wait for whom, and of whom.
///
/// INVARIANT: `all_calls` is the sum of `calls`, and of `asked`; neither holds a zero.
#[derive(Debug, Clone)]
pub struct Table {
    limits: Limits,
    /// The number of each node's line. No number is used twice.
    lines: BTreeMap<NodeId, u64>,
    next: u64,
    calls: BTreeMap<NodeId, usize>,
    /// The same calls by who asked for them.
    asked: BTreeMap<NodeId, usize>,
    all_calls: usize,
}

impl Table {
    pub const fn new(limits: Limits) -> Self {
        Self {
            limits,
            lines: BTreeMap::new(),
            next: 1,
            calls: BTreeMap::new(),
            asked: BTreeMap::new(),
            all_calls: 0,
        }
    }

    /// Takes a line of a node in the place of the one that it had, and returns its number.
    pub fn take(&mut self, node: NodeId) -> Result<u64, RefusalCode> {
        if self.lines.len() >= self.limits.nodes && !self.lines.contains_key(&node) {
            return Err(RefusalCode::LimitReached);
        }
        let number = self.next;
        self.next += 1;
        self.lines.insert(node, number);
        Ok(number)
    }

    /// Forgets a line. False when a newer one took its place.
    pub fn lose(&mut self, node: NodeId, number: u64) -> bool {
        let is_newest = self.lines.get(&node) == Some(&number);
        if is_newest {
            self.lines.remove(&node);
        }
        is_newest
    }

    pub fn len(&self) -> usize {
        self.lines.len()
    }

    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// Takes a place for a call of `asker` to a node that is reachable; [`Self::called`] gives it
    /// back.
    pub fn call(&mut self, asker: NodeId, node: NodeId) -> Result<(), RefusalCode> {
        if !self.lines.contains_key(&node) {
            return Err(RefusalCode::PathUnavailable);
        }
        let taken = |of: &BTreeMap<NodeId, usize>, who| of.get(&who).copied().unwrap_or(0);
        if taken(&self.calls, node) >= self.limits.calls_of_one
            || taken(&self.asked, asker) >= self.limits.calls_of_asker
            || self.all_calls >= self.limits.calls
        {
            return Err(RefusalCode::LimitReached);
        }
        *self.calls.entry(node).or_default() += 1;
        *self.asked.entry(asker).or_default() += 1;
        self.all_calls += 1;
        Ok(())
    }

    /// A call is over, whether it was heard or not.
    pub fn called(&mut self, asker: NodeId, node: NodeId) {
        let (Entry::Occupied(of_one), Entry::Occupied(of_asker)) =
            (self.calls.entry(node), self.asked.entry(asker))
        else {
            return;
        };
        give_back(of_one);
        give_back(of_asker);
        self.all_calls -= 1;
    }
}

fn give_back(mut taken: OccupiedEntry<'_, NodeId, usize>) {
    *taken.get_mut() -= 1;
    if *taken.get() == 0 {
        taken.remove();
    }
}
