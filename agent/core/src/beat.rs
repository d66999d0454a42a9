//! Whether control still has the authority to tell this node anything.
//!
//! A node asks for the newest authority beat, and counts by its own clock how long it lasts:
//!
//! ```text
//! unheard ──the first beat──▶ healthy ──it ends──▶ degraded ──long after──▶ isolated
//!                                ▲                    │                        │
//!                                └────────── a later beat ◀────────────────────┘
//! ```
//!
//! Inputs: what is kept, control keys, doorbells, answers, outcomes of writes. Effects: at most
//! one [`Effect::Ask`] and one [`Effect::Persist`] in flight; [`Effect::Entered`] for each change, with
//! [`Effect::Changed`] as far as it is told; [`Effect::Lasts`] whenever its end has moved;
//! [`Effect::Servers`] for each newer beat, and [`Effect::AskElsewhere`] where a server stands still.
//!
//! INVARIANT: a beat counts only when it is durable that it was heard, so a restart does not make
//! an earlier one count again.
//! INVARIANT: what a beat gives ends, by this node's monotonic clock, no later than its life after
//! it came.

mod judge;
mod lapses;

use std::{collections::VecDeque, ops::Not, time::Duration};

use rap_proto::{
    Authority, ClusterId, Moment, PublicKey, Timestamp,
    authority::AuthorityChange,
    beat::{BEAT_TTL_MS, Beat, EpochStatement, ISOLATED_AFTER_MS},
    wire::node_api::{BeatReply, BeatRequest},
};
use serde::{Deserialize, Serialize};

pub use judge::BeatRefusal;
use judge::Judge;
use lapses::Lapses;

use crate::{
    Machine,
    jitter::{Backoff, Jitter},
    record::Record,
};

/// How long a node goes without asking; spread by a third.
pub const POLL: Duration = Duration::from_secs(10);
/// How long an answer may take.
pub const ANSWER_LIMIT: Duration = Duration::from_secs(20);
const FIRST_RETRY: Duration = Duration::from_millis(500);
const GREATEST_RETRY: Duration = Duration::from_secs(10);
/// With so much left of the last beat, there are others by now, and time for one more poll.
const LATE: Duration = Duration::from_millis(BEAT_TTL_MS / 2);
/// Nodes ask within twice this after that.
const HALF_SPREAD: Duration = Duration::from_millis(2_500);
/// How soon another server is asked than the one that stands still; spread by a half.
const ELSEWHERE: Duration = Duration::from_secs(3);
const ISOLATED_AFTER: Duration = Duration::from_millis(ISOLATED_AFTER_MS);

/// The newest beat that counted: none that is earlier counts again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BeatFloor {
    /// The statement that it was signed under, as control signed it.
    #[serde(with = "serde_bytes")]
    pub statement: Vec<u8>,
    pub beat: Beat,
    /// Whether control, which the beat came from, records what becomes of its authority here.
    #[serde(default, skip_serializing_if = "Not::not")]
    pub records_changes: bool,
}

impl Record for BeatFloor {
    const KIND: u8 = 8;
    const MAX_BYTES: usize = 32 * 1024;
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// What was found on disk, once and before everything else.
    Restore {
        kept: Option<BeatFloor>,
        at: Timestamp,
    },
    /// The keys that may sign for this node's cluster.
    ControlKeys(Vec<PublicKey>),
    /// Control says that this beat is worth hearing.
    Rung {
        sequence: u64,
    },
    Answered {
        reply: BeatReply,
        at: Timestamp,
    },
    /// Control could not be reached, or does not know beats.
    Failed,
    /// The last [`Effect::Persist`] is durable.
    Persisted {
        at: Timestamp,
    },
    /// It is not: the beat counts as not heard.
    PersistFailed,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    Ask(BeatRequest),
    /// Write this, durably, and answer with [`Input::Persisted`].
    Persist(Box<BeatFloor>),
    /// From now on this is what control's word is worth.
    Entered(Authority),
    /// An observation for control's log, which it may not hear of before its authority is back.
    Changed(AuthorityChange),
    /// What control's word gives ends at this moment, when the node becomes isolated, unless a later
    /// beat comes; `None` where no beat was ever heard. Said once at the start, then for each beat.
    Lasts {
        until: Option<Moment>,
    },
    /// Something was denied at this position: ask for the snapshot at once.
    Denied {
        version: u64,
    },
    Refused(BeatRefusal),
    /// The server that answered says which ones there are: `counts` beside a beat that counted, or else
    /// while no beat was ever heard. What comes with any other beat is not heard.
    Servers {
        named: Vec<String>,
        counts: bool,
    },
    /// The server that answered brings nothing newer, and what is held ends soon or has ended:
    /// another server may know more.
    AskElsewhere,
}

