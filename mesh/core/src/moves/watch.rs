//! Whether flows leave the direct path that they are on, as it became slow.
//!
//! The path is tried seldom. When that takes much longer than it did once, it and a way over relays are
//! tried as often as a better path before flows move to it, and compared by that. Where the platform wants
//! direct paths better, they are compared however long the direct one takes.

use std::collections::BTreeSet;

use rap_proto::{Moment, paths::DirectPaths};

use super::{LaneMoves, Running, WATCH_EVERY, prospect::Prospects};
use crate::{
    lane_path::SLOW_REST,
    paths::{Candidate, is_too_slow_to_keep},
};

/// What came of looking at the flows on direct paths.
#[derive(Debug, Default)]
pub(super) struct Watched {
    tries: BTreeSet<Candidate>,
    /// What is as fast as it was.
    kept: BTreeSet<Candidate>,
    /// Ways over relays that are not faster: the next one is compared.
    no_faster: BTreeSet<Candidate>,
    slow: BTreeSet<Candidate>,
}

impl Watched {
    /// Where a flow goes that has been on this direct path since then, if it leaves it for one of these.
    pub(super) fn choose(
        &mut self,
        (now, prospects, rule): (Moment, &Prospects, DirectPaths),
        relayed: &[Candidate],
        (in_use, since): (Candidate, Moment),
    ) -> Option<Candidate> {
        let is_free = |way: &&Candidate| prospects.compared_at(**way) <= now;
        if prospects.is_slow(now, in_use) {
            let free: Vec<Candidate> = relayed.iter().filter(is_free).copied().collect();
            return prospects.refuge(now, &free, in_use);
        }
        if prospects.watched_at(in_use, since) > now {
            return None;
        }
        let way = relayed.iter().find(is_free).copied()?;
        let is_compared = rule == DirectPaths::WhenBetter || prospects.became_slow(in_use);
        let both = prospects.round_trips(now, in_use, way);
        if !prospects.is_fresh(now, in_use) {
            self.tries.insert(in_use);
        } else if !is_compared {
            self.kept.insert(in_use);
        } else if !prospects.is_proven(now, in_use) || !prospects.is_proven(now, way) {
            self.tries.extend([in_use, way]);
        } else if both.is_some_and(|(took, way)| is_too_slow_to_keep(rule, took, way)) {
            self.slow.insert(in_use);
            return Some(way);
        } else {
            self.no_faster.insert(way);
        }
        None
    }

    /// Whether a path that carries flows is being compared with ways over relays.
    pub(super) fn compares(&self, path: Candidate) -> bool {
        self.tries.contains(&path)
    }

    /// Whether flows leave it from now on.
    pub(super) fn leaves(&self, path: Candidate) -> bool {
        self.slow.contains(&path)
    }

    /// Returns what is to be tried.
    pub(super) fn conclude(self, now: Moment, prospects: &mut Prospects) -> Vec<Candidate> {
        for path in self.kept {
            prospects.watch_at(path, now + WATCH_EVERY);
        }
        for way in self.no_faster {
            prospects.watch_at(way, now + SLOW_REST);
        }
        for path in self.slow {
            prospects.was_slow(path, now + SLOW_REST);
        }
        self.tries.into_iter().filter(|path| prospects.begin_trial(now, *path)).collect()
    }
}

impl LaneMoves {
    /// When there is something to do for a flow on a direct path.
    pub(super) fn next_watch(&self, running: &Running, over: Candidate) -> Option<Moment> {
        let Self { prospects, relayed, looked, .. } = self;
        let free_at = relayed.iter().map(|way| prospects.compared_at(*way)).min()?;
        let at = running.due.max(free_at);
        if prospects.is_slow(*looked, over) {
            return Some(if at > *looked { at } else { prospects.rests_until(over) });
        }
        let at = at.max(prospects.watched_at(over, running.since));
        let tried_at = relayed.iter().chain([&over]).filter_map(|way| prospects.next_trial(*way));
        let due = if at > *looked { Some(at) } else { None };
        due.or_else(|| tried_at.filter(|at| at > looked).min())
    }
}
