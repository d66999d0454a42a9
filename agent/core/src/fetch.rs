//! When to ask control for a newer snapshot.
//!
//! Inputs: doorbells, what is held, answers. Effect: at most one [`Effect::Ask`] in flight. A
//! doorbell asks at once; a spread poll covers doorbells that were lost; failures back off.

use std::{
    collections::{BTreeSet, VecDeque},
    time::Duration,
};

use rap_proto::{Digest, Moment, wire::node_api::SnapshotRequest};

use crate::{
    Machine,
    jitter::{Backoff, Jitter},
};

/// How long a node goes without asking; spread by a third.
pub const POLL: Duration = Duration::from_secs(15);
/// How long an answer may take.
pub const ANSWER_LIMIT: Duration = Duration::from_secs(30);
const FIRST_RETRY: Duration = Duration::from_millis(500);
const GREATEST_RETRY: Duration = Duration::from_secs(30);

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// Control says that this version exists.
    Doorbell {
        version: u64,
    },
    /// What the snapshot store holds, at the start and after each change.
    Holding {
        version: u64,
        sections: BTreeSet<Digest>,
    },
    Answered(Answer),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// A bundle came and was given to the snapshot store.
    Delivered,
    NotModified,
    /// Control could not be reached, answered nonsense, or what it sent was refused.
    Failed,
    /// Control says that this node was revoked: it asks no more.
    Revoked,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    Ask(SnapshotRequest),
}

pub struct Fetcher {
    held: Option<(u64, BTreeSet<Digest>)>,
    announced: u64,
    asked_at: Option<Moment>,
    next: Option<Moment>,
    revoked: bool,
    backoff: Backoff,
    jitter: Jitter,
    effects: VecDeque<Effect>,
}

impl Fetcher {
    pub fn new(seed: u64) -> Self {
        Self {
            held: None,
            announced: 0,
            asked_at: None,
            next: None,
            revoked: false,
            backoff: Backoff::new(FIRST_RETRY, GREATEST_RETRY),
            jitter: Jitter::new(seed),
            effects: VecDeque::new(),
        }
    }

    fn ask(&mut self, now: Moment) {
        let Some((version, sections)) = &self.held else { return };
        if self.revoked || self.asked_at.is_some() {
            return;
        }
        self.asked_at = Some(now);
        self.next = Some(now + ANSWER_LIMIT);
        let request = SnapshotRequest { have: *version, sections: sections.clone() };
        self.effects.push_back(Effect::Ask(request));
    }

    fn answered(&mut self, now: Moment, answer: Answer) {
        self.asked_at = None;
        let delay = match answer {
            // Whether it was worth anything shows when it is held, or refused.
            Answer::Delivered => self.jitter.around(POLL, 33),
            Answer::NotModified => {
                self.backoff.reset();
                self.jitter.around(POLL, 33)
            }
            Answer::Failed => self.backoff.next_delay(&mut self.jitter),
            Answer::Revoked => {
                self.revoked = true;
                self.next = None;
                return;
            }
        };
        self.next = Some(now + delay);
        // A doorbell that rang meanwhile; after a failure the backoff decides.
        let behind = self.held.as_ref().is_some_and(|(held, _)| *held < self.announced);
        if answer == Answer::NotModified && behind {
            // Control announced it before it could be read: ask again soon, but not in a loop.
            self.next = Some(now + self.jitter.around(FIRST_RETRY, 20));
            self.announced = 0;
        }
    }
}

impl Machine for Fetcher {
    type Input = Input;
    type Effect = Effect;

    fn handle_input(&mut self, now: Moment, input: Input) {
        match input {
            Input::Doorbell { version } => {
                self.announced = self.announced.max(version);
                if self.held.as_ref().is_some_and(|(held, _)| *held < version) {
                    self.ask(now);
                }
            }
            Input::Holding { version, sections } => {
                let before = self.held.replace((version, sections));
                let first = before.is_none();
                if before.is_some_and(|(before, _)| before < version) {
                    self.backoff.reset();
                }
                if first || version < self.announced {
                    self.ask(now);
                }
            }
            Input::Answered(answer) => self.answered(now, answer),
        }
    }

    fn handle_timeout(&mut self, now: Moment) {
        if self.next.is_none_or(|at| now < at) {
            return;
        }
        // An answer that never came counts as a failure.
        if self.asked_at.is_some() {
            self.answered(now, Answer::Failed);
        } else {
            self.ask(now);
        }
    }

