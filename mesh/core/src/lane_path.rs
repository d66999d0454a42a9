//! Which path a living lane takes: one in use, one kept warm, and what happens when the one in
//! use carries nothing any more.
//!
//! Inputs: what may be used, what opening and probing paths brought, the lane's traffic, time.
//! Effects: open, probe, use and close paths. A path is known by a generation that is never used
//! again, so that what comes late concerns nobody.
//!
//! - Silence starts it: datagrams were sent for a while and none came back. Probes along every
//!   open path decide then; a path that answered none is never switched to, unless its
//!   predecessor is known to be gone and it answered its last probe.
//! - A direct path takes over from a relay once it answered several probes in a row, and a single
//!   relay from a chain, unless the way with fewer nodes takes much longer, or a direct one any longer
//!   where the platform wants it better. The longer one stays open
//!   until the other has carried traffic both ways for a while.
//! - Other relays take over in the same way from those that are worth clearly less, or drain, and any
//!   relay from a direct path that became slow; see `successor` and `slowness`.
//! - What failed rests, longer each time.

mod open_path;
mod recovery;
pub mod repeats;
mod rests;
mod silence;
mod slowness;
mod successor;
mod upkeep;

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use rap_proto::{Moment, paths::DirectPaths};

use crate::paths::Candidate;
use open_path::OpenPath;
use recovery::Recovery;
pub use recovery::RecoveryStep;
use rests::Rests;
use silence::Silence;
use slowness::Slowness;
use successor::Succession;
pub use successor::{
    BETTER_BY, BETTER_FOR, BETTER_WITHIN, DRAIN_WITHIN, MOVE_EVERY, MOVE_WITHIN, SLOW_REST, Worth,
};
use upkeep::Trial;

/// The most candidates that one lane knows; the best ones are kept.
pub const MAX_CANDIDATES: usize = 12;
/// The most paths that one lane has open, the one in use among them.
pub const MAX_OPEN: usize = 5;

/// What the lane's own datagrams tell; probes are not among them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Traffic {
    /// Datagrams so far, to wherever.
    pub sent: u64,
    /// Datagrams so far that came over the path in use at the time.
    pub received: u64,
    /// The connection's own estimate.
    pub rtt: Duration,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// What may be used from now on, the best first. A relay that is not among it is left at
    /// once; a direct path in use stays for as long as it works, unless somebody says otherwise.
    Candidates(Vec<Candidate>),
    /// What the candidates over relays are worth from now on, as far as that is known.
    Worths(BTreeMap<Candidate, Worth>),
    /// Must carry the lane no longer, although it may work: left at once unless it is among the
    /// candidates.
    Withdrawn(Candidate),
    /// When a direct path may carry it from now on. To be told after [`Input::Candidates`]: while direct
    /// paths are forbidden those name none, and each that is open is left at once.
    Direct(DirectPaths),
    /// To be told at every timeout, and when the lane sends after a pause.
    Traffic(Traffic),
    Opened {
        generation: u64,
    },
    /// The path was not set up.
    Refused {
        generation: u64,
    },
    /// A path may be lost: its hop is, or its flow was not refreshed.
    Doubted {
        generation: u64,
    },
    /// A path is lost for certain.
    Gone {
        generation: u64,
    },
    /// The far end answered a probe along this path.
    Answered {
        generation: u64,
        probe: u64,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Set the path up, and say `Opened` or `Refused`.
    Open {
        generation: u64,
        candidate: Candidate,
    },
    /// Give the path up. What is in use is closed only where it must not be used any more.
    Close {
        generation: u64,
    },
    Probe {
        generation: u64,
        probe: u64,
    },
    /// Send along this path from now on, and something at once: the far end follows it.
    Use {
        generation: u64,
        candidate: Candidate,
    },
    /// No known path answers: a newer snapshot may name others.
    AskForSnapshot,
    /// No known path answers: new flows are better off elsewhere. Said once per recovery.
    Retire,
}

