#![allow(clippy::unwrap_used)]
use std::time::Duration;

use proptest::prelude::*;
use rap_proto::{
    Generation, LeaseClass, Moment,
    lease::{STOP_BUDGET, reliable},
};

use super::*;
use crate::Machine as _;

const START: Moment = Moment::from_micros(1_000_000_000);
const FOREVER: Moment = Moment::from_micros(u64::MAX / 2);
const TTL: Duration = LeaseClass::Fast.ttl();

fn at(ms: u64) -> Moment {
    START + Duration::from_millis(ms)
}

fn generation(number: u64) -> Generation {
    Generation::new(number)
}

fn granted() -> Answer {
    Answer::Granted { remaining: TTL }
}

/// A holder, and what its shell does at once.
struct Shell {
    holder: LeaseHolder,
    renewals: Vec<(RequestId, Generation)>,
    releases: Vec<Generation>,
    activated: Vec<Generation>,
    deactivated: Vec<Generation>,
    persisted: Vec<Generation>,
    reports: Vec<Report>,
}

impl Shell {
    fn new(floor: u64) -> Self {
        let mut holder = LeaseHolder::new(START, generation(floor), 1);
        holder.handle_input(START, Input::Beat { until: FOREVER });
        holder.handle_input(START, Input::Probed { ready: true });
        let mut shell = Self {
            holder,
            renewals: Vec::new(),
            releases: Vec::new(),
            activated: Vec::new(),
            deactivated: Vec::new(),
            persisted: Vec::new(),
            reports: Vec::new(),
        };
        shell.drain();
        shell
    }

    fn drain(&mut self) {
        while let Some(effect) = self.holder.poll_effect() {
            match effect {
                Effect::PersistFloor { generation } => self.persisted.push(generation),
                Effect::SendRenewal { request, generation } => {
                    self.renewals.push((request, generation));
                }
                Effect::Activate { generation } => self.activated.push(generation),
                Effect::Deactivate { generation } => self.deactivated.push(generation),
                Effect::SendRelease { generation } => self.releases.push(generation),
                Effect::Report(report) => self.reports.push(report),
                Effect::Probe => {}
            }
        }
    }

    fn feed(&mut self, now: Moment, input: Input) {
        self.holder.handle_input(now, input);
        self.drain();
    }

    fn wait(&mut self, now: Moment) {
        self.holder.handle_timeout(now);
        self.drain();
    }

    fn offer(&mut self, now: Moment, number: u64) {
        self.feed(now, Input::Offered { generation: generation(number), class: LeaseClass::Fast });
    }

    fn persist(&mut self, now: Moment, number: u64) {
        self.feed(now, Input::Persisted { generation: generation(number) });
    }

    fn answer(&mut self, now: Moment, answer: Answer) {
        let (request, _) = *self.renewals.last().unwrap();
        self.feed(now, Input::Answered { request, answer });
    }

    /// Active under a generation since `now`, by a renewal that left then.
    fn active(number: u64) -> Self {
        let mut shell = Self::new(0);
        shell.offer(START, number);
        shell.persist(START, number);
        shell.answer(START, granted());
        shell.feed(START, Input::Activated { generation: generation(number) });
        assert_eq!(shell.holder.phase(), Phase::Active { generation: generation(number) });
        shell
    }

    fn forwards(&self, now: Moment, number: u64) -> bool {
        self.holder.may_forward(now, generation(number))
    }
}

#[test]
fn a_grant_is_written_down_then_renewed_and_only_then_active() {
    let mut shell = Shell::new(0);
    shell.offer(START, 3);
    assert_eq!(shell.persisted, [generation(3)]);
    assert!(shell.renewals.is_empty(), "it asks only when the floor is durable");
    shell.persist(START, 3);
    assert_eq!(shell.renewals.len(), 1);
    assert!(shell.activated.is_empty() && !shell.forwards(START, 3));
    shell.answer(at(5), granted());
    assert_eq!(shell.activated, [generation(3)]);
    assert!(shell.forwards(at(5), 3) && !shell.forwards(at(5), 4) && !shell.forwards(at(5), 2));
}

#[test]
fn a_lease_counts_from_when_its_request_left() {
    let mut shell = Shell::new(0);
    shell.offer(START, 1);
    shell.persist(START, 1);
    shell.answer(at(2_000), granted());
    let deadline = START + reliable(TTL).saturating_sub(STOP_BUDGET);
    let before = Moment::from_micros(deadline.micros() - 1);
    assert!(shell.forwards(before, 1));
    assert!(!shell.forwards(deadline, 1), "without any timer");
    assert!(shell.holder.may_finish(deadline, generation(1)));
    assert!(!shell.holder.may_finish(deadline + STOP_BUDGET, generation(1)));
}