pub struct BeatListener {
    judge: Judge,
    floor: Option<BeatFloor>,
    /// Being written, with the servers that came with it.
    candidate: Option<(BeatFloor, Vec<String>)>,
    authority: Authority,
    lapses: Lapses,
    /// When the present state ends by itself.
    ends: Option<Moment>,
    asked: bool,
    /// Since the last beat that counted, another server was asked sooner than usual.
    hurried: bool,
    next: Option<Moment>,
    rung: u64,
    last_refused: Option<BeatRefusal>,
    backoff: Backoff,
    jitter: Jitter,
    effects: VecDeque<Effect>,
}

impl BeatListener {
    pub fn new(cluster: ClusterId, seed: u64) -> Self {
        Self {
            judge: Judge::new(cluster),
            floor: None,
            candidate: None,
            authority: Authority::default(),
            lapses: Lapses::new(),
            ends: None,
            asked: false,
            hurried: false,
            next: None,
            rung: 0,
            last_refused: None,
            backoff: Backoff::new(FIRST_RETRY, GREATEST_RETRY),
            jitter: Jitter::new(seed),
            effects: VecDeque::new(),
        }
    }

    pub fn authority(&self) -> Authority {
        self.authority
    }

    /// The newest beat that counted.
    pub fn beat(&self) -> Option<&Beat> {
        self.floor.as_ref().map(|floor| &floor.beat)
    }

    /// When this node will be isolated, by its own clock; the start of time when it is. `None`
    /// where no beat was ever heard.
    pub fn isolated_at(&self) -> Option<Moment> {
        match self.authority {
            Authority::Unheard => None,
            Authority::Healthy => self.ends.map(|ends| ends + ISOLATED_AFTER),
            Authority::Degraded { .. } => self.ends,
            Authority::Isolated { .. } => Some(Moment::default()),
        }
    }

    /// Who may sign beats, as far as this node was told.
    pub fn statement(&self) -> Option<&EpochStatement> {
        self.judge.stated().map(|stated| &stated.statement)
    }

    fn restore(&mut self, now: Moment, kept: Option<BeatFloor>, at: Timestamp) {
        if let Some(floor) = kept {
            self.judge.restore(&floor);
            let ended = floor.beat.expires_at;
            self.floor = Some(floor);
            if at < ended {
                // Its life goes on; how much of it, only the calendar tells after a restart.
                self.enter(now, Authority::Healthy);
                self.ends = Some(now + bounded(ended.since(at)));
            } else {
                let passed = at.since(ended);
                self.lapses.resume(now, passed);
                if passed < ISOLATED_AFTER {
                    self.enter(now, Authority::Degraded { since: ended });
                    self.ends = Some(now + (ISOLATED_AFTER - passed));
                } else {
                    self.enter(now, Authority::Isolated { since: ended });
                }
            }
        }
        self.effects.push_back(Effect::Lasts { until: self.isolated_at() });
        self.ask(now);
    }

    fn ask(&mut self, now: Moment) {
        self.asked = true;
        self.next = Some(now + ANSWER_LIMIT);
        let statement = self.judge.stated().map(|stated| stated.digest);
        self.effects.push_back(Effect::Ask(BeatRequest { statement }));
    }

    fn wait(&mut self, now: Moment, delay: Duration) {
        self.asked = false;
        self.next = Some(now + delay);
    }

    fn answered(&mut self, now: Moment, reply: &BeatReply, at: Timestamp) {
        let delay = self.jitter.around(POLL, 33);
        self.backoff.reset();
        self.wait(now, delay);
        if reply.beat.is_empty() {
            if self.floor.is_none() && !reply.servers.is_empty() {
                let named = reply.servers.clone();
                self.effects.push_back(Effect::Servers { named, counts: false });
            }
            return self.ask_again_if_rung(now);
        }
        let floor = self.floor.as_ref().map(|floor| &floor.beat);
        match self.judge.judge(reply, floor, at) {
            Ok(Some(kept)) if self.candidate.is_none() => {
                self.last_refused = None;
                self.candidate = Some((kept.clone(), reply.servers.clone()));
                self.effects.push_back(Effect::Persist(Box::new(kept)));
            }
            // The one that is known, or one is being written.
            Ok(_) => {
                self.last_refused = None;
                self.ask_by_half_life(now);
                self.ask_again_if_rung(now);
            }
            Err(refusal) => {
                // Asked again and again, it is wrong again and again; it is reported once.
                if self.last_refused.replace(refusal) != Some(refusal) {
                    self.effects.push_back(Effect::Refused(refusal));
                }
                let delay = self.backoff.next_delay(&mut self.jitter);
                self.wait(now, delay);
            }
        }
    }

    fn persisted(&mut self, now: Moment, at: Timestamp) {
        let Some((floor, named)) = self.candidate.take() else { return };
        let before = self.floor.as_ref().map_or(0, |known| known.beat.deny_version);
        let Beat { deny_version, expires_at, .. } = floor.beat;
        self.judge.keep(&floor);
        self.floor = Some(floor);
        self.hurried = false;
        self.effects.push_back(Effect::Servers { named, counts: true });
        if deny_version > before {
            self.effects.push_back(Effect::Denied { version: deny_version });
        }
        let left = bounded(expires_at.since(at));
        if left > Duration::ZERO {
            self.ends = Some(now + left);
            self.enter(now, Authority::Healthy);
            self.effects.push_back(Effect::Lasts { until: self.isolated_at() });
        }
        self.ask_by_half_life(now);
        self.ask_again_if_rung(now);
    }