/// Why a lane changed its path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum SwitchReason {
    /// Nothing came back, and probes along it were not answered.
    Silent,
    /// Probes were answered, but nothing else was carried.
    Hollow,
    /// The relay said that the flow is gone.
    Gone,
    /// The snapshot no longer allows it.
    NotAllowed,
    /// A better one works.
    Better,
    /// What seemed better did not carry the lane.
    Unproven,
    /// A relay drains, and another one works.
    Draining,
    /// A direct path takes much longer than it did, and than a way over relays.
    Slower,
}

impl SwitchReason {
    pub const ALL: [Self; 8] = [
        Self::Silent,
        Self::Hollow,
        Self::Gone,
        Self::NotAllowed,
        Self::Better,
        Self::Unproven,
        Self::Draining,
        Self::Slower,
    ];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Silent => "silent",
            Self::Hollow => "hollow",
            Self::Gone => "gone",
            Self::NotAllowed => "not_allowed",
            Self::Better => "better",
            Self::Unproven => "unproven",
            Self::Draining => "draining",
            Self::Slower => "slower",
        }
    }

    /// Whether the path that was left had not failed.
    pub const fn is_by_choice(self) -> bool {
        matches!(self, Self::Better | Self::Draining | Self::Slower)
    }
}

/// What an operator is told of a lane's path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// How often the path changed.
    pub switches: u64,
    pub last_switch: Option<SwitchReason>,
    /// How far the search for a path is, while one goes on.
    pub recovery: Option<RecoveryStep>,
    /// A direct path works, and was not taken or was left, as it takes longer.
    pub not_better: bool,
}

/// What happened, counted until it is taken.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Happened {
    pub switches: BTreeMap<SwitchReason, u64>,
    /// How often each step of the search was reached.
    pub steps: BTreeMap<RecoveryStep, u64>,
}

/// A list of candidates with these among them, in place of its last ones where there is no room: what
/// is open is not cut because others come before it.
pub fn keeping(mut candidates: Vec<Candidate>, kept: &[Candidate]) -> Vec<Candidate> {
    let mut room = MAX_CANDIDATES.saturating_sub(kept.len());
    candidates.retain(|one| {
        let is_kept = kept.contains(one);
        let stays = is_kept || room > 0;
        room -= usize::from(stays && !is_kept);
        stays
    });
    let missing = kept.iter().filter(|one| !candidates.contains(one)).copied();
    let missing: Vec<Candidate> = missing.collect();
    candidates.extend(missing);
    candidates
}

/// INVARIANT: at most [`MAX_OPEN`] paths are open, each for another candidate.
#[derive(Debug, Clone)]
pub struct LanePath {
    candidates: Vec<Candidate>,
    direct: DirectPaths,
    open: BTreeMap<u64, OpenPath>,
    /// May be closed already while a recovery looks for another.
    current: u64,
    trial: Option<Trial>,
    recovery: Option<Recovery>,
    silence: Silence,
    slowness: Slowness,
    rests: Rests,
    succession: Succession,
    last_generation: u64,
    last_probe: u64,
    switches: u64,
    last_switch: Option<SwitchReason>,
    not_better: bool,
    settled_at: Moment,
    happened: Happened,
    effects: VecDeque<Effect>,
}

impl LanePath {
    /// The generation of the path that the lane was made over.
    pub const FIRST: u64 = 0;

    /// `seed` is random, and needs not be secret.
    pub fn new(seed: u64, now: Moment, over: Candidate, candidates: Vec<Candidate>) -> Self {
        let mut lane = Self {
            candidates: Vec::new(),
            direct: DirectPaths::default(),
            open: BTreeMap::from([(Self::FIRST, OpenPath::in_use(now, over))]),
            current: Self::FIRST,
            trial: None,
            recovery: None,
            silence: Silence::default(),
            slowness: Slowness::default(),
            rests: Rests::default(),
            succession: Succession::new(seed),
            last_generation: Self::FIRST,
            last_probe: 0,
            switches: 0,
            last_switch: None,
            not_better: false,
            settled_at: now,
            happened: Happened::default(),
            effects: VecDeque::new(),
        };
        // A longer path overtook them a moment ago.
        let shorter = candidates.iter().filter(|one| one.hops() < over.hops());
        shorter.for_each(|one| lane.rests.failed(now, *one));
        lane.handle_input(now, Input::Candidates(candidates));
        lane
    }

