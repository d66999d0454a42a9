//! Holes: how a lane that runs over a relay makes itself a direct path although NATs are in between.
//!
//! A round has four steps. Relays say from where they see the lane's socket ([`seen`]); the egress is
//! told over the lane itself, and tells the same of its port; both sides knock at what the other
//! named; and when a knock of the egress came through, the lane tries the address that it came from,
//! as any other direct path ([`crate::lane_path`]). What a knock alone proves is that the egress
//! sends from there; the probes of the lane's path prove both directions before it is used.
//!
//! Inputs: what the relays and the egress answered, knocks, the lane's path, time. Effects: ask,
//! knock, try, forget. A round that comes to nothing is followed by few others, each a longer
//! pause later; then the lane stays where it is and says why.

mod places;
mod seen;
mod standing;

use std::{collections::VecDeque, net::SocketAddr, time::Duration};

use rap_proto::{
    Moment,
    wire::lane::{MAX_ADDRESSES, Mapping, Seen},
};

use crate::{lane_path::SLOW_REST, paths::Candidate};
pub use places::{Limits, Places};
pub use seen::{LOWEST_PORT, may_be_seen_from, may_knock, may_knock_for, seen};
pub use standing::{Failure, Outcomes, Standing, Step};

/// A lane that is relayed for so long begins.
pub const START_AFTER: Duration = Duration::from_millis(500);
/// The most rounds that come to nothing before the lane gives up.
pub const MAX_ROUNDS: u32 = 4;
/// The pause after the first of them; each further one is [`PAUSE_GROWTH`] times as long.
pub const FIRST_PAUSE: Duration = Duration::from_secs(2);
pub const PAUSE_GROWTH: u32 = 5;
/// How long relays may take to say what they see.
pub const LOOK_WAIT: Duration = Duration::from_secs(3);
/// How long the egress may take to answer: its relays are asked meanwhile.
pub const MEET_WAIT: Duration = Duration::from_secs(5);
/// When knocks are sent, counted from the first, by both sides.
pub const KNOCK_AT: [Duration; 5] = [
    Duration::ZERO,
    Duration::from_millis(100),
    Duration::from_millis(300),
    Duration::from_millis(700),
    Duration::from_millis(1500),
];
/// How long the last knock is waited for.
pub const LISTEN_AFTER: Duration = Duration::from_secs(1);
/// How long the lane's path has to take up what was found.
pub const TRY_LIMIT: Duration = Duration::from_secs(5);
/// After so long in use, the rounds before are forgotten.
pub const HELD_WELL: Duration = Duration::from_secs(60);

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// What carries the lane, whether what was found is open beside it, until when the lane does not take
    /// that as it was slow, and whether it has no direct path as that is not better. To be told whenever
    /// it may have changed.
    Path { in_use: Candidate, hole_is_open: bool, slow_until: Option<Moment>, not_better: bool },
    /// What relays see of this node's socket.
    Seen { round: u32, own: Seen },
    /// What the egress said of its own.
    Met { round: u32, far: Seen },
    /// The egress does not know of holes.
    Unsupported { round: u32 },
    /// It did not answer, or will not now.
    NotMet { round: u32 },
    /// A knock of this round came from there.
    Heard { round: u32, from: SocketAddr },
    /// Other nodes, or other addresses: what failed may work.
    Renewed,
    /// A relay is none any more. What was found may lead over it, whatever it looks like, and has
    /// to be found anew with those that are left.
    Withdrawn,
    /// Whether lanes may be direct, from now on: while they may not, no hole is looked for or kept.
    Direct { allowed: bool },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Ask relays what they see, and say [`Input::Seen`].
    Look { round: u32 },
    /// Tell the egress, and say what it answers. From now on knocks of the round are heard.
    Meet { round: u32, own: Seen },
    /// Send one knock.
    Knock { round: u32, to: SocketAddr },
    /// The address is a direct path to try.
    Try { address: SocketAddr },
    /// It is none any more.
    Forget { address: SocketAddr },
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Stage {
    /// The lane is direct without a hole.
    Idle,
    Resting {
        until: Moment,
    },
    Looking {
        until: Moment,
    },
    Meeting {
        until: Moment,
        heard: Option<SocketAddr>,
    },
    Knocking {
        at: Vec<SocketAddr>,
        begun: Moment,
        sent: usize,
    },
    Trying {
        address: SocketAddr,
        until: Moment,
        was_open: bool,
    },
    Open {
        address: SocketAddr,
        since: Moment,
    },
    GivenUp,
    /// Lanes may not be direct.
    Forbidden,
}