#[test]
fn an_answer_that_comes_after_its_own_end_makes_nobody_active() {
    let mut shell = Shell::new(0);
    shell.offer(START, 1);
    shell.persist(START, 1);
    shell.answer(at(3_900), granted());
    assert!(shell.activated.is_empty());
}

#[test]
fn each_answer_counts_once_and_for_its_own_request() {
    let mut shell = Shell::active(1);
    let first = shell.renewals[0].0;
    shell.wait(at(1_200));
    let second = shell.renewals[1].0;
    assert_ne!(first, second);
    // The first answer again, late: it lengthens nothing.
    shell.feed(at(3_000), Input::Answered { request: first, answer: granted() });
    assert!(!shell.forwards(at(3_450), 1));
    shell.feed(at(3_000), Input::Answered { request: second, answer: granted() });
    assert!(shell.forwards(at(3_450), 1));
}

#[test]
fn renewals_in_flight_are_bounded() {
    let mut term = Term::default();
    let asked: Vec<_> =
        (0..=MAX_IN_FLIGHT).map(|index| term.ask(at(index as u64), generation(1))).collect();
    assert_eq!(term.answered(asked[0]), None, "the oldest was given up");
    assert!(asked[1..].iter().all(|request| term.answered(*request).is_some()));
}

#[test]
fn at_the_deadline_the_driver_is_stopped_and_the_lease_given_back_when_it_has() {
    let mut shell = Shell::active(1);
    while let Some(due) = shell.holder.poll_timeout().filter(|_| shell.deactivated.is_empty()) {
        shell.wait(due);
    }
    assert_eq!(shell.deactivated, [generation(1)]);
    assert!(shell.releases.is_empty(), "it has not stopped yet");
    shell.feed(at(3_900), Input::Deactivated { generation: generation(1) });
    assert_eq!(shell.releases, [generation(1)]);
    shell.feed(at(3_950), Input::ReleaseTaken { generation: generation(1) });
    shell.wait(at(60_000));
    assert_eq!(shell.releases.len(), 1);
}

#[test]
fn a_release_that_nobody_answers_is_repeated_and_then_left() {
    let mut shell = Shell::active(1);
    shell.feed(at(100), Input::ReleaseAsked { generation: generation(1) });
    shell.feed(at(200), Input::Deactivated { generation: generation(1) });
    for step in 0..200 {
        shell.wait(at(200 + step * 500));
    }
    assert_eq!(shell.releases.len(), MAX_RELEASES as usize);
}

#[test]
fn a_driver_that_overruns_its_budget_is_reported() {
    let mut shell = Shell::active(1);
    shell.feed(at(100), Input::ReleaseAsked { generation: generation(1) });
    let due = shell.holder.poll_timeout().unwrap();
    assert_eq!(due, at(100) + STOP_BUDGET);
    shell.wait(due);
    assert!(shell.reports.last().unwrap().overdue);
    shell.feed(at(2_000), Input::Deactivated { generation: generation(1) });
    assert!(!shell.reports.last().unwrap().overdue);
}

#[test]
fn after_a_restart_only_a_fresh_grant_counts() {
    let mut shell = Shell::new(7);
    assert_eq!(shell.deactivated, [generation(7)], "what the last run left behind is stopped");
    shell.feed(at(10), Input::Deactivated { generation: generation(7) });
    assert_eq!(shell.releases, [generation(7)]);
    shell.offer(at(20), 7);
    shell.offer(at(20), 6);
    assert!(shell.persisted.is_empty() && shell.renewals.is_empty());
    shell.offer(at(30), 8);
    assert_eq!(shell.persisted, [generation(8)]);
}

#[test]
fn a_superseded_holder_stops_at_once() {
    for answer in [Answer::Superseded { by: generation(2) }, Answer::Over] {
        let mut shell = Shell::active(1);
        shell.wait(at(1_200));
        shell.answer(at(1_210), answer);
        assert_eq!(shell.deactivated, [generation(1)]);
        assert!(!shell.forwards(at(1_210), 1));
        shell.feed(at(1_300), Input::Deactivated { generation: generation(1) });
        assert!(shell.releases.is_empty(), "there is nothing to give back");
    }
}

#[test]
fn a_newer_grant_waits_until_the_driver_of_the_older_has_stopped() {
    let mut shell = Shell::active(1);
    shell.offer(at(100), 5);
    assert_eq!(shell.deactivated, [generation(1)]);
    assert!(shell.persisted == [generation(1)]);
    shell.feed(at(300), Input::Deactivated { generation: generation(1) });
    assert_eq!(shell.persisted, [generation(1), generation(5)]);
    assert!(shell.releases.is_empty());
}

