//! Leaving relays that carry the lane, for others that lead over no more of them: because those are
//! worth clearly more, and have been for a while, or because one in use drains.
//!
//! The other path is opened beside the one in use, unless it is warm already, and answers several
//! probes in a row before the lane moves. From relays that are merely worth less a lane moves rarely, at
//! a moment of its own, and to nothing that takes much longer. From one that drains it moves at a moment of its own, since
//! others leave it, too, to whatever else over relays answers, and stays while nothing does. A direct path
//! that takes much longer than it did, for a while, is left for a way over relays than which it is slower; where
//! the platform wants it better, for one than which it is clearly slower, whatever it took before.

use std::{collections::BTreeMap, time::Duration};

use rap_proto::Moment;

use super::{LanePath, SwitchReason, open_path::OpenPath, upkeep::BETTER_ANSWERS};
use crate::{paths::Candidate, peers::spread::Spread, score::relays::NEARLY_THE_SAME};

/// A path is worth clearly more when the scores differ by this.
pub const BETTER_BY: u16 = NEARLY_THE_SAME;
/// For so long it has to be worth more, without a pause: longer than it takes most nodes to ask
/// their peers again, so that one odd measurement moves nobody.
pub const BETTER_FOR: Duration = Duration::from_secs(12);
/// A lane waits longer than that by up to this, at its own pace: others see the same relay become the
/// best, and it says how busy it is before all of them are there.
pub const BETTER_WITHIN: Duration = Duration::from_secs(30);
/// A lane moves to what is worth more at most so often …
pub const MOVE_EVERY: Duration = Duration::from_secs(60);
/// … and waits longer than that by up to this.
pub const MOVE_WITHIN: Duration = Duration::from_secs(30);
/// What is worth more and took much longer is not tried again before, nor is a direct path that was left as
/// it was slow, nor a relay that was not much faster than one.
pub const SLOW_REST: Duration = Duration::from_secs(300);

/// A relay that drains is left within this time, where anything else answers: its lanes, of which there
/// can be thousands, spread over it.
pub const DRAIN_WITHIN: Duration = Duration::from_secs(10);

/// When another path has answered this often, the one in use is waited for no longer.
pub(super) const ENOUGH_ANSWERS: u32 = 4 * BETTER_ANSWERS;

/// The most that are remembered as slow; of more, those whose time ends first are forgotten.
pub(super) const MAX_SLOW: usize = 64;

/// What a way over relays is worth at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Worth {
    /// By [`crate::score`].
    pub total: u16,
    /// Whether one of its relays drains: it goes on with what it has, and sets nothing up.
    pub drains: bool,
}

#[derive(Debug, Clone)]
pub(super) struct Succession {
    /// Of candidates alone.
    worths: BTreeMap<Candidate, Worth>,
    /// Since when each of these is worth more than the path in use.
    better_since: BTreeMap<Candidate, Moment>,
    /// For how long that has to be so. Drawn when anything comes to be worth more, and the same for all
    /// that do: the best of them comes first.
    patience: Duration,
    /// Until when each of these is not tried, whatever it is worth by then: it took too long.
    slow_until: BTreeMap<Candidate, Moment>,
    /// The open path that is to follow, once it has answered.
    successor: Option<u64>,
    /// No move to what is worth more before this.
    rests_until: Option<Moment>,
    /// When each candidate that drains is left, if the lane is on it by then, or keeps it warm.
    left_at: BTreeMap<Candidate, Moment>,
    spread: Spread,
}

impl Succession {
    pub(super) const fn new(seed: u64) -> Self {
        Self {
            worths: BTreeMap::new(),
            better_since: BTreeMap::new(),
            patience: BETTER_FOR,
            slow_until: BTreeMap::new(),
            successor: None,
            rests_until: None,
            left_at: BTreeMap::new(),
            spread: Spread::new(seed),
        }
    }

    pub(super) fn drains(&self, candidate: &Candidate) -> bool {
        self.worths.get(candidate).is_some_and(|worth| worth.drains)
    }

    /// Whether a candidate drains, and it is this lane's time to leave it.
    pub(super) fn is_left(&self, now: Moment, candidate: &Candidate) -> bool {
        self.left_at.get(candidate).is_some_and(|at| *at <= now)
    }