/// The holes of one lane, at its entry.
///
/// INVARIANT: at most one address is tried or in use.
#[derive(Debug, Clone)]
pub struct Holes {
    stage: Stage,
    /// Counts rounds; none has the number of another.
    round: u32,
    failed: u32,
    failure: Option<Failure>,
    /// Whether the lane has no direct path as that is not better.
    not_better: bool,
    own: Seen,
    far: Seen,
    outcomes: Outcomes,
    effects: VecDeque<Effect>,
}

impl Default for Holes {
    fn default() -> Self {
        Self {
            stage: Stage::Idle,
            round: 0,
            failed: 0,
            failure: None,
            not_better: false,
            own: Seen::default(),
            far: Seen::default(),
            outcomes: Outcomes::default(),
            effects: VecDeque::new(),
        }
    }
}

impl Holes {
    pub fn handle_input(&mut self, now: Moment, input: Input) {
        match input {
            Input::Path { in_use, hole_is_open, slow_until, not_better } => {
                self.not_better = not_better;
                match slow_until.filter(|until| *until > now && !hole_is_open) {
                    Some(until) if self.is_off(in_use) => self.rest_as_slow(until),
                    _ => self.carried(now, in_use, hole_is_open),
                }
            }
            Input::Seen { round, own } if round == self.round => self.looked(now, own),
            Input::Met { round, far } if round == self.round => self.met(now, far),
            Input::Unsupported { round } if round == self.round && self.is_meeting() => {
                self.give_up(Failure::Unsupported);
            }
            Input::NotMet { round } if round == self.round && self.is_meeting() => {
                self.fail(now, Failure::Unanswered);
            }
            Input::Heard { round, from } if round == self.round => self.heard(now, from),
            Input::Renewed => self.renew(now),
            Input::Withdrawn => self.withdraw(now),
            Input::Direct { allowed } => self.permit(allowed),
            // Of a round that is over.
            Input::Seen { .. }
            | Input::Met { .. }
            | Input::Unsupported { .. }
            | Input::NotMet { .. }
            | Input::Heard { .. } => {}
        }
        self.handle_timeout(now);
    }

    /// To be called when the moment of [`Self::poll_timeout`] has come.
    pub fn handle_timeout(&mut self, now: Moment) {
        if self.poll_timeout().is_none_or(|at| at > now) {
            return;
        }
        match self.stage {
            Stage::Resting { .. } => self.begin(now),
            Stage::Looking { .. } => self.fail(now, Failure::Unseen),
            Stage::Meeting { .. } => self.fail(now, Failure::Unanswered),
            Stage::Knocking { sent, .. } if sent >= KNOCK_AT.len() => {
                self.fail(now, Failure::Silent);
            }
            Stage::Knocking { .. } => self.knock(now),
            Stage::Trying { .. } => self.fail(now, Failure::Unproven),
            Stage::Idle | Stage::Open { .. } | Stage::GivenUp | Stage::Forbidden => {}
        }
    }

    pub fn poll_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    pub fn poll_timeout(&self) -> Option<Moment> {
        match &self.stage {
            Stage::Resting { until } | Stage::Looking { until } | Stage::Meeting { until, .. } => {
                Some(*until)
            }
            Stage::Knocking { begun, sent, .. } => Some(match KNOCK_AT.get(*sent) {
                Some(after) => *begun + *after,
                None => *begun + KNOCK_AT[KNOCK_AT.len() - 1] + LISTEN_AFTER,
            }),
            // What is open is judged by the lane's path.
            Stage::Trying { until, was_open: false, .. } => Some(*until),
            Stage::Trying { was_open: true, .. }
            | Stage::Idle
            | Stage::Open { .. }
            | Stage::GivenUp
            | Stage::Forbidden => None,
        }
    }

