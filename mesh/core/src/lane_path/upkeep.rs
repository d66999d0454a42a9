//! What a lane does while its path works: keep another one warm, and look for a better one.

use std::time::Duration;

use rap_proto::{Moment, paths::DirectPaths};

use super::{
    Effect, LanePath, MAX_CANDIDATES, SwitchReason,
    open_path::{ANSWER_WAIT, OpenPath, Pace},
};
use crate::paths::{Candidate, is_too_slow_to_keep, is_too_slow_to_take};

/// A direct path answers this many probes in a row before the lane moves to it.
pub(super) const BETTER_ANSWERS: u32 = 3;
/// How long a new path carries the lane before the one before it is given up.
pub(super) const PROVEN_AFTER: Duration = Duration::from_secs(2);
/// A new path over which nothing came by then is doubted.
pub(super) const HEARD_LIMIT: Duration = Duration::from_secs(3);
/// After this long in use, a path's earlier failures are forgotten.
pub(super) const SETTLED_AFTER: Duration = Duration::from_secs(60);

/// A path that is new in use.
#[derive(Debug, Clone)]
pub(super) struct Trial {
    /// The path before it, for as long as that is kept.
    pub(super) fallback: Option<u64>,
    since: Moment,
    pub(super) heard: bool,
    proven: bool,
}

impl Trial {
    pub(super) const fn begin(now: Moment, fallback: Option<u64>) -> Self {
        Self { fallback, since: now, heard: false, proven: false }
    }

    pub(super) fn deadline(&self) -> Moment {
        let after = match (self.proven, self.heard) {
            (true, _) => SETTLED_AFTER,
            (false, true) => PROVEN_AFTER,
            (false, false) => HEARD_LIMIT,
        };
        self.since + after
    }
}

impl LanePath {
    pub(super) fn allow(&mut self, now: Moment, mut candidates: Vec<Candidate>) {
        candidates.truncate(MAX_CANDIDATES);
        self.candidates = candidates;
        let listed = self.candidates.clone();
        self.rests.keep(now, &listed);
        self.compare(now);
        let unlisted: Vec<u64> = self
            .open
            .iter()
            .filter(|(_, path)| !listed.contains(&path.candidate))
            .map(|(generation, _)| *generation)
            .collect();
        for generation in unlisted {
            if generation != self.current || self.is_relayed() {
                self.leave(now, generation);
            }
        }
    }

    /// Takes and keeps direct paths by this rule from now on.
    pub(super) fn obey(&mut self, now: Moment, rule: DirectPaths) {
        if std::mem::replace(&mut self.direct, rule) != rule {
            self.not_better = false;
            self.slowness.restart();
            self.ask_in_use_anew(now);
        }
        if !rule.are_allowed() {
            self.withdraw(now, |one| !one.is_relayed());
        }
    }

    /// Leaves what is meant and not listed.
    pub(super) fn withdraw(&mut self, now: Moment, is_meant: impl Fn(Candidate) -> bool) {
        let is_left = |one: Candidate| is_meant(one) && !self.candidates.contains(&one);
        let left = self.open.iter().filter(|(_, path)| is_left(path.candidate));
        let left: Vec<u64> = left.map(|(generation, _)| *generation).collect();
        left.into_iter().for_each(|generation| self.leave(now, generation));
    }

    fn leave(&mut self, now: Moment, generation: u64) {
        self.close(generation);
        if generation == self.current {
            self.recover(now, SwitchReason::NotAllowed);
        }
    }

    /// Gives up what was not set up in time, and what answers nothing.
    pub(super) fn expire(&mut self, now: Moment) {
        let failed = self.others().filter(|(_, path)| path.has_failed(now));
        let failed: Vec<u64> = failed.map(|(generation, _)| generation).collect();
        failed.into_iter().for_each(|generation| self.give_up(now, generation));
    }

    pub(super) fn judge_trial(&mut self, now: Moment) {
        let Some(trial) = &mut self.trial else { return };
        if self.recovery.is_some() || trial.deadline() > now {
            return;
        }
        if trial.proven {
            if let Some(path) = self.open.get(&self.current) {
                self.rests.forget(path.candidate);
            }
            self.trial = None;
        } else if trial.heard {
            trial.proven = true;
            trial.fallback = None;
        } else {
            trial.since = now;
            self.recover(now, SwitchReason::Silent);
        }
    }