#[test]
fn without_a_beat_nobody_is_active() {
    let mut holder = LeaseHolder::new(START, Generation::NONE, 1);
    let class = LeaseClass::Steady;
    holder.handle_input(START, Input::Offered { generation: generation(1), class });
    holder.handle_input(START, Input::Persisted { generation: generation(1) });
    let answer = Answer::Granted { remaining: class.ttl() };
    holder.handle_input(START, Input::Answered { request: RequestId(1), answer });
    assert_eq!(holder.phase(), Phase::Acquiring { generation: generation(1) });
    // With one, the lease ends with it.
    holder.handle_input(at(5_000), Input::Beat { until: at(30_000) });
    while holder.poll_effect().is_some() {}
    holder.handle_timeout(at(11_500));
    let request = std::iter::from_fn(|| holder.poll_effect()).find_map(|effect| match effect {
        Effect::SendRenewal { request, .. } => Some(request),
        _ => None,
    });
    let request = request.unwrap();
    holder.handle_input(at(11_500), Input::Answered { request, answer });
    assert!(holder.may_forward(at(29_999), generation(1)));
    assert!(!holder.may_forward(at(30_000), generation(1)));
}

#[test]
fn a_draining_node_is_asked_first_and_leaves_by_itself_when_it_is_not() {
    let mut shell = Shell::active(1);
    shell.feed(at(100), Input::Drain(true));
    assert!(shell.reports.last().unwrap().draining && !shell.reports.last().unwrap().ready);
    assert!(shell.forwards(at(200), 1), "until somebody takes over");
    let mut now = at(200);
    while shell.deactivated.is_empty() {
        now = shell.holder.poll_timeout().unwrap().max(now);
        shell.wait(now);
        if shell.renewals.len() > 1 {
            shell.answer(now, granted());
        }
    }
    assert_eq!(now, at(100) + DRAIN_LIMIT);
    shell.feed(now, Input::Deactivated { generation: generation(1) });
    assert_eq!(shell.releases, [generation(1)]);
    shell.offer(now, 2);
    shell.persist(now, 2);
    assert_eq!(shell.releases, [generation(1), generation(2)], "it takes nothing new");
}

#[test]
fn what_a_draining_node_gave_back_it_does_not_take_up_again() {
    let mut shell = Shell::new(0);
    shell.feed(START, Input::Drain(true));
    shell.offer(at(10), 1);
    shell.offer(at(11), 1);
    assert_eq!(shell.persisted, [generation(1)]);
    assert!(shell.releases.is_empty(), "another run of the agent would know nothing of it");
    assert!(!shell.holder.is_idle());
    shell.persist(at(20), 1);
    assert_eq!(shell.releases, [generation(1)]);
    shell.feed(at(30), Input::Drain(false));
    // The release is still under way, and the holder is told once more of its lease.
    shell.offer(at(40), 1);
    assert_eq!(shell.holder.phase(), Phase::Standby);
    shell.wait(at(600));
    assert_eq!(shell.releases, [generation(1), generation(1)], "nobody answered");
    assert!(shell.renewals.is_empty());
}

#[test]
fn what_waited_for_the_driver_is_not_taken_up_below_what_was_given_back_meanwhile() {
    for comes_late in [false, true] {
        let mut shell = Shell::active(1);
        shell.offer(at(10), 2);
        shell.feed(at(20), Input::Drain(true));
        shell.offer(at(30), 3);
        if comes_late {
            shell.feed(at(40), Input::Deactivated { generation: generation(1) });
            shell.persist(at(50), 3);
        } else {
            shell.persist(at(40), 3);
            shell.feed(at(50), Input::Deactivated { generation: generation(1) });
        }
        assert_eq!(shell.releases.last(), Some(&generation(3)));
        // Under 2 it would write down a lower floor than the one that 3 was given back under.
        assert_eq!(shell.persisted, [generation(1), generation(3)]);
        assert_eq!(shell.holder.phase(), Phase::Standby);
    }
}

#[test]
fn what_is_asked_back_while_it_is_written_down_is_given_back_when_it_is() {
    let mut shell = Shell::new(0);
    shell.offer(START, 1);
    shell.feed(at(10), Input::ReleaseAsked { generation: generation(1) });
    assert!(shell.releases.is_empty());
    shell.offer(at(20), 1);
    assert_eq!((shell.holder.phase(), shell.persisted.len()), (Phase::Standby, 1));
    shell.persist(at(30), 1);
    assert_eq!(shell.releases, [generation(1)]);
    shell.offer(at(40), 1);
    assert!(shell.renewals.is_empty());
    // Of a newer one nothing was said.
    shell.offer(at(50), 2);
    shell.persist(at(60), 2);
    assert_eq!(shell.renewals.last().unwrap().1, generation(2));

    let mut shell = Shell::new(0);
    shell.offer(START, 1);
    shell.feed(at(10), Input::Failed { generation: generation(1) });
    assert!(shell.releases.is_empty(), "the disk refused it");
    assert!(shell.holder.is_idle());
}

