//! How much of what others can ask for is done at once: for each that asks, and in all.

use std::collections::BTreeMap;

use rap_proto::NodeId;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    pub of_one: usize,
    pub all: usize,
}

impl Limits {
    /// Sockets at a relay that wait to see an asker.
    pub const LOOKS: Self = Self { of_one: 16, all: 256 };
    /// Rounds in which an egress takes part; each entry may have few, whoever else asks.
    pub const MEETINGS: Self = Self { of_one: 4, all: 64 };
}

/// INVARIANT: `all` is the sum of `taken`, which holds no zero.
#[derive(Debug, Clone)]
pub struct Places {
    limits: Limits,
    taken: BTreeMap<NodeId, usize>,
    all: usize,
}

impl Places {
    pub const fn new(limits: Limits) -> Self {
        Self { limits, taken: BTreeMap::new(), all: 0 }
    }

    /// Whether there was a place; [`Self::give_back`] returns it.
    pub fn take(&mut self, asker: NodeId) -> bool {
        let of_one = self.taken.get(&asker).copied().unwrap_or(0);
        if of_one >= self.limits.of_one || self.all >= self.limits.all {
            return false;
        }
        self.taken.insert(asker, of_one + 1);
        self.all += 1;
        true
    }

    pub fn give_back(&mut self, asker: NodeId) {
        let Some(of_one) = self.taken.get_mut(&asker) else { return };
        *of_one -= 1;
        self.all -= 1;
        if *of_one == 0 {
            self.taken.remove(&asker);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_takes_so_many_places_and_all_together_so_many() {
        let mut places = Places::new(Limits { of_one: 2, all: 3 });
        let [one, other] = [1, 2].map(NodeId::from_u128);
        assert_eq!([one, one, one].map(|it| places.take(it)), [true, true, false]);
        assert_eq!([other, other].map(|it| places.take(it)), [true, false]);
        places.give_back(one);
        assert!(places.take(other));
        places.give_back(NodeId::from_u128(3));
        assert!(!places.take(one), "who had none gave none back");
        [one, other, other].into_iter().for_each(|it| places.give_back(it));
        assert!(places.taken.is_empty() && places.all == 0);
    }
}
