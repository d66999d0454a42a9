//! Both ends over a byte stream that is slow, cuts where it likes and loses nothing, with a reader
//! that takes its time: whatever happens in whatever order, a kind's promise holds.

use proptest::prelude::*;

use super::{
    world::{LEAST, MAX_MESSAGE, droppable, paced, reliable},
    *,
};

/// The most rounds until everything has arrived.
const MAX_ROUNDS: usize = 1_000;

#[derive(Debug, Clone, Copy)]
enum Step {
    /// The sender's program makes a message of so many bytes.
    Make(Option<u64>, usize),
    /// Each side writes once, if the stream has room.
    Write,
    /// So many bytes arrive on each side.
    Arrive(usize),
    Read,
    Pass(u64),
}

/// A mistake that the checks have to find.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Bug {
    None,
    /// A message that was read is not handed on.
    Loses,
    /// Two that were read change their places.
    Swaps,
    /// The reader's grants come to nothing.
    HearsNothing,
    /// Nothing that waits gets stale.
    KeepsStale,
}

/// The stream holds so many bytes each way before a write waits.
const ROOM: usize = 64;

struct Carried {
    policy: Policy,
    bug: Bug,
    ends: [End; 2],
    streams: [Vec<u8>; 2],
    /// They read what the sender wrote, and what of it arrived.
    looks: [Decoder; 2],
    now: u64,
    /// Since when each message waits where it is, and its key: a message's number is its place.
    made: Vec<(u64, Option<u64>)>,
    held: Option<Message>,
    read: Vec<usize>,
}

impl Carried {
    fn new(policy: Policy, bug: Bug) -> Self {
        let stale_after = policy.stale_after.map(|after| after * 1_000);
        let wrong = if bug == Bug::KeepsStale { Policy { stale_after, ..policy } } else { policy };
        Self {
            policy,
            bug,
            ends: [End::new(&wrong), End::new(&wrong)],
            streams: [Vec::new(), Vec::new()],
            looks: [Decoder::new(&policy), Decoder::new(&policy)],
            now: 0,
            made: Vec::new(),
            held: None,
            read: Vec::new(),
        }
    }

    fn step(&mut self, step: Step) -> Result<(), String> {
        let now = at(self.now);
        match step {
            Step::Make(key, length) => self.make(key, length)?,
            Step::Write => {
                for from in [0, 1] {
                    if self.streams[from].len() < ROOM
                        && let Some(bytes) = self.ends[from].poll_bytes(now)
                    {
                        self.streams[from].extend_from_slice(&bytes);
                        if from == 0 {
                            self.look(0, &bytes)?;
                        }
                    }
                }
            }
            Step::Arrive(bytes) => {
                for (from, to) in [(0, 1), (1, 0)] {
                    let stream = &mut self.streams[from];
                    let came: Vec<u8> = stream.drain(..bytes.min(stream.len())).collect();
                    if from == 0 {
                        self.look(1, &came)?;
                    } else if self.bug == Bug::HearsNothing {
                        continue;
                    }
                    let heard = self.ends[to].handle_bytes(now, &came);
                    heard.map_err(|broken| format!("refused: {broken}"))?;
                }
            }
            Step::Read => self.read()?,
            Step::Pass(micros) => {
                self.now += micros;
                self.ends[0].handle_timeout(at(self.now));
            }
        }
        self.check()
    }

    /// What left the queue was fresh; in the stream nothing is dropped.
    fn look(&mut self, which: usize, bytes: &[u8]) -> Result<(), String> {
        self.looks[which].handle_bytes(bytes);
        while let Ok(Some(frame)) = self.looks[which].poll_frame() {
            let Frame::Message { message, .. } = frame else { continue };
            let number = number(&message);
            if which == 0 {
                self.ensure_fresh(number)?;
            }
            self.made[number].0 = self.now;
        }
        Ok(())
    }

    fn ensure_fresh(&self, number: usize) -> Result<(), String> {
        let age = Duration::from_micros(self.now - self.made[number].0);
        let stale = self.policy.stale_after.is_some_and(|after| age >= after);
        if stale { Err(format!("{number} is stale")) } else { Ok(()) }
    }

    fn make(&mut self, key: Option<u64>, length: usize) -> Result<(), String> {
        let message = self.held.take().unwrap_or_else(|| {
            let mut bytes = vec![0; length];
            bytes[..LEAST].copy_from_slice(&(self.made.len() as u64).to_be_bytes());
            self.made.push((self.now, key));
            Message { key: key.map(Key), bytes: bytes.into() }
        });
        match self.ends[0].push(at(self.now), message) {
            Ok(()) => Ok(()),
            Err(NotTaken::Full(message)) if self.policy.delivery == Delivery::Reliable => {
                self.held = Some(message);
                Ok(())
            }
            Err(other) => Err(format!("{other:?}")),
        }
    }

