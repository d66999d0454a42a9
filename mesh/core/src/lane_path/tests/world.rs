//! A lane in a small world: paths that work or do not, and an application that sends steadily.

use std::collections::{BTreeMap, BTreeSet};

use super::*;

/// How often the application sends a datagram that the far end answers.
const SEND_EVERY: Duration = Duration::from_millis(20);
/// More happenings than this at one moment mean that the machine keeps itself busy.
const MOST_AT_ONCE: u32 = 64;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Condition {
    Works,
    /// Probes are answered, nothing else comes through.
    Hollow,
    Dead,
}

#[derive(Debug, Clone, Copy)]
enum Happening {
    Opened(u64),
    Refused(u64),
    Answered(u64, u64),
    Echo(u64),
}

pub(super) struct World {
    pub(super) lane: LanePath,
    pub(super) now: Moment,
    pub(super) sends: bool,
    pub(super) send_every: Duration,
    /// What the connection takes for its round trip, where that is not what the path takes.
    pub(super) estimate: Option<Duration>,
    pub(super) round_trip: Duration,
    /// Of those paths that do not take as long as the others.
    pub(super) round_trips: BTreeMap<Candidate, Duration>,
    pub(super) conditions: BTreeMap<Candidate, Condition>,
    /// What is worth something, as it was told last.
    pub(super) worths: BTreeMap<Candidate, u16>,
    /// These set nothing up.
    pub(super) drains: BTreeSet<Candidate>,
    pub(super) open: BTreeMap<u64, Candidate>,
    pub(super) using: u64,
    pub(super) steps: BTreeSet<RecoveryStep>,
    pub(super) asked: u32,
    pub(super) retired: u32,
    pub(super) probes: u32,
    pub(super) most_open: usize,
    /// When the application last got an answer.
    pub(super) last_echo: Moment,
    sent: u64,
    received: u64,
    next_send: Moment,
    coming: BTreeMap<(Moment, u64), Happening>,
    number: u64,
    at_once: u32,
}

pub(super) const fn at(millis: u64) -> Moment {
    Moment::from_micros(millis * 1_000)
}

pub(super) const fn relay(number: u128) -> Candidate {
    Candidate::Relay(rap_proto::NodeId::from_u128(100 + number))
}

pub(super) fn direct(last: u8) -> Candidate {
    Candidate::Direct(std::net::SocketAddr::from(([192, 0, 2, last], 4433)))
}

impl World {
    /// A lane over `over`; every candidate works.
    pub(super) fn new(over: Candidate, candidates: &[Candidate]) -> Self {
        Self::seeded(7, over, candidates)
    }

    pub(super) fn seeded(seed: u64, over: Candidate, candidates: &[Candidate]) -> Self {
        let now = at(0);
        let conditions = candidates.iter().map(|one| (*one, Condition::Works)).collect();
        let mut world = Self {
            lane: LanePath::new(seed, now, over, candidates.to_vec()),
            now,
            sends: true,
            send_every: SEND_EVERY,
            estimate: None,
            round_trip: Duration::from_millis(10),
            round_trips: BTreeMap::new(),
            conditions,
            worths: BTreeMap::new(),
            drains: BTreeSet::new(),
            open: BTreeMap::from([(LanePath::FIRST, over)]),
            using: LanePath::FIRST,
            steps: BTreeSet::new(),
            asked: 0,
            retired: 0,
            probes: 0,
            most_open: 0,
            last_echo: now,
            sent: 0,
            received: 0,
            next_send: now,
            coming: BTreeMap::new(),
            number: 0,
            at_once: 0,
        };
        world.perform();
        world
    }

    pub(super) fn set(&mut self, candidate: Candidate, condition: Condition) {
        self.conditions.insert(candidate, condition);
    }

    /// Tells what candidates are worth, and which of them drain.
    pub(super) fn value(&mut self, worths: &[(Candidate, u16)]) {
        self.worths = worths.iter().copied().collect();
        self.tell_worths();
    }

    pub(super) fn drain(&mut self, candidate: Candidate) {
        self.drains.insert(candidate);
        self.tell_worths();
    }

