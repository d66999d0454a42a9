//! What is known of the paths that flows could move to.

use std::{collections::BTreeMap, time::Duration};

use rap_proto::Moment;

use super::{
    FIRST_REST, LONGEST_REST, MAX_PROSPECTS, PROVEN_FOR, TRIAL_EVERY, TRIALS, WATCH_EVERY,
};
use crate::paths::{Candidate, is_slower};

/// Enough for the longest rest.
const MAX_DOUBLINGS: u32 = 5;

#[derive(Debug, Clone, Copy, Default)]
struct Prospect {
    /// Trials in a row that worked.
    passed: u32,
    /// The shortest round trip of those.
    round_trip: Option<Duration>,
    /// The shortest since flows left it as slow.
    shortest: Option<Duration>,
    last_passed: Moment,
    trying: bool,
    /// No trial before, and no move while it rests.
    next: Moment,
    rests_until: Moment,
    failures: u32,
    /// Not tried before for flows that are on it, or not compared with a direct path.
    watched_at: Moment,
    /// Until then flows leave it.
    slow_until: Moment,
}

#[derive(Debug, Clone, Default)]
pub(super) struct Prospects {
    known: BTreeMap<Candidate, Prospect>,
}

impl Prospects {
    pub(super) fn is_proven(&self, now: Moment, candidate: Candidate) -> bool {
        let proven =
            |it: &Prospect| it.passed >= TRIALS && it.is_fresh(now) && it.rests_until <= now;
        self.known.get(&candidate).is_some_and(proven)
    }

    /// Where a flow goes that leaves `over` now: what is proven, and a direct path that is not
    /// comes last, since the flow would be on it if it had got through.
    pub(super) fn refuge(
        &self,
        now: Moment,
        ways: &[Candidate],
        over: Candidate,
    ) -> Option<Candidate> {
        let free = ways.iter().filter(|way| **way != over && self.rests_until(**way) <= now);
        let rank = |way: &&Candidate| (!self.is_proven(now, **way), !way.is_relayed());
        free.min_by_key(rank).copied()
    }

    pub(super) fn rests_until(&self, candidate: Candidate) -> Moment {
        self.known.get(&candidate).map(|it| it.rests_until).unwrap_or_default()
    }

    /// When another trial may begin; `None` while one runs.
    pub(super) fn next_trial(&self, candidate: Candidate) -> Option<Moment> {
        match self.known.get(&candidate) {
            Some(it) => (!it.trying).then_some(it.next),
            None => Some(Moment::default()),
        }
    }

    /// Whether a trial begins now: it is needed, nothing forbids it, and there is room to remember
    /// what it comes to.
    pub(super) fn begin_trial(&mut self, now: Moment, candidate: Candidate) -> bool {
        if self.is_proven(now, candidate) || !self.has_room(now, candidate) {
            return false;
        }
        let it = self.known.entry(candidate).or_default();
        let begins = !it.trying && it.next <= now;
        it.trying |= begins;
        begins
    }

    /// Whether a trial of late worked.
    pub(super) fn is_fresh(&self, now: Moment, candidate: Candidate) -> bool {
        self.known.get(&candidate).is_some_and(|it| it.is_fresh(now))
    }

    /// Whether nothing is known of a path that works of late, and a trial may tell.
    pub(super) fn is_to_be_measured(&self, now: Moment, candidate: Candidate) -> bool {
        match self.known.get(&candidate) {
            Some(it) => !it.is_fresh(now) && it.rests_until <= now,
            None => self.known.len() < MAX_PROSPECTS,
        }
    }

    /// The round trips of both, if they were measured of late.
    pub(super) fn round_trips(
        &self,
        now: Moment,
        one: Candidate,
        other: Candidate,
    ) -> Option<(Duration, Duration)> {
        let fresh = |one| self.known.get(&one).filter(|it| it.is_fresh(now))?.round_trip;
        fresh(one).zip(fresh(other))
    }

