//! A sender, a reader that takes its time, and words of credit that come late and twice.

use std::collections::VecDeque;

use proptest::prelude::*;

use super::{
    world::{LEAST, MAX_MESSAGE, reliable},
    *,
};

/// The most rounds until everything has arrived.
const MAX_ROUNDS: usize = 1_000;

#[derive(Debug, Clone, Copy)]
enum Step {
    /// The sender's program makes a message of so many bytes.
    Make(usize),
    Send,
    /// The next message arrives.
    Arrive,
    Take,
    /// The reader says what it grants.
    Say,
    /// The next word arrives, once or twice.
    Hear(bool),
}

/// A mistake that the checks have to find.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Bug {
    None,
    /// The sender is told of more than the reader has.
    HearsMore,
    /// The reader says nothing but its first word.
    SaysNothingMore,
}

struct Ends {
    bug: Bug,
    queue: Queue,
    window: Window,
    made: usize,
    /// What found no room: it is brought again.
    held: Option<Message>,
    wire: VecDeque<Message>,
    words: VecDeque<Amount>,
    inbox: VecDeque<Message>,
    read: Vec<usize>,
    said: usize,
}

impl Ends {
    fn new(bug: Bug) -> Self {
        Self {
            bug,
            queue: Queue::new(&reliable()),
            window: Window::new(&reliable()),
            made: 0,
            held: None,
            wire: VecDeque::new(),
            words: VecDeque::new(),
            inbox: VecDeque::new(),
            read: Vec::new(),
            said: 0,
        }
    }

    fn step(&mut self, step: Step) -> Result<(), String> {
        match step {
            Step::Make(length) => self.make(length),
            Step::Send => self.wire.extend(self.queue.poll(at(0))),
            Step::Arrive => {
                if let Some(message) = self.wire.pop_front() {
                    let outcome = self.window.handle_message(message.bytes.len());
                    outcome.map_err(|TooMuch| "more than was granted came".to_owned())?;
                    self.inbox.push_back(message);
                }
            }
            Step::Take => {
                if let Some(message) = self.inbox.pop_front() {
                    let bytes = self.inbox.iter().map(|message| message.bytes.len()).sum();
                    self.window.leave(Bound { messages: self.inbox.len(), bytes });
                    let number = u64::from_be_bytes(*message.bytes.first_chunk().unwrap());
                    self.read.push(number as usize);
                }
            }
            Step::Say => self.say(),
            Step::Hear(twice) => self.hear(twice),
        }
        let bytes: usize = self.inbox.iter().map(|message| message.bytes.len()).sum();
        let Bound { messages, bytes: most } = reliable().bound;
        if self.inbox.len() > messages || bytes > most {
            return Err(format!("{} messages, {bytes} bytes wait to be read", self.inbox.len()));
        }
        Ok(())
    }

    fn make(&mut self, length: usize) {
        let message = self.held.take().unwrap_or_else(|| {
            let mut bytes = vec![0; length];
            bytes[..LEAST].copy_from_slice(&(self.made as u64).to_be_bytes());
            self.made += 1;
            Message { key: None, bytes: bytes.into() }
        });
        if let Err(Refused::Full(message)) = self.queue.push(at(0), message) {
            self.held = Some(message);
        }
    }

    fn say(&mut self) {
        if self.bug == Bug::SaysNothingMore && self.said > 0 {
            return;
        }
        if let Some(word) = self.window.poll_grant() {
            self.said += 1;
            self.words.push_back(word);
        }
    }

    fn hear(&mut self, twice: bool) {
        let word = if twice { self.words.front().copied() } else { self.words.pop_front() };
        if let Some(Amount { messages, bytes }) = word {
            let more = u64::from(self.bug == Bug::HearsMore);
            self.queue.grant(Amount { messages: messages + more, bytes: bytes + more });
        }
    }
}

fn run(steps: &[Step], bug: Bug) -> Result<(), String> {
    let mut ends = Ends::new(bug);
    for step in steps {
        ends.step(*step)?;
    }
    for _ in 0..MAX_ROUNDS {
        if ends.held.is_some() {
            ends.step(Step::Make(LEAST))?;
        }
        for step in [Step::Say, Step::Hear(false), Step::Send, Step::Arrive, Step::Take] {
            ends.step(step)?;
        }
    }
    let expected: Vec<usize> = (0..ends.made).collect();
    if ends.read == expected {
        Ok(())
    } else {
        Err(format!("{:?} of {} were read", ends.read, ends.made))
    }
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (LEAST..=MAX_MESSAGE).prop_map(Step::Make),
        4 => Just(Step::Send),
        4 => Just(Step::Arrive),
        3 => Just(Step::Take),
        2 => Just(Step::Say),
        2 => any::<bool>().prop_map(Step::Hear),
    ]
}

proptest! {
    #[test]
    fn a_reader_never_has_more_than_its_bound_and_everything_arrives_in_order(
        steps in prop::collection::vec(step(), 1..200)
    ) {
        prop_assert_eq!(run(&steps, Bug::None), Ok(()));
    }
}

#[test]
fn the_two_ends_find_planted_bugs() {
    let mut steps = vec![Step::Say, Step::Hear(false)];
    steps.extend([Step::Make(LEAST), Step::Send, Step::Arrive].repeat(8));
    steps.extend([Step::Make(MAX_MESSAGE); 4]);
    assert_eq!(run(&steps, Bug::None), Ok(()));
    for bug in [Bug::HearsMore, Bug::SaysNothingMore] {
        assert!(run(&steps, bug).is_err(), "{bug:?} stays unnoticed");
    }
}