    pub(super) fn tell_worths(&mut self) {
        let worth = |(candidate, total): (&Candidate, &u16)| {
            let drains = self.drains.contains(candidate);
            (*candidate, Worth { total: *total, drains })
        };
        let worths = self.worths.iter().map(worth).collect();
        self.tell(Input::Worths(worths));
    }

    pub(super) fn tell(&mut self, input: Input) {
        self.lane.handle_input(self.now, input);
        self.perform();
    }

    /// The path in use, when it is open.
    pub(super) fn path(&self) -> Option<Candidate> {
        self.open.get(&self.using).copied()
    }

    pub(super) fn run(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            let happening = self.coming.keys().next().map(|(at, _)| *at);
            let send = self.sends.then_some(self.next_send);
            let times = [happening, send, self.lane.poll_timeout()];
            let Some(next) = times.into_iter().flatten().min().filter(|at| *at <= end) else {
                self.now = end;
                return;
            };
            self.at_once = if next > self.now { 0 } else { self.at_once + 1 };
            assert!(self.at_once < MOST_AT_ONCE, "busy at {next:?}: {:?}", self.lane);
            self.now = self.now.max(next);
            self.step();
        }
    }

    /// The node does nothing for a while, and then what was due.
    pub(super) fn stand_still(&mut self, time: Duration) {
        self.now = self.now + time;
        self.sent += 1;
        self.tell(self.traffic());
        self.lane.handle_timeout(self.now);
        self.perform();
    }

    fn step(&mut self) {
        let now = self.now;
        if let Some(entry) = self.coming.first_entry().filter(|entry| entry.key().0 <= now) {
            match entry.remove() {
                Happening::Opened(generation) => self.tell(Input::Opened { generation }),
                Happening::Refused(generation) => self.tell(Input::Refused { generation }),
                Happening::Answered(generation, probe) => {
                    self.tell(Input::Answered { generation, probe });
                }
                Happening::Echo(generation) if generation == self.using => {
                    self.received += 1;
                    self.last_echo = now;
                }
                Happening::Echo(_) => {}
            }
        } else if self.sends && self.next_send <= now {
            self.next_send = now + self.send_every;
            self.send();
        } else {
            self.tell(self.traffic());
            self.lane.handle_timeout(now);
            self.perform();
        }
    }

    fn send(&mut self) {
        self.sent += 1;
        if self.path().is_some_and(|path| self.conditions[&path] == Condition::Works) {
            self.later(self.using, Happening::Echo(self.using));
        }
        if !self.lane.is_looking() {
            self.tell(self.traffic());
        }
    }

    fn traffic(&self) -> Input {
        let (sent, received) = (self.sent, self.received);
        let rtt = self.estimate.unwrap_or_else(|| self.takes(self.using));
        Input::Traffic(Traffic { sent, received, rtt })
    }

    /// How long it takes along a path and back.
    fn takes(&self, generation: u64) -> Duration {
        let candidate = self.open.get(&generation);
        let own = candidate.and_then(|candidate| self.round_trips.get(candidate));
        own.copied().unwrap_or(self.round_trip)
    }

    fn later(&mut self, along: u64, happening: Happening) {
        self.number += 1;
        self.coming.insert((self.now + self.takes(along), self.number), happening);
    }

    fn perform(&mut self) {
        self.steps.extend(self.lane.standing().recovery);
        while let Some(effect) = self.lane.poll_effect() {
            match effect {
                Effect::Open { generation, candidate } => {
                    self.open.insert(generation, candidate);
                    let outcome = match self.drains.contains(&candidate) {
                        true => Happening::Refused(generation),
                        false => Happening::Opened(generation),
                    };
                    self.later(generation, outcome);
                }
                Effect::Close { generation } => {
                    assert!(self.open.remove(&generation).is_some(), "closed twice");
                }
                Effect::Probe { generation, probe } => {
                    self.probes += 1;
                    if self.conditions[&self.open[&generation]] != Condition::Dead {
                        self.later(generation, Happening::Answered(generation, probe));
                    }
                }
                Effect::Use { generation, candidate } => {
                    assert_eq!(self.open.get(&generation), Some(&candidate), "used unopened");
                    self.using = generation;
                }
                Effect::AskForSnapshot => self.asked += 1,
                Effect::Retire => self.retired += 1,
            }
            self.most_open = self.most_open.max(self.open.len());
        }
    }
}