    /// Beside a relayed path one more is kept ready that is no shorter; beside a direct one nothing
    /// is. What is to follow the path in use is ready as well. A relay that drains is let go in time.
    pub(super) fn keep_warm(&mut self, now: Moment) {
        let fallback = self.trial.as_ref().and_then(|trial| trial.fallback);
        let kept = [fallback, self.succession.successor()];
        let mut relayed: Vec<_> = self
            .others()
            .filter(|(generation, path)| {
                let is_mine = self.is_spare(&path.candidate) || self.drains(&path.candidate);
                is_mine && !kept.contains(&Some(*generation))
            })
            .map(|(generation, path)| {
                let is_left = self.succession.is_left(now, &path.candidate);
                (is_left, self.rank(path.candidate), generation)
            })
            .collect();
        relayed.sort_unstable();
        let wanted = usize::from(self.is_relayed());
        let spare = relayed.iter().filter(|(is_left, ..)| !is_left).count().min(wanted);
        relayed.iter().skip(spare).for_each(|(.., generation)| self.close(*generation));
        if spare < wanted && kept == [None; 2] {
            let next = self.first_rested(now, |one| self.is_spare(one));
            next.into_iter().for_each(|candidate| self.open(now, candidate));
        }
    }

    /// Opens a direct path where a relayed one is in use, or a single relay where a chain is, and
    /// moves to it when it answers.
    pub(super) fn look_for_better(&mut self, now: Moment) {
        let slow = self.others().find(|(generation, path)| {
            !path.candidate.is_relayed()
                && !self.is_fallback(*generation)
                && self.succession.is_slow(now, &path.candidate)
        });
        slow.map(|(generation, _)| generation).into_iter().for_each(|slow| self.close(slow));
        let tried = self.others().find(|(_, path)| self.is_better(&path.candidate)).map(
            |(generation, path)| {
                // What drains is left for a slower relay too, in time.
                let is_way_out = self.in_use_drains() && path.candidate.is_relayed();
                let is_left = self.in_use().is_some_and(|it| self.succession.is_left(now, &it));
                (generation, path.answers, (is_way_out, is_left, self.is_slower(path)))
            },
        );
        let is_wanted = self.is_relayed() || !self.is_listed();
        match tried {
            Some((generation, ..)) if !is_wanted && !self.is_fallback(generation) => {
                self.close(generation);
            }
            Some((generation, answers, seen))
                if answers >= BETTER_ANSWERS
                    && !self.is_on_trial()
                    && self.is_measured_beside(answers) =>
            {
                match seen {
                    (true, true, _) => self.switch(now, generation, SwitchReason::Draining),
                    (_, _, false) => self.switch(now, generation, SwitchReason::Better),
                    (true, false, true) => {}
                    (false, _, true) => self.turn_down(now, generation),
                }
            }
            None if is_wanted => {
                let next = self.first_rested(now, |one| {
                    self.is_better(one) && !self.succession.is_slow(now, one)
                });
                if let Some(candidate) = next {
                    self.open(now, candidate);
                    self.ask_in_use_anew(now);
                }
            }
            _ => {}
        }
    }

    /// Leaves alone for a while what works and is slower than the path in use.
    fn turn_down(&mut self, now: Moment, generation: u64) {
        let path = self.open.get(&generation);
        let is_direct = path.is_some_and(|path| !path.candidate.is_relayed());
        self.give_up(now, generation);
        self.not_better |= is_direct && self.is_relayed();
    }

    pub(super) fn probe(&mut self, now: Moment) {
        let recovers = self.recovery.is_some();
        let successor = self.succession.successor();
        let measures_in_use = self.measures_in_use();
        for (generation, path) in &mut self.open {
            let in_use = *generation == self.current;
            let pace = match path.candidate {
                _ if recovers => Pace::Soon,
                _ if in_use || successor == Some(*generation) => Pace::Patient,
                Candidate::Direct(_) => Pace::Soon,
                Candidate::Relay(_) | Candidate::Chain(_) => Pace::Seldom,
            };
            let is_left_alone = in_use && !recovers && !measures_in_use;
            if is_left_alone || !path.takes_probe(now, self.last_probe + 1, pace) {
                continue;
            }
            self.last_probe += 1;
            let probe = self.last_probe;
            self.effects.push_back(Effect::Probe { generation: *generation, probe });
        }
    }