    /// Draws for each candidate that begins to drain when it is left.
    fn watch_drains(&mut self, now: Moment) {
        let Self { worths, left_at, spread, .. } = self;
        left_at.retain(|candidate, _| worths.get(candidate).is_some_and(|worth| worth.drains));
        for (candidate, _) in worths.iter().filter(|(_, worth)| worth.drains) {
            let draw = || now + spread.around(DRAIN_WITHIN / 2, 100);
            left_at.entry(*candidate).or_insert_with(draw);
        }
    }

    pub(super) const fn successor(&self) -> Option<u64> {
        self.successor
    }

    /// The path that was to follow is one like others.
    pub(super) const fn dismiss(&mut self) {
        self.successor = None;
    }

    pub(super) fn was_slow(&mut self, now: Moment, candidate: Candidate) {
        self.slow_until.retain(|_, until| *until > now);
        self.slow_until.insert(candidate, now + SLOW_REST);
        if self.slow_until.len() > MAX_SLOW {
            let first = self.slow_until.iter().min_by_key(|(_, until)| **until);
            if let Some(candidate) = first.map(|(candidate, _)| *candidate) {
                self.slow_until.remove(&candidate);
            }
        }
    }

    pub(super) fn is_slow(&self, now: Moment, candidate: &Candidate) -> bool {
        self.slow_until(candidate).is_some_and(|until| until > now)
    }

    /// For how long something has to be so, before this lane moves because of it.
    pub(super) fn draw_patience(&mut self) -> Duration {
        BETTER_FOR + self.spread.around(BETTER_WITHIN / 2, 100)
    }

    pub(super) fn slow_until(&self, candidate: &Candidate) -> Option<Moment> {
        self.slow_until.get(candidate).copied()
    }

    fn due_at(&self, candidate: &Candidate, since: Moment) -> Moment {
        let others = [self.rests_until, self.slow_until(candidate)];
        others.into_iter().flatten().fold(since + self.patience, Ord::max)
    }

    fn is_due(&self, now: Moment, candidate: &Candidate) -> bool {
        let since = self.better_since.get(candidate);
        since.is_some_and(|since| self.due_at(candidate, *since) <= now)
    }
}

impl LanePath {
    pub(super) fn value(&mut self, now: Moment, worths: BTreeMap<Candidate, Worth>) {
        self.succession.worths = worths;
        self.compare(now);
    }

    /// Looks again at what is worth more than the path in use.
    pub(super) fn compare(&mut self, now: Moment) {
        let candidates = &self.candidates;
        self.succession.worths.retain(|candidate, _| candidates.contains(candidate));
        self.succession.watch_drains(now);
        let before = std::mem::take(&mut self.succession.better_since);
        let Some(in_use) = self.in_use() else { return };
        let Some(own) = self.succession.worths.get(&in_use) else { return };
        let is_more = |(candidate, worth): &(&Candidate, &Worth)| {
            worth.total >= own.total.saturating_add(BETTER_BY)
                && !worth.drains
                && candidate.is_relayed()
                && candidate.hops() <= in_use.hops()
        };
        let more = self.succession.worths.iter().filter(is_more);
        let since =
            |candidate: Candidate| (candidate, before.get(&candidate).copied().unwrap_or(now));
        self.succession.better_since = more.map(|(candidate, _)| since(*candidate)).collect();
        if before.is_empty() && !self.succession.better_since.is_empty() {
            self.succession.patience = self.succession.draw_patience();
        }
    }

    /// Opens what is to follow the path in use, and moves to it when it answers.
    pub(super) fn look_for_successor(&mut self, now: Moment) {
        if self.is_on_trial() {
            return;
        }
        let Some((candidate, reason)) = self.next_in_line(now) else {
            return self.succession.dismiss();
        };
        let open = self.open.iter().find(|(_, path)| path.candidate == candidate);
        let seen = |path: &OpenPath| match reason {
            SwitchReason::Slower => self.is_outrun_by(path),
            _ => !self.is_slower(path),
        };
        match open.map(|(generation, path)| (*generation, path.answers, seen(path))) {
            Some((generation, answers, is_fit))
                if self.succession.successor == Some(generation) =>
            {
                if answers >= BETTER_ANSWERS && self.is_measured_beside(answers) {
                    self.succeed(now, (generation, candidate), is_fit, reason);
                }
            }
            // What it answered as a warm path was long ago.
            Some((generation, ..)) => {
                self.succession.successor = Some(generation);
                self.open.get_mut(&generation).into_iter().for_each(|path| path.ask_anew(now));
                self.ask_in_use_anew(now);
            }
            None => {
                self.open(now, candidate);
                self.succession.successor = Some(self.last_generation);
                self.ask_in_use_anew(now);
            }
        }
    }

