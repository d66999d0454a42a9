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
    /// Sockets at a relay that wait for an asker whose flow begins with a knock: as many of one as it may
    /// have waiting there at once.
    pub const KNOCKED_FLOWS: Self = Self { of_one: 48, all: 768 };
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
    fn each_limit_is_reached() {
        for limits in [Limits::LOOKS, Limits::KNOCKED_FLOWS, Limits::MEETINGS] {
            let Limits { of_one, all } = limits;
            let mut places = Places::new(limits);
            let askers: Vec<NodeId> =
                (0..all as u128 / of_one as u128).map(NodeId::from_u128).collect();
            for asker in &askers {
                assert!((0..of_one).all(|_| places.take(*asker)));
                assert!(!places.take(*asker), "{limits:?}");
            }
            let beyond = NodeId::from_u128(u128::MAX);
            assert!(!places.take(beyond), "{limits:?}");
            places.give_back(askers[0]);
            assert!(places.take(beyond), "{limits:?}");
        }
    }

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