#[test]
fn a_driver_that_fails_or_never_starts_gives_the_lease_back() {
    let mut shell = Shell::active(1);
    shell.feed(at(100), Input::Failed { generation: generation(1) });
    assert_eq!(shell.deactivated, [generation(1)]);
    shell.feed(at(120), Input::Deactivated { generation: generation(1) });
    assert_eq!(shell.releases, [generation(1)]);
    assert!(!shell.reports.last().unwrap().ready);

    let mut shell = Shell::new(0);
    shell.offer(START, 1);
    shell.persist(START, 1);
    shell.answer(START, granted());
    let mut now = START;
    while shell.deactivated.is_empty() {
        now = shell.holder.poll_timeout().unwrap().max(now);
        shell.wait(now);
        shell.answer(now, granted());
    }
    assert_eq!(now, START + ACTIVATE_LIMIT);
}

#[derive(Debug, Clone)]
enum Step {
    Offer(u64),
    Persist(u64),
    Answer { back: usize, answer: u8 },
    Activated(u64),
    Deactivated(u64),
    Asked(u64),
    Drain(bool),
    Beat(u64),
    Timeout,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (1u64..6).prop_map(Step::Offer),
        (1u64..6).prop_map(Step::Persist),
        (0usize..4, 0u8..4).prop_map(|(back, answer)| Step::Answer { back, answer }),
        (1u64..6).prop_map(Step::Activated),
        (1u64..6).prop_map(Step::Deactivated),
        (1u64..6).prop_map(Step::Asked),
        any::<bool>().prop_map(Step::Drain),
        (0u64..40_000).prop_map(Step::Beat),
        Just(Step::Timeout),
    ]
}

proptest! {
    /// Whatever comes, and however late: what may be forwarded was granted by an answer whose
    /// request left less than a lease's reliable life ago, under a durable generation that was not
    /// given back.
    #[test]
    fn nobody_is_active_at_or_after_the_deadline(
        steps in proptest::collection::vec((step(), 0u64..2_500), 1..120)
    ) {
        let mut shell = Shell::new(0);
        let mut now = START;
        // When each request left, and until when what was granted is good.
        let mut sent = std::collections::BTreeMap::new();
        let mut good = std::collections::BTreeMap::new();
        let mut durable = std::collections::BTreeSet::new();
        for (step, wait) in steps {
            now = now + Duration::from_millis(wait);
            let input = match step {
                Step::Offer(number) => {
                    Some(Input::Offered { generation: generation(number), class: LeaseClass::Fast })
                }
                Step::Persist(number) if shell.persisted.contains(&generation(number)) => {
                    durable.insert(number);
                    Some(Input::Persisted { generation: generation(number) })
                }
                Step::Answer { back, answer } => {
                    shell.renewals.iter().rev().nth(back).map(|(request, of)| {
                        let answer = match answer {
                            0 => Answer::Over,
                            1 => Answer::Superseded { by: generation(9) },
                            _ => {
                                let from: Moment = sent[request];
                                let until = from + reliable(TTL).saturating_sub(STOP_BUDGET);
                                let known = good.entry(of.number()).or_insert(until);
                                *known = until.max(*known);
                                granted()
                            }
                        };
                        Input::Answered { request: *request, answer }
                    })
                }
                Step::Activated(number) => Some(Input::Activated { generation: generation(number) }),
                Step::Deactivated(number) if shell.deactivated.contains(&generation(number)) => {
                    Some(Input::Deactivated { generation: generation(number) })
                }
                Step::Asked(number) => Some(Input::ReleaseAsked { generation: generation(number) }),
                Step::Drain(drains) => Some(Input::Drain(drains)),
                Step::Beat(ms) => Some(Input::Beat { until: now + Duration::from_millis(ms) }),
                Step::Persist(_) | Step::Deactivated(_) | Step::Timeout => None,
            };
            match input {
                Some(input) => shell.feed(now, input),
                None => shell.wait(now),
            }
            for (request, _) in &shell.renewals {
                sent.entry(*request).or_insert(now);
            }
            for later in [0u64, 500, 1_000, 3_000, 3_417, 3_418, 4_000] {
                let then = now + Duration::from_millis(later);
                for number in 1..6 {
                    if shell.forwards(then, number) {
                        prop_assert!(durable.contains(&number));
                        prop_assert!(!shell.releases.contains(&generation(number)));
                        prop_assert!(good.get(&number).is_some_and(|until| then < *until));
                    }
                }
                let forwarding = (1..6).filter(|number| shell.forwards(then, *number)).count();
                prop_assert!(forwarding <= 1);
            }
        }
    }
}
