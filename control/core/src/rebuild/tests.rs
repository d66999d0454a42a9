#![allow(clippy::unwrap_used)]

use rap_events::{
    Actor, EventCodec as _, StreamId,
    cluster::{ClusterBootstrapped, ClusterEvent, SnapshotsRenewed},
};
use rap_proto::{ClusterId, CommandId, Digest, Timestamp};

use super::*;
use crate::Corrupt;

const CLUSTER: ClusterId = ClusterId::from_u128(1);

fn moment(millis: u64) -> Moment {
    Moment::from_micros(1_000_000_000 + millis * 1_000)
}

/// The event of the cluster at this position.
fn event(position: u64) -> Envelope {
    let event = match position {
        1 => ClusterEvent::from(ClusterBootstrapped {
            cluster: CLUSTER,
            ca_certificate: b"certificate".to_vec().into(),
            control_keys: Vec::new(),
            setup_code: Digest::of(b"code").into(),
        }),
        _ => SnapshotsRenewed {}.into(),
    };
    let new = event.to_new_event(None);
    Envelope {
        position,
        stream: StreamId::new("cluster", CLUSTER.uuid()),
        revision: position,
        event_type: new.event_type,
        schema: new.schema,
        payload: new.payload,
        organization: None,
        actor: Actor::Setup,
        command: CommandId::from_u128(u128::from(position)),
        causation: None,
        allowed: None,
        at: Timestamp::from_unix_millis(i64::try_from(position).unwrap()),
    }
}

/// A driver over a log that grows, with a clock that moves by hand.
struct Driver {
    rebuild: Rebuild,
    now: u64,
    living: State,
    /// How many events are appended at each read that nothing is held for.
    growth: u64,
    is_held: bool,
    reads_while_held: u32,
    replaced: Option<State>,
    effects: Vec<&'static str>,
}

impl Driver {
    fn new(events: u64) -> Self {
        let mut living = State::default();
        (1..=events).for_each(|position| living.fold(&event(position)).unwrap());
        Self {
            rebuild: Rebuild::new(moment(0), events),
            now: 0,
            living,
            growth: 0,
            is_held: false,
            reads_while_held: 0,
            replaced: None,
            effects: Vec::new(),
        }
    }

    fn append(&mut self, events: u64) {
        for _ in 0..events {
            self.living.fold(&event(self.living.position() + 1)).unwrap();
        }
    }

    fn tell(&mut self, input: Input) {
        self.rebuild.handle_input(moment(self.now), input);
    }

    /// What is to be done next; time passes until then.
    fn next(&mut self) -> Option<Effect> {
        loop {
            if let Some(effect) = self.rebuild.poll_effect() {
                return Some(effect);
            }
            let due = self.rebuild.poll_timeout()?;
            let millis = |at: Moment| (at.micros() - 1_000_000_000) / 1_000;
            self.now = self.now.max(millis(due));
            self.rebuild.handle_timeout(moment(self.now));
        }
    }

    /// Does what an honest driver does with an effect.
    fn perform(&mut self, effect: Effect) {
        match effect {
            Effect::Read { after, limit, .. } => {
                self.effects.push("read");
                if self.is_held {
                    self.reads_while_held += 1;
                } else {
                    self.append(self.growth);
                }
                let events: Vec<_> = (after + 1..).take(limit).map(event).collect();
                assert!(events.last().unwrap().position <= self.living.position());
                let living = self.living.position();
                self.tell(Input::Read { events, altered: None, living });
            }
            Effect::Copy(state) => {
                self.effects.push("copy");
                self.append(self.growth);
                let copies = [State::clone(&state), State::clone(&state), *state];
                self.tell(Input::Copied(Box::new(copies)));
            }
            Effect::Hold => {
                self.effects.push("hold");
                assert!(!std::mem::replace(&mut self.is_held, true));
                self.tell(Input::Held { living: self.living.position() });
            }
            Effect::LetGo => {
                self.effects.push("let go");
                assert!(std::mem::replace(&mut self.is_held, false));
            }
            Effect::Exchange { published, spare } => {
                self.effects.push("exchange");
                assert!(std::mem::replace(&mut self.is_held, false));
                assert_eq!(published.to_bytes(), spare.to_bytes());
                assert_eq!(published.position(), self.living.position());
                self.replaced = Some(std::mem::replace(&mut self.living, *published));
                self.tell(Input::Exchanged);
            }
            Effect::Compare(state) => {
                self.effects.push("compare");
                let differing = self.replaced.take().unwrap().differing(&state);
                self.tell(Input::Compared { differing });
            }
        }
    }

