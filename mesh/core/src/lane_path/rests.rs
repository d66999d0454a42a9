//! How long what failed is left alone.

use std::{collections::BTreeMap, time::Duration};

use rap_proto::Moment;

use crate::paths::Candidate;

/// After its first failure a relay rests this long, and twice as long after each further one.
pub(super) const RELAY_REST: Duration = Duration::from_secs(1);
/// The same for a direct path.
pub(super) const DIRECT_REST: Duration = Duration::from_secs(5);
/// Nothing rests longer.
pub(super) const LONGEST_REST: Duration = Duration::from_secs(300);
/// While no path works, nothing rests longer than this.
pub(super) const RECOVERY_REST: Duration = Duration::from_secs(2);

/// The most of which this is kept, besides those of the candidates.
pub(super) const MAX_UNLISTED: usize = 64;

/// Enough for the longest rest.
const MAX_DOUBLINGS: u32 = 9;

#[derive(Debug, Clone, Copy)]
struct Rest {
    /// `None` when it was ended early.
    since: Option<Moment>,
    failures: u32,
}

#[derive(Debug, Clone, Default)]
pub(super) struct Rests {
    rests: BTreeMap<Candidate, Rest>,
}

impl Rests {
    pub(super) fn failed(&mut self, now: Moment, candidate: Candidate) {
        let rest = self.rests.entry(candidate).or_insert(Rest { since: None, failures: 0 });
        rest.since = Some(now);
        rest.failures = rest.failures.saturating_add(1);
    }

    pub(super) fn is_over(&self, now: Moment, candidate: Candidate, recovering: bool) -> bool {
        self.rests
            .get(&candidate)
            .is_none_or(|rest| rest.over_at(candidate, recovering).is_none_or(|at| at <= now))
    }

    pub(super) fn over_at(&self, candidate: Candidate, recovering: bool) -> Option<Moment> {
        self.rests.get(&candidate)?.over_at(candidate, recovering)
    }

    pub(super) fn failures(&self, candidate: Candidate) -> u32 {
        self.rests.get(&candidate).map_or(0, |rest| rest.failures)
    }

    /// Ends every rest; what fails again rests as long as it would have.
    pub(super) fn end_all(&mut self) {
        for rest in self.rests.values_mut() {
            rest.since = None;
        }
    }

    pub(super) fn forget(&mut self, candidate: Candidate) {
        self.rests.remove(&candidate);
    }

    /// Forgets what is not listed, but no relays that still rest: they come and go with what is
    /// measured of them. Those that are too many are forgotten as well.
    pub(super) fn keep(&mut self, now: Moment, listed: &[Candidate]) {
        let mut room = MAX_UNLISTED;
        self.rests.retain(|candidate, rest| {
            if listed.contains(candidate) {
                return true;
            }
            let rests = rest.over_at(*candidate, false).is_some_and(|at| at > now);
            let stays = candidate.is_relayed() && rests && room > 0;
            room -= usize::from(stays);
            stays
        });
    }
}

impl Rest {
    fn over_at(self, candidate: Candidate, recovering: bool) -> Option<Moment> {
        let length = self.length(candidate);
        Some(self.since? + if recovering { length.min(RECOVERY_REST) } else { length })
    }

    fn length(self, candidate: Candidate) -> Duration {
        let first = match candidate {
            Candidate::Direct(_) => DIRECT_REST,
            Candidate::Relay(_) | Candidate::Chain(_) => RELAY_REST,
        };
        let doublings = self.failures.saturating_sub(1).min(MAX_DOUBLINGS);
        (first * (1 << doublings)).min(LONGEST_REST)
    }
}