    /// The direct path that was found, while it is tried or in use.
    pub const fn address(&self) -> Option<SocketAddr> {
        match self.stage {
            Stage::Trying { address, .. } | Stage::Open { address, .. } => Some(address),
            _ => None,
        }
    }

    pub const fn standing(&self) -> Standing {
        let step = match self.stage {
            Stage::Idle => Step::Idle,
            Stage::Resting { .. } => Step::Resting,
            Stage::Looking { .. } => Step::Looking,
            Stage::Meeting { .. } => Step::Meeting,
            Stage::Knocking { .. } => Step::Knocking,
            Stage::Trying { .. } => Step::Trying,
            Stage::Open { .. } => Step::Open,
            Stage::GivenUp => Step::GivenUp,
            Stage::Forbidden => Step::Forbidden,
        };
        let (own, far) = (self.own.mapping, self.far.mapping);
        let failure = if self.not_better { Some(Failure::NotBetter) } else { self.failure };
        Standing { step, own, far, failure, rounds: self.round }
    }

    /// What rounds came to since this was asked last.
    pub fn take_outcomes(&mut self) -> Outcomes {
        std::mem::take(&mut self.outcomes)
    }

    const fn is_meeting(&self) -> bool {
        matches!(self.stage, Stage::Meeting { .. })
    }

    fn begin(&mut self, now: Moment) {
        self.round = self.round.saturating_add(1);
        self.stage = Stage::Looking { until: now + LOOK_WAIT };
        self.effects.push_back(Effect::Look { round: self.round });
    }

    fn looked(&mut self, now: Moment, own: Seen) {
        if !matches!(self.stage, Stage::Looking { .. }) {
            return;
        }
        self.own = own;
        if self.own.addresses.is_empty() {
            return self.fail(now, Failure::Unseen);
        }
        self.stage = Stage::Meeting { until: now + MEET_WAIT, heard: None };
        self.effects.push_back(Effect::Meet { round: self.round, own: self.own.clone() });
    }

    fn met(&mut self, now: Moment, mut far: Seen) {
        let Stage::Meeting { heard, .. } = self.stage else { return };
        // Whoever names more has this node knock at no more.
        far.addresses.truncate(MAX_ADDRESSES);
        self.far = far;
        if self.own.mapping == Mapping::Symmetric && self.far.mapping == Mapping::Symmetric {
            // Each side's port towards the other is one that nobody has seen.
            return self.give_up(Failure::BothSymmetric);
        }
        let named = self.far.addresses.iter().copied();
        let at: Vec<SocketAddr> = named.filter(|at| may_knock(&self.own, *at)).collect();
        if at.is_empty() {
            return self.fail(now, Failure::FarUnseen);
        }
        self.stage = Stage::Knocking { at, begun: now, sent: 0 };
        // It can be faster than the answer, where nothing on this side kept it out.
        if let Some(from) = heard {
            self.heard(now, from);
        }
    }

    fn knock(&mut self, now: Moment) {
        let round = self.round;
        let Stage::Knocking { at, begun, sent } = &mut self.stage else { return };
        while KNOCK_AT.get(*sent).is_some_and(|after| *begun + *after <= now) {
            *sent += 1;
            // What was slept through is not made up for.
            if KNOCK_AT.get(*sent).is_none_or(|after| *begun + *after > now) {
                let knocks = at.iter().map(|to| Effect::Knock { round, to: *to });
                self.effects.extend(knocks);
            }
        }
    }

