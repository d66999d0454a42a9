//! When an adapter worker is started, killed and started again.
//!
//! Inputs: what the worker's process and control connection do. Effects: at most one process at
//! a time. A worker that died is started again at once, one that keeps dying after doubling
//! delays; one that does not answer is killed.
//!
//! INVARIANT: every input about a process names its generation; older ones change nothing.

use std::{collections::VecDeque, time::Duration};

use rap_proto::Moment;

use crate::{
    Machine,
    jitter::{Backoff, Jitter},
};

/// How long a fresh worker may take until it says that it is ready.
pub const READY_LIMIT: Duration = Duration::from_secs(5);
/// How often a worker is asked whether it lives.
pub const PING: Duration = Duration::from_secs(5);
/// How long a worker may take to answer.
pub const PONG_LIMIT: Duration = Duration::from_secs(10);
/// A worker that lived so long starts with a clean slate when it dies.
pub const HEALTHY_AFTER: Duration = Duration::from_secs(30);
const FIRST_RESTART: Duration = Duration::from_millis(50);
const GREATEST_RESTART: Duration = Duration::from_secs(30);

/// Counts the processes that were started for one workload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Generation(pub u64);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Input {
    /// Whether a worker is wanted at all.
    Wanted(bool),
    /// The process could not be started.
    SpawnFailed(Generation),
    /// The worker said hello on its control connection.
    Ready(Generation),
    Pong(Generation),
    /// The process ended, for whatever reason.
    Exited(Generation),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    Spawn(Generation),
    /// Channels can be opened through this process from now on.
    Serve(Generation),
    Ping(Generation),
    Kill(Generation),
    /// This process opens nothing more; every channel through it is dead. `asked` when it ends
    /// because no worker is wanted any more.
    Lost {
        generation: Generation,
        asked: bool,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    Stopped,
    /// Waiting for the next attempt.
    Waiting {
        until: Moment,
    },
    Starting {
        since: Moment,
    },
    Serving {
        since: Moment,
        ping_at: Moment,
        pong_by: Option<Moment>,
    },
    /// Told to end; waiting for the process to be gone.
    Ending,
}

pub struct Workload {
    wanted: bool,
    generation: Generation,
    phase: Phase,
    restarts: u64,
    backoff: Backoff,
    jitter: Jitter,
    effects: VecDeque<Effect>,
}

impl Workload {
    pub fn new(seed: u64) -> Self {
        Self {
            wanted: false,
            generation: Generation::default(),
            phase: Phase::Stopped,
            restarts: 0,
            backoff: Backoff::new(FIRST_RESTART, GREATEST_RESTART),
            jitter: Jitter::new(seed),
            effects: VecDeque::new(),
        }
    }

    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// How many processes ended although a worker was wanted.
    pub fn restarts(&self) -> u64 {
        self.restarts
    }

    fn spawn(&mut self, now: Moment) {
        self.generation.0 += 1;
        self.phase = Phase::Starting { since: now };
        self.effects.push_back(Effect::Spawn(self.generation));
    }

    fn gone(&mut self, now: Moment) {
        match self.phase {
            Phase::Serving { since, .. } => {
                self.lost();
                if now.since(since) >= HEALTHY_AFTER {
                    self.backoff.reset();
                }
            }
            Phase::Starting { .. } | Phase::Ending => {}
            Phase::Stopped | Phase::Waiting { .. } => return,
        }
        if self.wanted {
            self.restarts += 1;
            let delay = self.backoff.next_delay(&mut self.jitter);
            self.phase = Phase::Waiting { until: now + delay };
        } else {
            self.phase = Phase::Stopped;
        }
    }

    fn lost(&mut self) {
        let (generation, asked) = (self.generation, !self.wanted);
        self.effects.push_back(Effect::Lost { generation, asked });
    }

    fn kill(&mut self) {
        if matches!(self.phase, Phase::Serving { .. }) {
            self.lost();
        }
        self.effects.push_back(Effect::Kill(self.generation));
        self.phase = Phase::Ending;
    }

