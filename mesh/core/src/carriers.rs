//! Which carrier a new flow of a lane is tried on first: by what the platform and the
//! organization say of it, else by what was
//! measured, else by what suits the lane.
//!
//! One [`Choice`] for each egress, organization and lane. Bulk is measured by the rate at which flows
//! pass that wait for their lane (see [`Meter`]), interactive and media by the time until a flow's answer
//! comes. A carrier leads until the other is better by a margin, and for [`DWELL`] at least. What is not
//! measured again is forgotten after [`FRESH_FOR`], and the lane returns to what suits it.
//!
//! A bulk flow that runs on the other carrier follows the one that leads when that stays better: see
//! [`Choice::leaves`].
//!
//! The other carrier of a bulk lane is known only by **trials**: now and then a new flow begins on it.
//! A lane for keys is never tried: of TCP it learns when QUIC does not get through.

mod follow;
mod measures;
mod meter;
#[cfg(test)]
mod tests;

use std::time::Duration;

use rap_proto::{Lane, Moment, carriers::CarrierRuling};

pub use follow::{FOLLOW_AFTER, GOING_WITHIN, MAX_GOING};
pub use measures::{FRESH_FOR, MIN_SAMPLES, Measure, Measured, SAMPLES};
pub use meter::{LONGEST_WAIT, MIN_BYTES, Meter, WINDOW};

use crate::carrier::Carrier;
use follow::{Follow, is_better};
use measures::Measures;

/// The other carrier has to be better by this: three to two.
pub const MARGIN: (u64, u64) = (3, 2);
/// What a lane for keys does not feel is no reason to change.
pub const MIN_GAIN: Duration = Duration::from_millis(10);
/// How long a carrier leads at least.
pub const DWELL: Duration = Duration::from_secs(60);
/// The pause between two trials; by chance down to half of it.
pub const TRIAL_PAUSE: Duration = Duration::from_secs(600);
/// The same where the leading carrier is slow, or slower than it was: twice as long after each that
/// measured nothing, up to [`TRIAL_PAUSE`].
pub const SLOW_TRIAL_PAUSE: Duration = Duration::from_secs(30);
/// Slow, in bytes a second: then a look at the other carrier costs little.
pub const SLOW_RATE: u64 = 2_000_000;
/// How long a carrier's best is remembered.
pub const BEST_FOR: Duration = Duration::from_secs(3600);

/// Why a flow was tried on a carrier first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// It suits the lane, and nothing is known that speaks against it.
    Prior,
    Policy,
    Measured,
    /// To find out how the other one is.
    Trial,
    /// The first one did not get through.
    Failed,
}

impl Reason {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Prior => "prior",
            Self::Policy => "policy",
            Self::Measured => "measured",
            Self::Trial => "trial",
            Self::Failed => "failed",
        }
    }
}

/// What a new flow is tried on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chosen {
    pub first: Carrier,
    /// Where the first does not get through.
    pub other: Option<Carrier>,
    pub reason: Reason,
}

impl Chosen {
    /// In the order in which they are tried.
    pub fn carriers(self) -> impl Iterator<Item = Carrier> {
        [Some(self.first), self.other].into_iter().flatten()
    }
}

/// Whether flows may run on this carrier at all.
pub const fn allows(ruling: CarrierRuling, carrier: Carrier) -> bool {
    match ruling {
        CarrierRuling::Auto | CarrierRuling::Quic | CarrierRuling::Tcp => true,
        CarrierRuling::QuicOnly => matches!(carrier, Carrier::Quic),
        CarrierRuling::TcpOnly => matches!(carrier, Carrier::Tcp),
        CarrierRuling::Neither => false,
    }
}

/// What is known of both carriers between an entry and an egress, for one lane of an organization.
#[derive(Debug, Clone)]
pub struct Choice {
    lane: Lane,
    leading: Carrier,
    changed_at: Option<Moment>,
    next_trial: Option<Moment>,
    last_trial: Option<Moment>,
    slow_pause: Duration,
    quic: Measures,
    tcp: Measures,
    changes: u64,
    trials: u64,
    follow: Follow,
}

/// The same for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChoiceStatus {
    pub leading: Carrier,
    pub quic: Measured,
    pub tcp: Measured,
    /// How often the other carrier took the lead, and how often it was tried.
    pub changes: u64,
    pub trials: u64,
    /// How many flows that ran were told to follow.
    pub followed: u64,
}

impl Choice {
    pub fn new(lane: Lane) -> Self {
        Self {
            lane,
            leading: Carrier::order(lane)[0],
            changed_at: None,
            next_trial: None,
            last_trial: None,
            slow_pause: SLOW_TRIAL_PAUSE,
            quic: Measures::default(),
            tcp: Measures::default(),
            changes: 0,
            trials: 0,
            follow: Follow::default(),
        }
    }