    pub fn handle_input(&mut self, now: Moment, input: Input) {
        match input {
            Input::Candidates(candidates) => self.allow(now, candidates),
            Input::Worths(worths) => self.value(now, worths),
            Input::Withdrawn(candidate) => self.withdraw(now, |one| one == candidate),
            Input::Direct(rule) => self.obey(now, rule),
            Input::Traffic(traffic) => self.listen(now, traffic),
            Input::Opened { generation } => {
                if let Some(path) = self.open.get_mut(&generation) {
                    path.opened(now);
                }
            }
            Input::Refused { generation } => self.give_up(now, generation),
            Input::Doubted { generation } if generation == self.current => {
                self.recover(now, SwitchReason::Silent);
            }
            Input::Doubted { generation } => {
                if let Some(path) = self.open.get_mut(&generation) {
                    path.next_probe = now;
                }
            }
            Input::Gone { generation } => {
                self.give_up(now, generation);
                if generation == self.current {
                    self.recover(now, SwitchReason::Gone);
                }
            }
            Input::Answered { generation, probe } => {
                if let Some(path) = self.open.get_mut(&generation) {
                    path.answered(now, probe);
                }
            }
        }
        self.settle(now);
    }

    /// To be called when the moment of [`Self::poll_timeout`] has come, after
    /// [`Input::Traffic`].
    pub fn handle_timeout(&mut self, now: Moment) {
        self.settle(now);
    }

    pub fn poll_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    pub fn poll_timeout(&self) -> Option<Moment> {
        let probes_in_use = self.recovery.is_some() || self.measures_in_use();
        let paths = self.open.iter().filter_map(|(generation, path)| {
            path.deadline(*generation == self.current && !probes_in_use)
        });
        let recovers = self.recovery.is_some();
        let rests = self.candidates.iter().filter_map(|one| self.rests.over_at(*one, recovers));
        // What rested enough and was not opened then is not wanted.
        let rests = rests.filter(|at| *at > self.settled_at);
        let others = [
            self.silence.next_look,
            self.recovery.as_ref().and_then(|recovery| recovery.until),
            self.trial.as_ref().filter(|_| !recovers).map(Trial::deadline),
            self.succession_due(),
        ];
        paths.chain(rests).chain(others.into_iter().flatten()).min()
    }

    /// The candidates over relays that are open, or being opened.
    pub fn open_over_relays(&self) -> Vec<Candidate> {
        let open = self.open.values().map(|path| path.candidate);
        open.filter(Candidate::is_relayed).collect()
    }

    /// Whether it matters at the moment what relays are worth: a direct path that is listed is left for
    /// none of them while there is no doubt of it, and it is as fast as ever.
    pub fn heeds_relays(&self) -> bool {
        self.is_in_doubt() || self.is_relayed() || !self.is_listed() || self.slowness.is_noticed()
    }

    /// Whether a path is searched for, or may be at any moment: the lane sends, and nothing but probes
    /// spoke for its path of late. The search then opens others in the moment in which it begins.
    pub fn is_in_doubt(&self) -> bool {
        self.recovery.is_some() || (self.silence.is_doubtful() && self.is_looking())
    }

    /// Whether the lane's traffic is looked at regularly at the moment. If it is not, the shell
    /// says when something is sent.
    pub const fn is_looking(&self) -> bool {
        self.silence.next_look.is_some()
    }

    /// Whether a path is open, or being opened. What was set up for one that is not is given up.
    pub fn has_open(&self, generation: u64) -> bool {
        self.open.contains_key(&generation)
    }