    fn want(&mut self, now: Moment, wanted: bool) {
        self.wanted = wanted;
        match (wanted, self.phase) {
            (true, Phase::Stopped) => {
                self.backoff.reset();
                self.spawn(now);
            }
            (false, Phase::Waiting { .. }) => self.phase = Phase::Stopped,
            (false, Phase::Starting { .. } | Phase::Serving { .. }) => self.kill(),
            _ => {}
        }
    }
}

impl Machine for Workload {
    type Input = Input;
    type Effect = Effect;

    fn handle_input(&mut self, now: Moment, input: Input) {
        match input {
            Input::Wanted(wanted) => self.want(now, wanted),
            Input::SpawnFailed(generation) | Input::Exited(generation) => {
                if generation == self.generation {
                    self.gone(now);
                }
            }
            Input::Ready(generation) => {
                let starting = matches!(self.phase, Phase::Starting { .. });
                if generation == self.generation && starting {
                    let ping_at = now + PING;
                    self.phase = Phase::Serving { since: now, ping_at, pong_by: None };
                    self.effects.push_back(Effect::Serve(generation));
                }
            }
            Input::Pong(generation) => {
                if let (true, Phase::Serving { since, .. }) =
                    (generation == self.generation, self.phase)
                {
                    let ping_at = now + PING;
                    self.phase = Phase::Serving { since, ping_at, pong_by: None };
                }
            }
        }
    }

    fn handle_timeout(&mut self, now: Moment) {
        match self.phase {
            Phase::Waiting { until } if now >= until => self.spawn(now),
            Phase::Starting { since } if now >= since + READY_LIMIT => self.kill(),
            Phase::Serving { pong_by: Some(by), .. } if now >= by => self.kill(),
            Phase::Serving { since, ping_at, pong_by: None } if now >= ping_at => {
                let pong_by = Some(now + PONG_LIMIT);
                self.phase = Phase::Serving { since, ping_at, pong_by };
                self.effects.push_back(Effect::Ping(self.generation));
            }
            _ => {}
        }
    }

