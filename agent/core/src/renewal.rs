//! When to renew the certificate: at half its life, spread, and again with backoff.
//!
//! Inputs: the certificate in use, answers. Effects: at most one request in flight. A
//! certificate that has expired cannot authenticate its own renewal, so from then on the machine
//! asks by [`Effect::Recover`], which the identity key authenticates.

use std::{collections::VecDeque, time::Duration};

use rap_proto::{Moment, Timestamp};

use crate::{
    Machine,
    jitter::{Backoff, Jitter},
};

/// How long an answer may take.
pub const ANSWER_LIMIT: Duration = Duration::from_secs(30);
const FIRST_RETRY: Duration = Duration::from_secs(5);
const GREATEST_RETRY: Duration = Duration::from_secs(300);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Input {
    /// The certificate in use, at the start and after each renewal.
    Certificate {
        obtained_at: Timestamp,
        expires_at: Timestamp,
        at: Timestamp,
    },
    Failed,
    /// Control says that this node was revoked, or that its identity was copied.
    Revoked,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    Renew,
    Recover,
}

pub struct Renewal {
    due: Option<Moment>,
    expires: Option<Moment>,
    in_flight: bool,
    backoff: Backoff,
    jitter: Jitter,
    effects: VecDeque<Effect>,
}

impl Renewal {
    pub fn new(seed: u64) -> Self {
        Self {
            due: None,
            expires: None,
            in_flight: false,
            backoff: Backoff::new(FIRST_RETRY, GREATEST_RETRY),
            jitter: Jitter::new(seed),
            effects: VecDeque::new(),
        }
    }
}

impl Machine for Renewal {
    type Input = Input;
    type Effect = Effect;

    fn handle_input(&mut self, now: Moment, input: Input) {
        match input {
            Input::Certificate { obtained_at, expires_at, at } => {
                let half = self.jitter.around(expires_at.since(obtained_at) / 2, 10);
                // A clock that went back must not postpone the renewal.
                let age = at.since(obtained_at);
                let left = expires_at.since(at);
                self.due = Some(now + half.saturating_sub(age).min(left));
                self.expires = Some(now + left);
                self.in_flight = false;
                self.backoff.reset();
            }
            Input::Failed => {
                self.in_flight = false;
                self.due = Some(now + self.backoff.next_delay(&mut self.jitter));
            }
            Input::Revoked => {
                self.due = None;
                self.expires = None;
            }
        }
    }

    fn handle_timeout(&mut self, now: Moment) {
        if self.due.is_none_or(|due| now < due) {
            return;
        }
        if self.in_flight {
            self.handle_input(now, Input::Failed);
            return;
        }
        self.in_flight = true;
        self.due = Some(now + ANSWER_LIMIT);
        let expired = self.expires.is_none_or(|expires| now >= expires);
        self.effects.push_back(if expired { Effect::Recover } else { Effect::Renew });
    }

    fn poll_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    fn poll_timeout(&self) -> Option<Moment> {
        self.due
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const START: Moment = Moment::from_micros(1_000_000);
    const DAY: Duration = Duration::from_secs(86_400);
    const ISSUED: Timestamp = Timestamp::from_unix_millis(1_000_000_000);

    fn with_certificate(age: Duration) -> Renewal {
        let mut renewal = Renewal::new(1);
        let input =
            Input::Certificate { obtained_at: ISSUED, expires_at: ISSUED + DAY, at: ISSUED + age };
        renewal.handle_input(START, input);
        renewal
    }

    #[test]
    fn it_renews_at_half_life_whenever_the_agent_started() {
        for hours in [0, 3, 9] {
            let age = Duration::from_secs(hours * 3_600);
            let mut renewal = with_certificate(age);
            let due = renewal.poll_timeout().unwrap();
            let hour = (due.since(START) + age).as_secs_f64() / 3_600.0;
            assert!((10.8..=13.2).contains(&hour), "{hour}");
            renewal.handle_timeout(Moment::from_micros(due.micros() - 1));
            assert_eq!(renewal.poll_effect(), None);
            renewal.handle_timeout(due);
            assert_eq!(renewal.poll_effect(), Some(Effect::Renew));
        }
    }

    #[test]
    fn failures_and_lost_answers_back_off_and_success_starts_over() {
        let mut renewal = with_certificate(DAY / 2 + DAY / 8);
        let mut gaps = Vec::new();
        for round in 0..12 {
            let due = renewal.poll_timeout().unwrap();
            renewal.handle_timeout(due);
            assert_eq!(renewal.poll_effect(), Some(Effect::Renew));
            let failed = if round % 2 == 0 {
                renewal.handle_input(due, Input::Failed);
                due
            } else {
                let late = renewal.poll_timeout().unwrap();
                renewal.handle_timeout(late);
                late
            };
            gaps.push(renewal.poll_timeout().unwrap().since(failed));
        }
        assert!(gaps[0] <= Duration::from_secs(6), "{gaps:?}");
        assert!(gaps.iter().all(|gap| *gap <= Duration::from_secs(360)), "{gaps:?}");
        assert!(gaps[11] >= Duration::from_secs(240), "{gaps:?}");
    }

    #[test]
    fn an_expired_certificate_is_recovered_and_not_renewed() {
        let mut renewal = with_certificate(DAY * 2);
        assert_eq!(renewal.poll_timeout(), Some(START));
        renewal.handle_timeout(START);
        assert_eq!(renewal.poll_effect(), Some(Effect::Recover));
    }

    #[test]
    fn a_revoked_node_renews_no_more() {
        let mut renewal = with_certificate(DAY);
        renewal.handle_input(START, Input::Revoked);
        assert_eq!(renewal.poll_timeout(), None);
    }
}