    pub fn standing(&self) -> Standing {
        Standing {
            switches: self.switches,
            last_switch: self.last_switch,
            recovery: self.recovery.as_ref().map(|recovery| recovery.step),
            not_better: self.not_better,
        }
    }

    /// What happened since this was asked last.
    pub fn take_happened(&mut self) -> Happened {
        std::mem::take(&mut self.happened)
    }

    fn settle(&mut self, now: Moment) {
        self.settled_at = now;
        self.expire(now);
        if self.recovery.is_none() && self.silence.is_suspicious(now) {
            self.recover(now, SwitchReason::Silent);
        }
        self.search(now);
        self.judge_trial(now);
        if self.recovery.is_none() {
            self.keep_warm(now);
            self.look_for_better(now);
            self.look_for_successor(now);
        }
        self.probe(now);
    }

    fn switch(&mut self, now: Moment, to: u64, reason: SwitchReason) {
        let Some(candidate) = self.open.get(&to).map(|path| path.candidate) else { return };
        let is_fallback = self.trial.as_ref().is_some_and(|trial| trial.fallback == Some(to));
        let reason = if is_fallback { SwitchReason::Unproven } else { reason };
        let before = std::mem::replace(&mut self.current, to);
        self.recovery = None;
        self.silence.restart(now);
        self.slowness.restart();
        self.switches += 1;
        self.last_switch = Some(reason);
        self.not_better &= candidate.is_relayed();
        self.not_better |= reason == SwitchReason::Slower;
        *self.happened.switches.entry(reason).or_default() += 1;
        self.effects.push_back(Effect::Use { generation: to, candidate });
        let fallback = if reason.is_by_choice() {
            self.open.get_mut(&before).map(|path| {
                path.opened(now);
                before
            })
        } else {
            self.give_up(now, before);
            None
        };
        self.trial = Some(Trial::begin(now, fallback));
        self.succession.dismiss();
        self.compare(now);
    }

    fn open(&mut self, now: Moment, candidate: Candidate) {
        self.last_generation += 1;
        let generation = self.last_generation;
        self.open.insert(generation, OpenPath::asked_for(now, candidate));
        self.effects.push_back(Effect::Open { generation, candidate });
    }

    fn close(&mut self, generation: u64) {
        if self.open.remove(&generation).is_some() {
            self.effects.push_back(Effect::Close { generation });
        }
    }

    fn give_up(&mut self, now: Moment, generation: u64) {
        if let Some(path) = self.open.get(&generation) {
            self.rests.failed(now, path.candidate);
            self.not_better &= path.candidate.is_relayed();
            self.close(generation);
        }
    }

    /// Open paths besides the one in use.
    fn others(&self) -> impl Iterator<Item = (u64, &OpenPath)> {
        let others = self.open.iter().filter(|(generation, _)| **generation != self.current);
        others.map(|(generation, path)| (*generation, path))
    }

    /// The order of preference: what failed less often comes first, so that nobody who answers
    /// probes and carries nothing stands in the way of one who carries. What drains comes last.
    fn rank(&self, candidate: Candidate) -> (bool, u32, usize) {
        let place = self.candidates.iter().position(|one| *one == candidate);
        let failures = self.rests.failures(candidate);
        (self.drains(&candidate), failures, place.unwrap_or(usize::MAX))
    }

    fn drains(&self, candidate: &Candidate) -> bool {
        self.succession.drains(candidate)
    }

    fn ranked(&self) -> Vec<Candidate> {
        let mut candidates = self.candidates.clone();
        candidates.sort_by_cached_key(|candidate| self.rank(*candidate));
        candidates
    }

    /// Until when the lane does not take what it left as slow, or found slower, unless nothing else works.
    pub fn slow_until(&self, candidate: Candidate) -> Option<Moment> {
        self.succession.slow_until(&candidate)
    }

    /// Whether a path over this candidate is open, or being opened.
    pub fn is_open(&self, candidate: Candidate) -> bool {
        self.open.values().any(|path| path.candidate == candidate)
    }
}

#[cfg(test)]
mod tests;