    fn poll_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    fn poll_timeout(&self) -> Option<Moment> {
        match self.phase {
            Phase::Waiting { until } => Some(until),
            Phase::Starting { since } => Some(since + READY_LIMIT),
            Phase::Serving { ping_at, pong_by, .. } => Some(pong_by.unwrap_or(ping_at)),
            Phase::Stopped | Phase::Ending => None,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    const START: Moment = Moment::from_micros(0);

    fn drain(workload: &mut Workload) -> Vec<Effect> {
        std::iter::from_fn(|| workload.poll_effect()).collect()
    }

    fn feed(workload: &mut Workload, now: Moment, input: Input) -> Vec<Effect> {
        workload.handle_input(now, input);
        drain(workload)
    }

    fn serving() -> Workload {
        let mut workload = Workload::new(1);
        assert_eq!(feed(&mut workload, START, Input::Wanted(true)), [Effect::Spawn(Generation(1))]);
        assert_eq!(
            feed(&mut workload, START, Input::Ready(Generation(1))),
            [Effect::Serve(Generation(1))]
        );
        workload
    }

    fn lost(generation: u64, asked: bool) -> Effect {
        Effect::Lost { generation: Generation(generation), asked }
    }

    fn time_out(workload: &mut Workload) -> (Moment, Vec<Effect>) {
        let at = workload.poll_timeout().unwrap();
        workload.handle_timeout(at);
        (at, drain(workload))
    }

    #[test]
    fn a_dead_worker_is_back_well_within_two_seconds() {
        let mut workload = serving();
        let died = feed(&mut workload, START, Input::Exited(Generation(1)));
        assert_eq!(died, [lost(1, false)]);
        let (at, effects) = time_out(&mut workload);
        assert!(at.since(START) < Duration::from_millis(100));
        assert_eq!(effects, [Effect::Spawn(Generation(2))]);
        assert_eq!(workload.restarts(), 1);
    }

    #[test]
    fn one_that_keeps_dying_waits_longer_and_a_long_life_forgives() {
        let mut workload = serving();
        let mut now = START;
        let mut waits = Vec::new();
        for generation in 1..=12 {
            feed(&mut workload, now, Input::Exited(Generation(generation)));
            let (at, effects) = time_out(&mut workload);
            waits.push(at.since(now));
            assert_eq!(effects, [Effect::Spawn(Generation(generation + 1))]);
            now = at;
            feed(&mut workload, now, Input::Ready(Generation(generation + 1)));
        }
        assert!(waits[11] > Duration::from_secs(20) && waits[11] <= Duration::from_secs(36));
        now = now + HEALTHY_AFTER;
        feed(&mut workload, now, Input::Exited(Generation(13)));
        let (at, _) = time_out(&mut workload);
        assert!(at.since(now) < Duration::from_millis(100));
    }

    #[test]
    fn silence_is_killed() {
        let mut starting = Workload::new(1);
        feed(&mut starting, START, Input::Wanted(true));
        let (at, effects) = time_out(&mut starting);
        assert_eq!((at, effects), (START + READY_LIMIT, vec![Effect::Kill(Generation(1))]));
        assert_eq!(starting.poll_timeout(), None, "until the process is gone");
        feed(&mut starting, at, Input::Exited(Generation(1)));
        assert_eq!(time_out(&mut starting).1, [Effect::Spawn(Generation(2))]);

        let mut serving = serving();
        let (asked, effects) = time_out(&mut serving);
        assert_eq!(effects, [Effect::Ping(Generation(1))]);
        feed(&mut serving, asked, Input::Pong(Generation(1)));
        assert_eq!(time_out(&mut serving).1, [Effect::Ping(Generation(1))]);
        let killed = [lost(1, false), Effect::Kill(Generation(1))];
        assert_eq!(time_out(&mut serving).1, killed);
    }

    #[test]
    fn an_unwanted_worker_is_ended_and_stays_so() {
        let mut workload = serving();
        let ended = feed(&mut workload, START, Input::Wanted(false));
        assert_eq!(ended, [lost(1, true), Effect::Kill(Generation(1))]);
        assert_eq!(feed(&mut workload, START, Input::Exited(Generation(1))), []);
        assert_eq!((workload.phase(), workload.restarts()), (Phase::Stopped, 0));
        let again = feed(&mut workload, START, Input::Wanted(true));
        assert_eq!(again, [Effect::Spawn(Generation(2))]);
    }

    #[test]
    fn what_an_older_process_does_changes_nothing() {
        let mut workload = serving();
        feed(&mut workload, START, Input::Exited(Generation(1)));
        time_out(&mut workload);
        for late in [Input::Ready(Generation(1)), Input::Exited(Generation(1))] {
            assert_eq!(feed(&mut workload, START, late), []);
        }
        assert!(matches!(workload.phase(), Phase::Starting { .. }));
    }

    proptest! {
        /// There is never more than one process, and it is lost before the next one serves.
        #[test]
        fn one_process_at_a_time(choices in proptest::collection::vec(0u8..7, 1..200)) {
            let mut workload = Workload::new(3);
            let mut now = START;
            let mut alive: Option<Generation> = None;
            let mut serves: Option<Generation> = None;
            for choice in choices {
                let input = match choice {
                    0 => Some(Input::Wanted(true)),
                    1 => Some(Input::Wanted(false)),
                    2 => alive.map(Input::Ready),
                    3 => alive.map(Input::Pong),
                    4 => alive.take().map(Input::Exited),
                    5 => Some(Input::Exited(Generation(0))),
                    _ => {
                        now = workload.poll_timeout().unwrap_or(now).max(now);
                        workload.handle_timeout(now);
                        None
                    }
                };
                if let Some(input) = input {
                    workload.handle_input(now, input);
                }
                for effect in drain(&mut workload) {
                    match effect {
                        Effect::Spawn(generation) => {
                            prop_assert!(alive.is_none());
                            alive = Some(generation);
                        }
                        Effect::Serve(generation) => {
                            prop_assert!(serves.is_none());
                            serves = Some(generation);
                        }
                        Effect::Lost { generation, .. } => {
                            prop_assert_eq!(serves.take(), Some(generation));
                        }
                        Effect::Ping(generation) | Effect::Kill(generation) => {
                            prop_assert_eq!(alive, Some(generation));
                        }
                    }
                }
            }
        }
    }
}