    /// `round_trip` is that of a trial that worked. What no trial asked for counts for nothing.
    pub(super) fn tried(
        &mut self,
        now: Moment,
        candidate: Candidate,
        round_trip: Option<Duration>,
    ) {
        let Some(it) = self.known.get_mut(&candidate).filter(|it| it.trying) else { return };
        it.trying = false;
        let Some(took) = round_trip else { return it.fail(now) };
        let (passed, before) =
            if it.is_fresh(now) { (it.passed, it.round_trip) } else { (0, None) };
        it.passed = passed.saturating_add(1);
        it.round_trip = Some(before.map_or(took, |before| before.min(took)));
        it.shortest = Some(it.shortest.map_or(took, |shortest| shortest.min(took)));
        it.last_passed = now;
        it.next = it.next.max(now + TRIAL_EVERY);
    }

    /// When a path is tried that carries a flow since then.
    pub(super) fn watched_at(&self, candidate: Candidate, since: Moment) -> Moment {
        let at = self.known.get(&candidate).map(|it| it.watched_at).unwrap_or_default();
        at.max(since + WATCH_EVERY)
    }

    /// When a way over relays may be compared with a direct path.
    pub(super) fn compared_at(&self, way: Candidate) -> Moment {
        let known = self.known.get(&way);
        known.map(|it| it.rests_until.max(it.watched_at)).unwrap_or_default()
    }

    pub(super) fn watch_at(&mut self, candidate: Candidate, at: Moment) {
        if let Some(it) = self.known.get_mut(&candidate) {
            it.watched_at = at;
        }
    }

    /// Whether the last trials took much longer than the path takes when it is at its best.
    pub(super) fn became_slow(&self, candidate: Candidate) -> bool {
        let known = self.known.get(&candidate);
        let both = known.and_then(|it| it.round_trip.zip(it.shortest));
        both.is_some_and(|(round_trip, shortest)| is_slower(round_trip, shortest))
    }

    /// Flows leave it, and none takes it until then.
    pub(super) fn was_slow(&mut self, candidate: Candidate, until: Moment) {
        if let Some(it) = self.known.get_mut(&candidate) {
            (it.passed, it.round_trip, it.shortest) = (0, None, None);
            (it.slow_until, it.rests_until, it.next) = (until, until, until);
        }
    }

    pub(super) fn is_slow(&self, now: Moment, candidate: Candidate) -> bool {
        self.known.get(&candidate).is_some_and(|it| it.slow_until > now)
    }

    /// No trial before.
    pub(super) fn put_off(&mut self, candidate: Candidate, until: Moment) {
        if let Some(it) = self.known.get_mut(&candidate) {
            it.next = it.next.max(until);
        }
    }

    /// `was_good` forgives what failed before.
    pub(super) fn failed(&mut self, now: Moment, candidate: Candidate, was_good: bool) {
        if !self.has_room(now, candidate) {
            return;
        }
        let it = self.known.entry(candidate).or_default();
        if was_good {
            it.failures = 0;
        }
        it.fail(now);
    }

    /// Ends every rest; what fails again rests as long as it would have.
    pub(super) fn renew(&mut self) {
        for it in self.known.values_mut() {
            (it.next, it.rests_until) = (Moment::default(), Moment::default());
            it.slow_until = Moment::default();
        }
    }

    fn has_room(&mut self, now: Moment, candidate: Candidate) -> bool {
        if self.known.len() >= MAX_PROSPECTS && !self.known.contains_key(&candidate) {
            self.known.retain(|_, it| it.trying || it.is_fresh(now) || it.rests_until > now);
        }
        self.known.len() < MAX_PROSPECTS || self.known.contains_key(&candidate)
    }
}

impl Prospect {
    fn is_fresh(&self, now: Moment) -> bool {
        self.passed > 0 && now.since(self.last_passed) < PROVEN_FOR
    }

    fn fail(&mut self, now: Moment) {
        (self.passed, self.round_trip) = (0, None);
        // Flows that fail together are one failure.
        if self.rests_until > now {
            self.rests_until = self.rests_until.max(now + FIRST_REST);
        } else {
            self.rests_until = now + rest(self.failures);
            self.failures = self.failures.saturating_add(1);
        }
        self.next = self.rests_until;
    }
}

fn rest(failures: u32) -> Duration {
    (FIRST_REST * (1 << failures.min(MAX_DOUBLINGS))).min(LONGEST_REST)
}