    fn run(mut self) -> Self {
        while let Some(effect) = self.next() {
            self.perform(effect);
        }
        self
    }

    fn outcome(&self) -> &Outcome {
        self.rebuild.outcome().unwrap()
    }
}

#[test]
fn it_folds_everything_and_takes_the_place_at_the_same_position() {
    let driver = Driver::new(2 * MAX_BATCH + 7).run();
    let position = 2 * MAX_BATCH + 7;
    assert_eq!(driver.outcome(), &Outcome::Same { position });
    let effects = ["read", "read", "copy", "hold", "read", "exchange", "compare"];
    assert_eq!(driver.effects, effects);
    let progress = Progress { position, living: position, exchanged: true };
    assert_eq!(driver.rebuild.progress(), progress);
}

#[test]
fn a_short_log_takes_one_read() {
    let driver = Driver::new(MAX_BATCH).run();
    assert_eq!(driver.outcome(), &Outcome::Same { position: MAX_BATCH });
    assert_eq!(driver.effects, ["copy", "hold", "read", "exchange", "compare"]);
}

#[test]
fn it_catches_up_with_a_log_that_grows_and_holds_it_for_one_read() {
    let mut driver = Driver::new(4 * MAX_BATCH);
    driver.growth = MAX_BATCH / 2;
    let driver = driver.run();
    let Outcome::Same { position } = *driver.outcome() else { unreachable!() };
    assert!(position > 6 * MAX_BATCH, "{position}");
    assert_eq!(driver.reads_while_held, 1);
}

#[test]
fn a_living_state_that_is_wrong_is_named_and_replaced() {
    let mut driver = Driver::new(MAX_BATCH + 1);
    driver.living.cluster.control_keys.push(crate::world::key(9));
    driver.living.authority.deny_version += 1;
    let right = {
        let mut state = State::default();
        (1..=MAX_BATCH + 1).for_each(|position| state.fold(&event(position)).unwrap());
        state
    };
    let driver = driver.run();
    let (position, projections) = (MAX_BATCH + 1, vec!["cluster", "authority"]);
    assert_eq!(driver.outcome(), &Outcome::Differed { position, projections });
    assert_eq!(driver.living.to_bytes(), right.to_bytes());
}

#[test]
fn whoever_went_too_far_meanwhile_is_let_go_and_met_again() {
    let mut driver = Driver::new(MAX_BATCH);
    loop {
        match driver.next().unwrap() {
            // It waited for its turn, and others did not.
            Effect::Hold if driver.effects.len() < 3 => {
                driver.effects.push("hold");
                driver.is_held = true;
                driver.append(1);
                driver.tell(Input::Held { living: driver.living.position() });
            }
            effect => driver.perform(effect),
        }
        if driver.rebuild.outcome().is_some() {
            break;
        }
    }
    let effects = ["copy", "hold", "let go", "read", "hold", "read", "exchange", "compare"];
    assert_eq!(driver.effects, effects);
    assert_eq!(driver.outcome(), &Outcome::Same { position: MAX_BATCH + 1 });
}

#[test]
fn it_rests_as_long_as_the_read_took_and_not_longer_than_it_may() {
    for (took, rest) in [(3, 3), (100, 100), (5_000, 100)] {
        let mut driver = Driver::new(10 * MAX_BATCH);
        let effect = driver.next().unwrap();
        driver.now += took;
        driver.perform(effect);
        assert_eq!(driver.rebuild.poll_timeout(), Some(moment(took + rest)), "{took}");
        driver.rebuild.handle_timeout(moment(took + rest - 1));
        assert!(driver.rebuild.poll_effect().is_none(), "it rests");
    }
    assert_eq!(MAX_REST, Duration::from_millis(100));
}