    /// Whether the path in use is probed like the one that is to follow. A relay is compared by the
    /// connection's estimate, since what is worth more may be a little slower; but not with a direct path
    /// that has to be better.
    pub(super) fn measures_in_use(&self) -> bool {
        (self.succession.successor.is_some() && !self.is_relayed()) || self.tries_better()
    }

    pub(super) fn ask_in_use_anew(&mut self, now: Moment) {
        if self.measures_in_use() {
            self.open.get_mut(&self.current).into_iter().for_each(|path| path.ask_anew(now));
        }
    }

    /// `answers` are those of the other path.
    pub(super) fn is_measured_beside(&self, answers: u32) -> bool {
        let in_use = self.open.get(&self.current);
        !self.measures_in_use()
            || answers >= ENOUGH_ANSWERS
            || in_use.is_some_and(|path| path.answers >= BETTER_ANSWERS)
    }

    /// When something becomes due here that nothing announces.
    pub(super) fn succession_due(&self) -> Option<Moment> {
        if self.recovery.is_some() || self.is_on_trial() || !self.is_relayed() {
            return None;
        }
        let slow = self.candidates.iter().filter(|one| !one.is_relayed());
        let slow = slow.filter_map(|one| self.succession.slow_until(one));
        let better = self.succession.better_since.iter();
        let due = better.map(|(candidate, since)| self.succession.due_at(candidate, *since));
        let open = self.open.values().map(|path| path.candidate);
        let left = open.filter_map(|candidate| self.succession.left_at.get(&candidate).copied());
        due.chain(left).chain(slow).filter(|at| *at > self.settled_at).min()
    }

    fn succeed(
        &mut self,
        now: Moment,
        (generation, candidate): (u64, Candidate),
        is_fit: bool,
        reason: SwitchReason,
    ) {
        match (reason, is_fit) {
            (SwitchReason::Draining, _) => return self.switch(now, generation, reason),
            (SwitchReason::Slower, true) => {
                let left = self.in_use();
                left.into_iter().for_each(|left| self.succession.was_slow(now, left));
                return self.switch(now, generation, reason);
            }
            (_, false) => {
                self.succession.was_slow(now, candidate);
                return self.succession.dismiss();
            }
            (_, true) => {}
        }
        let pause = MOVE_EVERY + self.succession.spread.around(MOVE_WITHIN / 2, 100);
        self.succession.rests_until = Some(now + pause);
        self.switch(now, generation, reason);
    }

    /// What is to follow the path in use, and why. Whatever was chosen stays chosen while it may.
    fn next_in_line(&self, now: Moment) -> Option<(Candidate, SwitchReason)> {
        let in_use = self.in_use()?;
        let reason = if !in_use.is_relayed() {
            self.slowness.is_due(now).then_some(SwitchReason::Slower)?
        } else if self.succession.is_left(now, &in_use) {
            SwitchReason::Draining
        } else {
            SwitchReason::Better
        };
        let fits = |one: &Candidate| {
            *one != in_use
                && one.is_relayed()
                && !self.succession.drains(one)
                && (self.is_open(*one) || self.rests.is_over(now, *one, false))
                && match reason {
                    SwitchReason::Better => self.succession.is_due(now, one),
                    SwitchReason::Slower => !self.succession.is_slow(now, one),
                    _ => true,
                }
        };
        let chosen = self.succession.successor.and_then(|chosen| self.open.get(&chosen));
        let chosen = chosen.map(|path| path.candidate).filter(|one| self.candidates.contains(one));
        let mut all = chosen.into_iter().chain(self.ranked());
        Some((all.find(fits)?, reason))
    }
}
