//! The way back of a node that no peer answers, in five steps:
//!
//! ```text
//! active ─▶ warm ─▶ cold ─▶ discovery ─▶ snapshot ─▶ (a while) ─▶ active …
//! ```
//!
//! A step begins when everybody of the one before it was asked in vain. As soon as one peer answers
//! it is over. At the last step the node lives by its last snapshot, as far as its stale policy
//! lets it, and begins again from time to time.

use std::{collections::BTreeSet, time::Duration};

use rap_proto::{Moment, NodeId};

use super::{Effect, MAX_PARALLEL, PeerBook};

/// The most cold peers that one round asks.
pub const MAX_COLD_TRIES: usize = 16;
/// How long a newer directory is waited for.
pub const DISCOVERY_LIMIT: Duration = Duration::from_secs(10);
/// How long the first round is waited after; doubles with each round.
pub const FIRST_PAUSE: Duration = Duration::from_secs(5);
pub const GREATEST_PAUSE: Duration = Duration::from_secs(60);

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// The active peers are tried once more: whoever comes back spares everybody a change.
    Active,
    Warm,
    Cold,
    /// The services that give out configuration are asked for a newer directory.
    Discovery,
    /// Nothing is left but the last snapshot.
    Snapshot,
}

impl Step {
    pub const ALL: [Self; 5] =
        [Self::Active, Self::Warm, Self::Cold, Self::Discovery, Self::Snapshot];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Warm => "warm",
            Self::Cold => "cold",
            Self::Discovery => "discovery",
            Self::Snapshot => "snapshot",
        }
    }

    const fn next(self) -> Self {
        match self {
            Self::Active => Self::Warm,
            Self::Warm => Self::Cold,
            Self::Cold => Self::Discovery,
            Self::Discovery => Self::Snapshot,
            Self::Snapshot => Self::Active,
        }
    }
}

#[derive(Debug, Clone)]
pub(super) struct Recovery {
    pub(super) step: Step,
    pub(super) until: Option<Moment>,
    rounds: u32,
    tried: BTreeSet<NodeId>,
    cold_tries: usize,
    /// Of the directory that the round began with.
    version: u64,
}

impl PeerBook {
    /// Comes after every input and timeout: begins, goes on with, or ends a recovery.
    pub(super) fn recover(&mut self, now: Moment) {
        let version = self.directory.as_ref().map_or(0, |directory| directory.version);
        let reached = self.active.iter().any(|node| self.peers[node].up);
        if self.peers.is_empty() || reached {
            if self.recovery.take().is_some() {
                self.say(Effect::Recovering(None));
                self.look_again(now);
            }
            return;
        }
        match &mut self.recovery {
            None => self.begin(now, 0, version),
            Some(recovery) if recovery.step >= Step::Discovery && recovery.version < version => {
                let rounds = recovery.rounds;
                self.begin(now, rounds, version);
            }
            Some(_) => {}
        }
        self.go_on(now);
    }

    fn begin(&mut self, now: Moment, rounds: u32, version: u64) {
        self.recovery = Some(Recovery {
            step: Step::Active,
            until: None,
            rounds,
            tried: BTreeSet::new(),
            cold_tries: 0,
            version,
        });
        self.forget(now);
        self.say(Effect::Recovering(Some(Step::Active)));
        for node in self.active.clone() {
            if self.peers[&node].asked_until.is_none() {
                self.ask(now, node);
            }
        }
    }

    fn go_on(&mut self, now: Moment) {
        // Each turn waits or is one step further, and no step comes twice without a wait.
        while !self.is_waiting(now) {
            let Some(recovery) = &self.recovery else { return };
            match recovery.step {
                Step::Active => self.step_on(),
                Step::Warm | Step::Cold => {
                    let next = self.untried(now);
                    if next.is_empty() {
                        self.step_on();
                    }
                    for node in next {
                        self.try_one(now, node);
                    }
                }
                Step::Discovery if recovery.until.is_none() => {
                    self.say(Effect::Discover);
                    self.wait(now + DISCOVERY_LIMIT);
                }
                Step::Discovery => self.step_on(),
                Step::Snapshot if recovery.until.is_none() => {
                    let pause = FIRST_PAUSE.saturating_mul(1 << recovery.rounds.min(8));
                    let pause = self.spread.around(pause.min(GREATEST_PAUSE), 20);
                    self.wait(now + pause);
                }
                Step::Snapshot => {
                    let (rounds, version) = (recovery.rounds.saturating_add(1), recovery.version);
                    self.begin(now, rounds, version);
                }
            }
        }
    }

    /// When the step's time is over. While an answer is waited for, that comes first.
    pub(super) fn recovery_timeout(&self) -> Option<Moment> {
        let recovery = self.recovery.as_ref()?;
        if self.is_answer_due() { None } else { recovery.until }
    }

    /// For an answer, or for its time.
    fn is_waiting(&self, now: Moment) -> bool {
        let waits = self.recovery.as_ref().and_then(|recovery| recovery.until);
        self.is_answer_due() || waits.is_some_and(|until| now < until)
    }

    fn is_answer_due(&self) -> bool {
        self.active.iter().any(|node| self.peers[node].asked_until.is_some())
    }

    fn step_on(&mut self) {
        let Some(recovery) = &mut self.recovery else { return };
        recovery.step = recovery.step.next();
        recovery.until = None;
        let step = recovery.step;
        self.say(Effect::Recovering(Some(step)));
    }

    fn wait(&mut self, until: Moment) {
        if let Some(recovery) = &mut self.recovery {
            recovery.until = Some(until);
        }
    }

    /// Whom the step asks next: a few at a time, each once in a round.
    fn untried(&self, now: Moment) -> Vec<NodeId> {
        let Some(recovery) = &self.recovery else { return Vec::new() };
        // No more than will stay: whoever is too many has a tenure all the same.
        let room = self.policy.counts.aim().max(1).saturating_sub(self.active.len());
        let most = MAX_PARALLEL.min(room);
        let untried = |node: &NodeId| !recovery.tried.contains(node);
        if recovery.step == Step::Warm {
            let warm: Vec<NodeId> = self.warm.iter().copied().filter(untried).collect();
            return self.best(now, &warm, most).into_iter().map(|ranked| ranked.node).collect();
        }
        let most = most.min(MAX_COLD_TRIES.saturating_sub(recovery.cold_tries));
        let untried = self.coldest_last(usize::MAX, |peer| untried(&peer.candidate.node));
        let allowed = self.best(now, &untried, usize::MAX);
        let allowed: BTreeSet<NodeId> = allowed.into_iter().map(|ranked| ranked.node).collect();
        untried.into_iter().filter(|node| allowed.contains(node)).take(most).collect()
    }

    fn try_one(&mut self, now: Moment, node: NodeId) {
        if let Some(recovery) = &mut self.recovery {
            recovery.tried.insert(node);
            if recovery.step == Step::Cold {
                recovery.cold_tries += 1;
            }
        }
        self.promote(now, node);
    }
}