    /// What the lane leads over, unless that is closed.
    pub(super) fn in_use(&self) -> Option<Candidate> {
        self.open.get(&self.current).map(|path| path.candidate)
    }

    fn in_use_drains(&self) -> bool {
        self.in_use().is_some_and(|candidate| self.drains(&candidate))
    }

    pub(super) fn is_relayed(&self) -> bool {
        self.in_use().is_some_and(|candidate| candidate.is_relayed())
    }

    /// Whether a path would be preferred to the one in use, if it works.
    fn is_better(&self, candidate: &Candidate) -> bool {
        let in_use = self.in_use().map_or(0, |candidate| candidate.hops());
        match candidate {
            Candidate::Direct(_) => true,
            Candidate::Relay(_) | Candidate::Chain(_) => {
                in_use > 1 && candidate.hops() == 1 && !self.drains(candidate)
            }
        }
    }

    /// By what was measured of both; what was not is not held against anybody. One over fewer nodes that is
    /// slower than the one in use rests like one that failed.
    pub(super) fn is_slower(&self, path: &OpenPath) -> bool {
        let in_use = match path.candidate {
            Candidate::Direct(_) if self.has_to_be_better() => self.probed_in_use(),
            _ => self.silence.round_trip(),
        };
        // Between two direct paths there is no relay to be better than.
        let rule = if self.is_relayed() { self.direct } else { DirectPaths::Allowed };
        let both = path.round_trip.zip(in_use);
        both.is_some_and(|(other, in_use)| {
            is_too_slow_to_take(rule, (path.candidate, other), in_use)
        })
    }

    /// Whether the path in use is slower than one that was measured beside it, by probes of both. What it
    /// does not answer in time takes as long as is waited for it.
    pub(super) fn is_outrun_by(&self, path: &OpenPath) -> bool {
        let in_use = self.probed_in_use().unwrap_or(ANSWER_WAIT);
        path.round_trip.is_some_and(|other| is_too_slow_to_keep(self.direct, in_use, other))
    }

    /// The round trip of probes along the path in use, while it is probed.
    fn probed_in_use(&self) -> Option<Duration> {
        self.open.get(&self.current).and_then(|in_use| in_use.round_trip)
    }

    /// Whether a direct path has to be better than a way over relays.
    pub(super) fn wants_better(&self) -> bool {
        self.direct == DirectPaths::WhenBetter
    }

    /// Whether a direct path has to be better than the path in use.
    fn has_to_be_better(&self) -> bool {
        self.wants_better() && self.is_relayed()
    }

    /// Whether a direct path is tried that has to be better than the path in use.
    pub(super) fn tries_better(&self) -> bool {
        let is_tried = |(generation, path): (u64, &OpenPath)| {
            !path.candidate.is_relayed() && !self.is_fallback(generation)
        };
        self.has_to_be_better() && self.others().any(is_tried)
    }

    fn is_spare(&self, candidate: &Candidate) -> bool {
        candidate.is_relayed() && !self.is_better(candidate) && !self.drains(candidate)
    }

    pub(super) fn is_listed(&self) -> bool {
        self.in_use().is_some_and(|candidate| self.candidates.contains(&candidate))
    }

    fn is_fallback(&self, generation: u64) -> bool {
        self.trial.as_ref().is_some_and(|trial| trial.fallback == Some(generation))
    }

    pub(super) fn is_on_trial(&self) -> bool {
        self.trial.as_ref().is_some_and(|trial| !trial.proven)
    }

    fn first_rested(&self, now: Moment, wanted: impl Fn(&Candidate) -> bool) -> Option<Candidate> {
        let mut fit = self.ranked().into_iter().filter(wanted);
        fit.find(|one| !self.is_open(*one) && self.rests.is_over(now, *one, false))
    }
}