    fn poll_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    fn poll_timeout(&self) -> Option<Moment> {
        self.next
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use rap_proto::wire::node_api::KEPT_IDLE;

    use super::*;

    const START: Moment = Moment::from_micros(0);
    /// What a call may take on its way beside the pause between two.
    const SLACK: Duration = Duration::from_secs(5);

    fn holding(version: u64) -> Input {
        Input::Holding { version, sections: BTreeSet::new() }
    }

    fn asked(fetcher: &mut Fetcher) -> Option<u64> {
        let Effect::Ask(request) = fetcher.poll_effect()?;
        assert_eq!(fetcher.poll_effect(), None, "one at a time");
        Some(request.have)
    }

    #[test]
    fn it_asks_at_the_start_then_at_each_doorbell_and_poll() {
        let mut fetcher = Fetcher::new(1);
        assert_eq!((asked(&mut fetcher), fetcher.poll_timeout()), (None, None));
        fetcher.handle_input(START, holding(0));
        assert_eq!(asked(&mut fetcher), Some(0));
        fetcher.handle_input(START, Input::Answered(Answer::Delivered));
        fetcher.handle_input(START, holding(4));
        assert_eq!(asked(&mut fetcher), None);

        fetcher.handle_input(START, Input::Doorbell { version: 4 });
        assert_eq!(asked(&mut fetcher), None, "it has that one");
        fetcher.handle_input(START, Input::Doorbell { version: 5 });
        assert_eq!(asked(&mut fetcher), Some(4));
        fetcher.handle_input(START, Input::Doorbell { version: 6 });
        assert_eq!(asked(&mut fetcher), None, "one in flight");
        fetcher.handle_input(START, Input::Answered(Answer::Delivered));
        fetcher.handle_input(START, holding(5));
        assert_eq!(asked(&mut fetcher), Some(5), "version 6 was announced meanwhile");
        fetcher.handle_input(START, Input::Answered(Answer::Delivered));
        fetcher.handle_input(START, holding(6));

        let poll = fetcher.poll_timeout().unwrap();
        assert!((10..=20).contains(&poll.since(START).as_secs()), "{poll:?}");
        fetcher.handle_timeout(poll);
        assert_eq!(asked(&mut fetcher), Some(6));
    }

    #[test]
    fn a_node_polls_again_before_control_closes_the_connection_that_it_kept() {
        for seed in 0..1_000 {
            let mut fetcher = Fetcher::new(seed);
            fetcher.handle_input(START, holding(1));
            fetcher.handle_input(START, Input::Answered(Answer::NotModified));
            let idle = fetcher.poll_timeout().unwrap().since(START);
            assert!(idle + SLACK < KEPT_IDLE, "{idle:?}");
        }
    }

    #[test]
    fn failures_back_off_and_a_lost_answer_is_one() {
        let mut fetcher = Fetcher::new(2);
        fetcher.handle_input(START, holding(1));
        let mut now = START;
        let mut gaps = Vec::new();
        for _ in 0..10 {
            assert_eq!(asked(&mut fetcher), Some(1));
            fetcher.handle_input(now, Input::Answered(Answer::Failed));
            let next = fetcher.poll_timeout().unwrap();
            gaps.push(next.since(now));
            now = next;
            fetcher.handle_timeout(now);
        }
        assert!(gaps[0] < Duration::from_secs(1) && gaps[9] >= Duration::from_secs(20));
        assert!(gaps.iter().all(|gap| *gap <= Duration::from_secs(36)));
        assert_eq!(asked(&mut fetcher), Some(1));
        now = fetcher.poll_timeout().unwrap();
        fetcher.handle_timeout(now);
        assert_eq!(asked(&mut fetcher), None, "no answer: backs off first");
        now = fetcher.poll_timeout().unwrap();
        fetcher.handle_timeout(now);
        assert_eq!(asked(&mut fetcher), Some(1));
    }

    #[test]
    fn an_announcement_that_control_cannot_serve_yet_does_not_spin() {
        let mut fetcher = Fetcher::new(3);
        fetcher.handle_input(START, holding(1));
        asked(&mut fetcher);
        fetcher.handle_input(START, Input::Doorbell { version: 9 });
        fetcher.handle_input(START, Input::Answered(Answer::NotModified));
        assert_eq!(asked(&mut fetcher), None);
        let soon = fetcher.poll_timeout().unwrap();
        assert!(soon.since(START) <= Duration::from_secs(1));
        fetcher.handle_timeout(soon);
        assert_eq!(asked(&mut fetcher), Some(1));
        fetcher.handle_input(soon, Input::Answered(Answer::NotModified));
        assert!(fetcher.poll_timeout().unwrap().since(soon) >= Duration::from_secs(10));
    }

    #[test]
    fn what_is_delivered_and_refused_backs_off_until_something_is_held() {
        let mut fetcher = Fetcher::new(5);
        fetcher.handle_input(START, holding(1));
        let mut now = START;
        for _ in 0..8 {
            assert_eq!(asked(&mut fetcher), Some(1));
            fetcher.handle_input(now, Input::Answered(Answer::Delivered));
            fetcher.handle_input(now, Input::Answered(Answer::Failed));
            now = fetcher.poll_timeout().unwrap();
            fetcher.handle_timeout(now);
        }
        assert_eq!(asked(&mut fetcher), Some(1));
        fetcher.handle_input(now, Input::Answered(Answer::Failed));
        assert!(fetcher.poll_timeout().unwrap().since(now) >= Duration::from_secs(20));
        fetcher.handle_input(now, holding(2));
        fetcher.handle_input(now, Input::Answered(Answer::Failed));
        assert!(fetcher.poll_timeout().unwrap().since(now) < Duration::from_secs(1));
    }

    #[test]
    fn a_revoked_node_asks_no_more() {
        let mut fetcher = Fetcher::new(4);
        fetcher.handle_input(START, holding(1));
        asked(&mut fetcher);
        fetcher.handle_input(START, Input::Answered(Answer::Revoked));
        fetcher.handle_input(START, Input::Doorbell { version: 9 });
        assert_eq!((asked(&mut fetcher), fetcher.poll_timeout()), (None, None));
    }
}
