//! One path that is open, or being opened.

use std::time::Duration;

use rap_proto::Moment;

use crate::paths::Candidate;

/// How often a path is probed while something depends on its answer.
pub(super) const PROBE_AGAIN: Duration = Duration::from_millis(250);
/// How long the answer of a path that is to follow a working one is waited for before the next probe:
/// its round trip may be longer than the pause above, and nothing hurries.
pub(super) const ANSWER_WAIT: Duration = Duration::from_secs(1);
/// How often a warm path is probed: more often than a relay ends what nobody uses.
pub(super) const WARM_PROBE_EVERY: Duration = Duration::from_secs(5);
/// A path besides the one in use that leaves this many probes unanswered is given up.
pub(super) const MAX_MISSES: u32 = 4;

/// When the next probe follows one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pace {
    /// Soon, answered or not.
    Soon,
    /// Soon once it is answered.
    Patient,
    /// After a while, if it answered before.
    Seldom,
}

#[derive(Debug, Clone)]
pub(super) struct OpenPath {
    pub(super) candidate: Candidate,
    ready: bool,
    since: Moment,
    /// The last probe that was sent, and the last that was answered; zero is none.
    probed: u64,
    last_answered: u64,
    probed_at: Moment,
    /// Answers without a miss between them.
    pub(super) answers: u32,
    /// The shortest round trip of those.
    pub(super) round_trip: Option<Duration>,
    misses: u32,
    /// Of the last probe.
    pace: Pace,
    pub(super) next_probe: Moment,
}

impl OpenPath {
    pub(super) const fn in_use(now: Moment, candidate: Candidate) -> Self {
        Self { ready: true, ..Self::asked_for(now, candidate) }
    }

    pub(super) const fn asked_for(now: Moment, candidate: Candidate) -> Self {
        Self {
            candidate,
            ready: false,
            since: now,
            probed: 0,
            last_answered: 0,
            probed_at: now,
            answers: 0,
            round_trip: None,
            misses: 0,
            pace: Pace::Soon,
            next_probe: now,
        }
    }

    /// It is ready, and nothing is known of it yet.
    pub(super) fn opened(&mut self, now: Moment) {
        self.ready = true;
        (self.probed, self.last_answered, self.answers, self.misses) = (0, 0, 0, 0);
        self.round_trip = None;
        self.next_probe = now;
    }

    /// What it answered before does not count; it may be long ago.
    pub(super) fn ask_anew(&mut self, now: Moment) {
        if self.ready {
            self.opened(now);
        }
    }

    pub(super) fn answered(&mut self, now: Moment, probe: u64) {
        if self.last_answered < probe && probe <= self.probed {
            if probe == self.probed {
                let took = now.since(self.probed_at);
                self.round_trip = Some(self.round_trip.map_or(took, |before| before.min(took)));
                if self.pace == Pace::Patient {
                    self.next_probe = now.max(self.probed_at + PROBE_AGAIN);
                }
            }
            self.last_answered = probe;
            self.answers = self.answers.saturating_add(1);
            self.misses = 0;
        }
    }

    pub(super) const fn has_answered_since(&self, first: u64) -> bool {
        self.last_answered >= first
    }

    /// Whether it answered the last time that it was asked.
    pub(super) const fn is_fresh(&self) -> bool {
        self.ready && self.answers > 0 && self.misses == 0
    }

    pub(super) fn has_failed(&self, now: Moment) -> bool {
        self.misses >= MAX_MISSES || (!self.ready && now >= self.ready_by())
    }

    /// Whether a probe is to be sent now; when the next is due its pace says.
    pub(super) fn takes_probe(&mut self, now: Moment, probe: u64, pace: Pace) -> bool {
        if !self.ready || self.next_probe > now {
            return false;
        }
        if self.probed > self.last_answered {
            self.misses += 1;
            self.answers = 0;
            self.round_trip = None;
        }
        (self.probed, self.probed_at) = (probe, now);
        self.pace = pace;
        self.next_probe = now
            + match pace {
                Pace::Patient => ANSWER_WAIT,
                Pace::Seldom if self.answers > 0 => WARM_PROBE_EVERY,
                Pace::Soon | Pace::Seldom => PROBE_AGAIN,
            };
        true
    }

    pub(super) fn deadline(&self, is_left_alone: bool) -> Option<Moment> {
        match (self.ready, is_left_alone) {
            (true, true) => None,
            (true, false) => Some(self.next_probe),
            (false, _) => Some(self.ready_by()),
        }
    }

    /// A path that was not set up by then is given up.
    fn ready_by(&self) -> Moment {
        self.since + self.candidate.timeout()
    }
}