    pub fn measured(&mut self, now: Moment, carrier: Carrier, measure: Measure) {
        let measures = match carrier {
            Carrier::Quic => &mut self.quic,
            Carrier::Tcp => &mut self.tcp,
        };
        measures.note(now, measure);
    }

    /// What a new flow is tried on; `None` when it may run on nothing. `chance` is any number, and spreads
    /// trials.
    pub fn choose(&mut self, now: Moment, ruling: CarrierRuling, chance: u64) -> Option<Chosen> {
        let by_policy = |first, other| Some(Chosen { first, other, reason: Reason::Policy });
        match ruling {
            CarrierRuling::Quic => by_policy(Carrier::Quic, Some(Carrier::Tcp)),
            CarrierRuling::Tcp => by_policy(Carrier::Tcp, Some(Carrier::Quic)),
            CarrierRuling::QuicOnly => by_policy(Carrier::Quic, None),
            CarrierRuling::TcpOnly => by_policy(Carrier::Tcp, None),
            CarrierRuling::Neither => None,
            CarrierRuling::Auto => Some(self.choose_freely(now, chance)),
        }
    }

    pub fn status(&self, now: Moment) -> ChoiceStatus {
        ChoiceStatus {
            leading: self.leading,
            quic: self.quic.at(now),
            tcp: self.tcp.at(now),
            changes: self.changes,
            trials: self.trials,
            followed: self.follow.count(),
        }
    }

    fn choose_freely(&mut self, now: Moment, chance: u64) -> Chosen {
        self.review(now);
        let (leading, other) = (self.leading, self.leading.other());
        if self.is_trial_due(now, chance) {
            self.begin_trial(now, chance);
            return Chosen { first: other, other: Some(leading), reason: Reason::Trial };
        }
        let compared = self.compare(now).is_some() || leading != Carrier::order(self.lane)[0];
        let reason = if compared { Reason::Measured } else { Reason::Prior };
        Chosen { first: leading, other: Some(other), reason }
    }

    /// Gives the lead to the other carrier when that is better, or to the one that suits the lane
    /// when nothing is known of the leading one any more.
    fn review(&mut self, now: Moment) {
        if self.changed_at.is_some_and(|at| now.since(at) < DWELL) {
            return;
        }
        let is_forgotten = self.leading != Carrier::order(self.lane)[0]
            && self.of(self.leading).at(now).is_nothing();
        if is_forgotten || self.compare(now) == Some(true) {
            self.leading = self.leading.other();
            self.changed_at = Some(now);
            self.changes += 1;
        }
    }

    /// Whether the other carrier is better by the margin; `None` when they cannot be compared.
    fn compare(&self, now: Moment) -> Option<bool> {
        let leading = self.of(self.leading).at(now);
        let other = self.of(self.leading.other()).at(now);
        let (slow, fast, least) = match self.lane {
            Lane::Bulk => {
                let (leading, other) = leading.per_byte_beside(&other)?;
                (leading, other, 0)
            }
            Lane::Interactive | Lane::Media => {
                let (leading, other) = (leading.opened?, other.opened?);
                (leading.as_micros(), other.as_micros(), MIN_GAIN.as_micros())
            }
        };
        Some(is_better(slow, fast) && slow.saturating_sub(fast) >= least)
    }

    fn is_trial_due(&mut self, now: Moment, chance: u64) -> bool {
        if self.lane != Lane::Bulk {
            return false;
        }
        if self.compare(now).is_some() {
            self.slow_pause = SLOW_TRIAL_PAUSE;
            return false;
        }
        let known = self.of(self.leading).at(now);
        let Some(rate) = known.slowest() else { return false };
        let is_slow = rate < SLOW_RATE || self.of(self.leading).has_fallen(now);
        let next = *self.next_trial.get_or_insert_with(|| now + spread(TRIAL_PAUSE, chance));
        let rested = self.last_trial.is_none_or(|at| now.since(at) >= self.slow_pause);
        now >= next || (is_slow && rested)
    }

    fn begin_trial(&mut self, now: Moment, chance: u64) {
        if self.last_trial.replace(now).is_some() {
            self.slow_pause = TRIAL_PAUSE.min(2 * self.slow_pause);
        }
        self.next_trial = Some(now + spread(TRIAL_PAUSE, chance));
        self.trials += 1;
    }

    const fn of(&self, carrier: Carrier) -> &Measures {
        match carrier {
            Carrier::Quic => &self.quic,
            Carrier::Tcp => &self.tcp,
        }
    }
}

/// Between half of a pause and all of it.
fn spread(pause: Duration, chance: u64) -> Duration {
    let part = u32::try_from(chance % 1024).unwrap_or(0);
    pause / 2 + pause / 2 * part / 1024
}