    /// A knock counts from a host that the egress named, at whatever port: a NAT may give this
    /// socket another one than it gave the relays.
    fn heard(&mut self, now: Moment, from: SocketAddr) {
        match &mut self.stage {
            Stage::Meeting { heard, .. } => *heard = Some(from),
            Stage::Knocking { at, .. } if at.iter().any(|one| one.ip() == from.ip()) => {
                let until = now + TRY_LIMIT;
                self.stage = Stage::Trying { address: from, until, was_open: false };
                self.effects.push_back(Effect::Try { address: from });
            }
            _ => {}
        }
    }

    fn carried(&mut self, now: Moment, in_use: Candidate, hole_is_open: bool) {
        match &mut self.stage {
            Stage::Trying { address, was_open, .. } => {
                if in_use == Candidate::Direct(*address) {
                    self.failure = None;
                    self.outcomes.found += 1;
                    self.stage = Stage::Open { address: *address, since: now };
                } else if hole_is_open {
                    *was_open = true;
                } else if *was_open && self.not_better {
                    self.end(Failure::NotBetter);
                    self.failed = 0;
                    self.stage = Stage::Resting { until: now + SLOW_REST };
                } else if *was_open {
                    self.fail(now, Failure::Unproven);
                }
            }
            Stage::Open { address, since }
                if in_use != Candidate::Direct(*address) && !hole_is_open =>
            {
                if now.since(*since) >= HELD_WELL {
                    self.failed = 0;
                }
                self.fail(now, Failure::Lost);
            }
            Stage::Idle if in_use.is_relayed() => {
                self.stage = Stage::Resting { until: now + START_AFTER };
            }
            Stage::Resting { .. }
            | Stage::Looking { .. }
            | Stage::Meeting { .. }
            | Stage::Knocking { .. }
                if !in_use.is_relayed() =>
            {
                self.stage = Stage::Idle;
            }
            _ => {}
        }
    }

    /// Whether something was found, and the lane is on another path.
    fn is_off(&self, in_use: Candidate) -> bool {
        self.address().is_some_and(|address| in_use != Candidate::Direct(address))
    }

    /// It worked, and the lane would not take it sooner.
    fn rest_as_slow(&mut self, until: Moment) {
        self.forget();
        (self.failed, self.failure) = (0, None);
        self.stage = Stage::Resting { until };
    }

    fn renew(&mut self, now: Moment) {
        self.failed = 0;
        if matches!(self.stage, Stage::GivenUp | Stage::Resting { .. }) {
            self.failure = None;
            self.stage = Stage::Resting { until: now + START_AFTER };
        }
    }

    fn withdraw(&mut self, now: Moment) {
        self.forget();
        self.failed = 0;
        if !matches!(self.stage, Stage::Idle | Stage::Forbidden) {
            self.failure = None;
            self.stage = Stage::Resting { until: now + START_AFTER };
        }
    }

    /// A lane that may be direct again begins as a new one does.
    fn permit(&mut self, allowed: bool) {
        if allowed == (self.stage != Stage::Forbidden) {
            return;
        }
        self.forget();
        (self.failed, self.failure) = (0, None);
        self.stage = if allowed { Stage::Idle } else { Stage::Forbidden };
    }

    fn fail(&mut self, now: Moment, failure: Failure) {
        self.failed = self.failed.saturating_add(1);
        if self.failed >= MAX_ROUNDS {
            return self.give_up(failure);
        }
        self.end(failure);
        let pause = FIRST_PAUSE * PAUSE_GROWTH.pow(self.failed.saturating_sub(1));
        self.stage = Stage::Resting { until: now + pause };
    }

    fn give_up(&mut self, failure: Failure) {
        self.end(failure);
        self.stage = Stage::GivenUp;
    }

    fn end(&mut self, failure: Failure) {
        self.failure = Some(failure);
        *self.outcomes.failed.entry(failure).or_default() += 1;
        self.forget();
    }

    fn forget(&mut self) {
        if let Some(address) = self.address() {
            self.effects.push_back(Effect::Forget { address });
        }
    }
}

#[cfg(test)]
mod tests;
