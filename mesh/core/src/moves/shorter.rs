//! Which shorter path a flow moves to, by what trials of both came to.

use std::collections::{BTreeMap, BTreeSet};

use rap_proto::{Moment, paths::DirectPaths};

use super::{MOVE_EVERY, prospect::Prospects, watch::Watched};
use crate::paths::{Candidate, is_too_slow_to_take};

/// What came of looking at the flows that are due.
#[derive(Debug, Default)]
pub(super) struct Compared {
    /// What is not proven yet, or not compared, and the paths that flows would leave for it.
    unproven: BTreeMap<Candidate, BTreeSet<Candidate>>,
    /// What is slower than some path in use.
    slower: BTreeSet<Candidate>,
    /// What some flow moves to.
    fit: BTreeSet<Candidate>,
}

impl Compared {
    /// The first of the shorter paths that is proven, and not too slow beside the path in use: what was not
    /// measured is held against nobody.
    pub(super) fn choose(
        &mut self,
        (now, prospects, rule): (Moment, &Prospects, DirectPaths),
        shorter: &[Candidate],
        in_use: Candidate,
    ) -> Option<Candidate> {
        let is_too_slow = |way: Candidate| {
            let both = prospects.round_trips(now, way, in_use);
            both.is_some_and(|(took, in_use)| is_too_slow_to_take(rule, (way, took), in_use))
        };
        for way in shorter {
            if !prospects.is_proven(now, *way) || prospects.is_to_be_measured(now, in_use) {
                self.unproven.entry(*way).or_default().insert(in_use);
            } else if is_too_slow(*way) {
                self.slower.insert(*way);
            } else {
                self.fit.insert(*way);
                return Some(*way);
            }
        }
        None
    }

    /// What is slower for every flow rests like what failed. What is for some is tried for them like a
    /// path that flows moved to, and so is what others are `watched` on: a rest would end their comparison.
    /// Returns what is to be tried.
    pub(super) fn conclude(
        self,
        now: Moment,
        prospects: &mut Prospects,
        watched: &Watched,
    ) -> Vec<Candidate> {
        for way in self.slower {
            match self.fit.contains(&way) || watched.compares(way) {
                true => prospects.put_off(way, now + MOVE_EVERY),
                false => prospects.failed(now, way, false),
            }
        }
        let mut tries = Vec::new();
        for (way, left) in self.unproven {
            let begins = prospects.begin_trial(now, way);
            tries.extend(begins.then_some(way));
            // What did not answer once is compared with nothing.
            if prospects.is_fresh(now, way) && (begins || prospects.is_proven(now, way)) {
                tries.extend(left.into_iter().filter(|one| prospects.begin_trial(now, *one)));
            }
        }
        tries
    }
}
