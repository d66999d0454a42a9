//! The search for a path that works, in five steps of growing effort.

use std::time::Duration;

use rap_proto::Moment;

use super::{Effect, LanePath, MAX_OPEN, SwitchReason, open_path::OpenPath};

/// How long the path in use has to answer before others are considered; two round trips if that
/// is longer.
pub(super) const RETRY_WAIT: Duration = Duration::from_millis(200);
/// How long warm paths have to answer before others are opened; two round trips if that is longer.
pub(super) const WARM_WAIT: Duration = Duration::from_millis(100);
/// How long the search among all candidates may take before other sources are asked.
pub(super) const COLD_LIMIT: Duration = Duration::from_secs(2);
/// How long a newer snapshot is waited for.
pub(super) const DISCOVERY_WAIT: Duration = Duration::from_secs(2);
/// Paths that a search has open at once, besides the one in use.
pub(super) const MAX_TRIED: usize = 3;

const _: () = assert!(MAX_TRIED < MAX_OPEN, "the one in use is open as well");

/// How far the search is. Nothing that an earlier step opened is closed by a later one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum RecoveryStep {
    /// The path in use is probed.
    RetryActive,
    /// Paths that are open already are probed.
    Warm,
    /// The other candidates are opened.
    Cold,
    /// Control is asked for a newer snapshot; everything is tried again.
    Discovery,
    /// Goes on with what the last snapshot allows.
    LastSnapshot,
}

impl RecoveryStep {
    pub const ALL: [Self; 5] =
        [Self::RetryActive, Self::Warm, Self::Cold, Self::Discovery, Self::LastSnapshot];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::RetryActive => "retry_active",
            Self::Warm => "warm",
            Self::Cold => "cold",
            Self::Discovery => "discovery",
            Self::LastSnapshot => "last_snapshot",
        }
    }
}

#[derive(Debug, Clone)]
pub(super) struct Recovery {
    pub(super) step: RecoveryStep,
    /// When the next step begins at the latest; the last one has no end.
    pub(super) until: Option<Moment>,
    reason: SwitchReason,
    /// Answers to probes before this one are too old to count.
    first_probe: u64,
}

impl LanePath {
    pub(super) fn recover(&mut self, now: Moment, reason: SwitchReason) {
        self.succession.dismiss();
        let is_doubt = reason == SwitchReason::Silent && !self.silence.is_hollow();
        let reason = match reason {
            SwitchReason::Silent if !is_doubt => SwitchReason::Hollow,
            other => other,
        };
        if !is_doubt && let Some(warm) = self.freshest() {
            return self.switch(now, warm, reason);
        }
        let (step, wait) = match is_doubt {
            true => (RecoveryStep::RetryActive, self.silence.answer_time(RETRY_WAIT)),
            false => (RecoveryStep::Warm, self.silence.answer_time(WARM_WAIT)),
        };
        match &mut self.recovery {
            Some(_) if is_doubt => return,
            Some(recovery) if recovery.step >= step => recovery.reason = reason,
            _ => {
                let first_probe = self.last_probe + 1;
                self.reached(step);
                self.recovery =
                    Some(Recovery { step, until: Some(now + wait), reason, first_probe });
            }
        }
        self.open.values_mut().for_each(|path| path.next_probe = now);
    }

    /// Goes through the steps as far as they are due.
    pub(super) fn search(&mut self, now: Moment) {
        while let Some(recovery) = self.recovery.clone() {
            if self.found(now, &recovery) {
                return;
            }
            if recovery.step >= RecoveryStep::Cold {
                self.open_more(now);
            }
            let is_due = recovery.until.is_some_and(|until| until <= now);
            if !is_due && !self.has_nothing_left(&recovery) {
                return;
            }
            self.advance(now, recovery.step);
        }
    }

    /// Ends the search when the path in use answers after all, or another one does.
    fn found(&mut self, now: Moment, recovery: &Recovery) -> bool {
        let answered = |path: &OpenPath| path.has_answered_since(recovery.first_probe);
        if recovery.reason == SwitchReason::Silent
            && self.open.get(&self.current).is_some_and(answered)
        {
            self.recovery = None;
            self.silence.clear();
            return true;
        }
        if recovery.step == RecoveryStep::RetryActive {
            return false;
        }
        let works = self.others().filter(|(_, path)| answered(path));
        let best = works.min_by_key(|(_, path)| self.rank(path.candidate));
        let Some((to, _)) = best else { return false };
        self.switch(now, to, recovery.reason);
        true
    }

    fn advance(&mut self, now: Moment, from: RecoveryStep) {
        let (step, until) = match from {
            RecoveryStep::RetryActive => {
                (RecoveryStep::Warm, Some(now + self.silence.answer_time(WARM_WAIT)))
            }
            RecoveryStep::Warm => (RecoveryStep::Cold, Some(now + COLD_LIMIT)),
            RecoveryStep::Cold => {
                self.effects.push_back(Effect::AskForSnapshot);
                self.rests.end_all();
                (RecoveryStep::Discovery, Some(now + DISCOVERY_WAIT))
            }
            RecoveryStep::Discovery => {
                self.effects.push_back(Effect::Retire);
                (RecoveryStep::LastSnapshot, None)
            }
            RecoveryStep::LastSnapshot => (RecoveryStep::LastSnapshot, None),
        };
        if step != from {
            self.reached(step);
        }
        if let Some(recovery) = &mut self.recovery {
            recovery.step = step;
            recovery.until = until;
        }
    }

    fn reached(&mut self, step: RecoveryStep) {
        *self.happened.steps.entry(step).or_default() += 1;
    }

    fn has_nothing_left(&self, recovery: &Recovery) -> bool {
        match recovery.step {
            RecoveryStep::Warm | RecoveryStep::Cold => self.others().next().is_none(),
            _ => false,
        }
    }

    fn open_more(&mut self, now: Moment) {
        for candidate in self.ranked() {
            if self.others().count() >= MAX_TRIED {
                return;
            }
            if !self.is_open(candidate) && self.rests.is_over(now, candidate, true) {
                self.open(now, candidate);
            }
        }
    }

    /// The best open path that answered its last probe.
    fn freshest(&self) -> Option<u64> {
        let fresh = self.others().filter(|(_, path)| path.is_fresh());
        let best = fresh.min_by_key(|(_, path)| self.rank(path.candidate));
        best.map(|(generation, _)| generation)
    }
}