    /// Whoever then answers with nothing newer is left while another one can still be asked in time.
    fn ask_by_half_life(&mut self, now: Moment) {
        let left = self.ends.filter(|_| self.authority == Authority::Healthy);
        let left = left.map_or(Duration::ZERO, |ends| ends.since(now));
        if left > LATE && !self.asked {
            // All nodes hold the same beat, and its half is over for all of them at once.
            let spread = self.jitter.around(HALF_SPREAD, 100);
            self.next = self.next.map(|next| next.min(now + (left - LATE) + spread));
        }
    }

    /// The server that answered stands still. Once for each beat the next one is asked soon, before the
    /// beat ends.
    fn ask_elsewhere(&mut self, now: Moment) {
        self.effects.push_back(Effect::AskElsewhere);
        if self.authority == Authority::Healthy && !std::mem::replace(&mut self.hurried, true) {
            let soon = self.jitter.around(ELSEWHERE, 50);
            self.next = self.next.map(|next| next.min(now + soon));
        }
    }

    /// What came is older than what control rang for while it was asked for.
    fn ask_again_if_rung(&mut self, now: Moment) {
        if self.beat().map_or(0, |beat| beat.sequence) < self.rung {
            self.next = self.next.map(|next| next.min(now + FIRST_RETRY));
            self.rung = 0;
        }
    }

    /// Whether whoever has a quorum behind it would have shown a later beat by now.
    fn is_late(&self, now: Moment) -> bool {
        match self.authority {
            Authority::Unheard => false,
            Authority::Healthy => self.ends.is_some_and(|ends| ends.since(now) <= LATE),
            Authority::Degraded { .. } | Authority::Isolated { .. } => true,
        }
    }

    fn enter(&mut self, now: Moment, authority: Authority) {
        if self.authority == authority {
            return;
        }
        self.authority = authority;
        self.effects.push_back(Effect::Entered(authority));
        let change =
            self.floor.as_ref().and_then(|heard| self.lapses.entered(now, authority, heard));
        self.effects.extend(change.map(Effect::Changed));
    }

    /// The present state ended at `at`, which a node that stood still finds out later.
    fn end(&mut self, now: Moment, at: Moment) {
        self.ends = None;
        let Some(floor) = &self.floor else { return };
        let since = floor.beat.expires_at;
        match self.authority {
            Authority::Healthy => {
                self.ends = Some(at + ISOLATED_AFTER);
                self.lapses.begin(at);
                self.enter(now, Authority::Degraded { since });
            }
            Authority::Degraded { .. } => self.enter(now, Authority::Isolated { since }),
            Authority::Unheard | Authority::Isolated { .. } => {}
        }
    }
}

/// No beat lasts longer here, whatever its times and this node's calendar say.
fn bounded(left: Duration) -> Duration {
    left.min(Duration::from_millis(BEAT_TTL_MS))
}

impl Machine for BeatListener {
    type Input = Input;
    type Effect = Effect;

    fn handle_input(&mut self, now: Moment, input: Input) {
        match input {
            Input::Restore { kept, at } => self.restore(now, kept, at),
            Input::ControlKeys(keys) => self.judge.trust(keys),
            Input::Rung { sequence } => {
                let known = self.beat().map_or(0, |beat| beat.sequence);
                if sequence > known {
                    self.rung = self.rung.max(sequence);
                    if !self.asked && self.next.is_some() {
                        self.ask(now);
                    }
                }
            }
            // An answer that came too late; the next one tells more.
            Input::Answered { .. } | Input::Failed if !self.asked => {}
            Input::Answered { reply, at } => {
                self.answered(now, &reply, at);
                if self.candidate.is_none() && self.is_late(now) {
                    self.ask_elsewhere(now);
                }
            }
            Input::Failed => {
                let delay = self.backoff.next_delay(&mut self.jitter);
                self.wait(now, delay);
            }
            Input::Persisted { at } => self.persisted(now, at),
            Input::PersistFailed => self.candidate = None,
        }
    }

    fn handle_timeout(&mut self, now: Moment) {
        // At most twice: what follows isolation does not end.
        while let Some(at) = self.ends.filter(|at| now >= *at) {
            self.end(now, at);
        }
        if self.next.is_some_and(|at| now >= at) {
            if self.asked {
                self.handle_input(now, Input::Failed);
            } else {
                self.ask(now);
            }
        }
    }

    fn poll_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    fn poll_timeout(&self) -> Option<Moment> {
        match (self.ends, self.next) {
            (Some(ends), Some(next)) => Some(ends.min(next)),
            (ends, next) => ends.or(next),
        }
    }
}

#[cfg(test)]
mod tests;