    fn read(&mut self) -> Result<(), String> {
        let now = at(self.now);
        let Some(first) = self.ends[1].poll_message(now) else { return Ok(()) };
        if self.bug == Bug::Swaps
            && let Some(second) = self.ends[1].poll_message(now)
        {
            self.hand_on(&second)?;
        }
        if self.bug == Bug::Loses && self.read.len() == 1 {
            self.bug = Bug::None;
            return Ok(());
        }
        self.hand_on(&first)
    }

    fn hand_on(&mut self, message: &Message) -> Result<(), String> {
        let number = number(message);
        if self.read.last().is_some_and(|last| *last >= number) {
            return Err(format!("{number} comes after {:?}", self.read.last()));
        }
        self.ensure_fresh(number)?;
        self.read.push(number);
        Ok(())
    }

    fn check(&self) -> Result<(), String> {
        let Arrived { came, handed_out, put_aside } = self.ends[1].arrived();
        let waiting = came - handed_out - put_aside;
        if waiting > self.policy.bound.messages as u64 {
            return Err(format!("{waiting} messages wait to be read"));
        }
        let counters = self.ends[0].counters();
        if came > counters.sent || (self.policy.delivery == Delivery::Reliable && put_aside > 0) {
            return Err(format!("{came} came, {put_aside} were put aside, of {counters:?}"));
        }
        Ok(())
    }

    /// Everything arrives that still can.
    fn finish(mut self) -> Result<(), String> {
        for round in 0..MAX_ROUNDS {
            if self.held.is_some() {
                self.step(Step::Make(None, LEAST))?;
            } else if round > MAX_ROUNDS / 2 {
                self.ends[0].finish();
            }
            let pass = self.policy.every.map_or(0, |every| every.as_micros() as u64);
            for step in [Step::Write, Step::Arrive(usize::MAX), Step::Read, Step::Pass(pass)] {
                self.step(step)?;
            }
        }
        if !self.ends[1].is_read() {
            return Err("the end was not read".to_owned());
        }
        if self.policy.delivery == Delivery::Reliable {
            let kept = |number: &usize| {
                let key = self.made[*number].1;
                let mut later = self.made[number + 1..].iter().take_while(|it| it.1.is_some());
                key.is_none() || !later.any(|it| it.1 == key)
            };
            let lost = (0..self.made.len()).filter(kept).find(|it| !self.read.contains(it));
            if let Some(lost) = lost {
                return Err(format!("{lost} was lost"));
            }
        }
        Ok(())
    }
}

fn number(message: &Message) -> usize {
    u64::from_be_bytes(*message.bytes.first_chunk().unwrap()) as usize
}

fn run(policy: Policy, steps: &[Step], bug: Bug) -> Result<(), String> {
    let mut carried = Carried::new(policy, bug);
    for step in steps {
        carried.step(*step)?;
    }
    carried.finish()
}

fn step() -> impl Strategy<Value = Step> {
    let key = prop_oneof![2 => Just(None), 1 => (0_u64..3).prop_map(Some)];
    prop_oneof![
        5 => (key, LEAST..=MAX_MESSAGE).prop_map(|(key, length)| Step::Make(key, length)),
        5 => Just(Step::Write),
        5 => (1_usize..120).prop_map(Step::Arrive),
        3 => Just(Step::Read),
        2 => (0_u64..30_000).prop_map(Step::Pass),
    ]
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    prop::collection::vec(step(), 1..200)
}

proptest! {
    #[test]
    fn everything_reliable_arrives_once_and_in_order(steps in steps()) {
        prop_assert_eq!(run(reliable(), &steps, Bug::None), Ok(()));
    }

    #[test]
    fn a_droppable_sender_is_never_refused_and_nothing_comes_late(steps in steps()) {
        prop_assert_eq!(run(droppable(), &steps, Bug::None), Ok(()));
        prop_assert_eq!(run(paced(), &steps, Bug::None), Ok(()));
    }
}

#[test]
fn the_two_ends_find_planted_bugs() {
    let around = [Step::Write, Step::Arrive(1_000)].repeat(2);
    let mut steps = around.clone();
    for _ in 0..4 {
        steps.extend([Step::Make(None, LEAST); 3]);
        steps.extend(around.iter());
        steps.extend([Step::Read, Step::Read]);
    }
    for (policy, bug) in [
        (reliable(), Bug::Loses),
        (reliable(), Bug::Swaps),
        (reliable(), Bug::HearsNothing),
        (droppable(), Bug::Swaps),
        (droppable(), Bug::KeepsStale),
    ] {
        let mut steps = steps.clone();
        if bug == Bug::KeepsStale {
            steps.extend([Step::Make(None, LEAST), Step::Pass(400_000), Step::Pass(400_000)]);
        }
        assert_eq!(run(policy, &steps, Bug::None), Ok(()));
        assert!(run(policy, &steps, bug).is_err(), "{bug:?} stays unnoticed");
    }
}