#[test]
fn so_many_reads_may_fail_in_a_row_and_the_living_state_is_not_held_for_them() {
    let mut driver = Driver::new(MAX_BATCH);
    for round in 0..2 {
        for failed in 0..MAX_FAILED_READS {
            while !matches!(driver.rebuild.effect, Some(Effect::Read { .. })) {
                let effect = driver.next().unwrap();
                if matches!(effect, Effect::Read { .. }) {
                    driver.rebuild.effect = Some(effect);
                } else {
                    driver.perform(effect);
                }
            }
            let Some(Effect::Read { patience, .. }) = driver.next() else { unreachable!() };
            assert_eq!(patience, if driver.is_held { HELD_PATIENCE } else { READ_PATIENCE });
            let now = driver.now;
            driver.tell(Input::Unread);
            if driver.is_held {
                assert!(matches!(driver.rebuild.effect, Some(Effect::LetGo)), "{failed}");
                let effect = driver.next().unwrap();
                driver.perform(effect);
            }
            assert_eq!(driver.rebuild.poll_timeout(), Some(moment(now) + RETRY_DELAY));
        }
        if round == 0 {
            // One that succeeds, and they are counted anew.
            driver.append(MAX_BATCH);
            let effect = driver.next().unwrap();
            driver.perform(effect);
            assert_eq!(driver.rebuild.outcome(), None);
            driver.append(2 * MAX_BATCH);
        }
    }
    while !matches!(driver.next(), Some(Effect::Read { .. })) {}
    driver.tell(Input::Unread);
    assert_eq!(driver.outcome(), &Outcome::Unread);
    assert!(driver.next().is_none());
}

#[test]
fn what_the_tree_does_not_commit_to_is_not_taken() {
    let mut driver = Driver::new(3 * MAX_BATCH);
    assert!(matches!(driver.next(), Some(Effect::Read { .. })));
    let events = (1..=MAX_BATCH).map(event).collect();
    driver.tell(Input::Read { events, altered: Some(9), living: 3 * MAX_BATCH });
    assert_eq!(driver.outcome(), &Outcome::Altered { position: 9 });
    assert!(driver.next().is_none() && !driver.outcome().is_taken());
}

#[test]
fn what_cannot_be_folded_is_not_taken() {
    let mut driver = Driver::new(3 * MAX_BATCH);
    assert!(matches!(driver.next(), Some(Effect::Read { .. })));
    let events = vec![event(1), event(3)];
    driver.tell(Input::Read { events, altered: None, living: 3 * MAX_BATCH });
    let gap = Corrupt::Gap { last: 1, next: 3 };
    assert_eq!(driver.outcome(), &Outcome::Corrupt(gap));
    assert!(driver.next().is_none());
}

#[test]
fn a_log_that_is_shorter_than_what_was_folded_counts_as_unread() {
    let mut driver = Driver::new(3 * MAX_BATCH);
    for _ in 0..=MAX_FAILED_READS {
        assert!(matches!(driver.next(), Some(Effect::Read { .. })));
        driver.tell(Input::Read { events: Vec::new(), altered: None, living: 3 * MAX_BATCH });
    }
    assert_eq!(driver.outcome(), &Outcome::Unread);
}

#[test]
fn nothing_is_exchanged_over_a_log_that_was_refuted() {
    let mut driver = Driver::new(MAX_BATCH);
    let copy = driver.next().unwrap();
    driver.perform(copy);
    assert!(matches!(driver.next(), Some(Effect::Hold)));
    driver.tell(Input::Refuted);
    assert_eq!(driver.outcome(), &Outcome::Refuted);
    assert!(driver.next().is_none() && !driver.rebuild.progress().exchanged);
}

#[test]
fn a_living_state_that_always_runs_away_is_held_so_many_times_and_then_left_alone() {
    let mut driver = Driver::new(MAX_BATCH);
    for hold in 0..=MAX_VAIN_HOLDS {
        assert!(driver.rebuild.outcome().is_none(), "hold {hold}");
        loop {
            match driver.next().unwrap() {
                Effect::Hold => break,
                Effect::LetGo => {}
                other => driver.perform(other),
            }
        }
        driver.append(MAX_BATCH + 1);
        driver.tell(Input::Held { living: driver.living.position() });
    }
    assert_eq!(driver.rebuild.outcome(), Some(&Outcome::Unread));
}
