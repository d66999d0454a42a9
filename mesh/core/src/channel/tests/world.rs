//! One queue that anything happens to, with everything that it promises checked at each step.

use super::*;

/// The least message: it holds its number.
pub(super) const LEAST: usize = 8;
pub(super) const BOUND: Bound = Bound { messages: 6, bytes: 200 };
pub(super) const MAX_MESSAGE: usize = 100;
/// The most times that the end of a world is waited for.
const MAX_ROUNDS: usize = 100;

/// A mistake that the checks have to find.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Bug {
    None,
    /// Twice as much waits as may.
    HoldsMore,
    /// What is stale is handed out for as long again.
    HandsOutStale,
    /// A message without a key can be replaced, and passed.
    PassesTheWall,
    /// Of two with one key the older one stays.
    KeepsTheOldest,
    NeverCoalesces,
    /// Two are handed out the wrong way round.
    Swaps,
    /// One is handed out to nobody.
    Loses,
    /// One message more than the reader grants is sent.
    SendsMore,
    /// There is no rest between two messages.
    Hurries,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Step {
    Push(Option<u64>, usize),
    Poll,
    /// The reader lets so much more be sent.
    Grant(u64, u64),
    Pass(u64),
    Timeout,
}

#[derive(Debug, Clone, Copy)]
struct Taken {
    key: Option<u64>,
    at: u64,
}

pub(super) struct World {
    policy: Policy,
    bug: Bug,
    queue: Queue,
    now: u64,
    /// What was taken in: a message's number is its place.
    taken: Vec<Taken>,
    handed: Vec<usize>,
    last: Option<u64>,
    granted: Amount,
    used: Amount,
}

/// Like `input`, and small.
pub(super) fn reliable() -> Policy {
    let kind = of(ChannelKind::Input);
    Policy { bound: BOUND, ahead: BOUND, max_message: MAX_MESSAGE, ..kind }
}

/// Like `render`, and small; stale after 50 ms.
pub(super) fn droppable() -> Policy {
    let stale_after = Some(Duration::from_millis(50));
    let (ahead, kind) = (Bound { messages: 4, bytes: 100 }, of(ChannelKind::Render));
    Policy { bound: BOUND, ahead, max_message: MAX_MESSAGE, stale_after, ..kind }
}

/// The same, with a message each 20 ms.
pub(super) fn paced() -> Policy {
    Policy { every: Some(Duration::from_millis(20)), ..droppable() }
}

/// Lets it all happen, and then everything out that still waits.
pub(super) fn run(policy: Policy, steps: &[Step], bug: Bug) -> Result<(), String> {
    let mut world = World::new(policy, bug);
    for step in steps {
        world.step(*step)?;
        world.check()?;
    }
    world.finish()
}

fn ensure(holds: bool, what: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(what()) }
}

impl World {
    fn new(policy: Policy, bug: Bug) -> Self {
        let Policy { bound, stale_after, coalesces, every, .. } = policy;
        let twice = Bound { messages: 2 * bound.messages, bytes: 2 * bound.bytes };
        let wrong = Policy {
            bound: if bug == Bug::HoldsMore { twice } else { bound },
            stale_after: stale_after.map(|it| if bug == Bug::HandsOutStale { it * 2 } else { it }),
            coalesces: coalesces && bug != Bug::NeverCoalesces,
            every: every.filter(|_| bug != Bug::Hurries),
            ..policy
        };
        Self {
            policy,
            bug,
            queue: Queue::new(&wrong),
            now: 0,
            taken: Vec::new(),
            handed: Vec::new(),
            last: None,
            granted: Amount::default(),
            used: Amount::default(),
        }
    }

    fn is_reliable(&self) -> bool {
        self.policy.delivery == Delivery::Reliable
    }

    fn step(&mut self, step: Step) -> Result<(), String> {
        match step {
            Step::Push(key, length) => return self.push(key, length),
            Step::Poll => return self.poll().map(drop),
            Step::Grant(messages, bytes) => self.grant(messages, bytes),
            Step::Pass(micros) => self.now += micros,
            Step::Timeout => {
                self.queue.handle_timeout(at(self.now));
                let next = self.queue.poll_timeout();
                return ensure(next.is_none_or(|next| next > at(self.now)), || {
                    format!("asks for {next:?} at {}", self.now)
                });
            }
        }
        Ok(())
    }

    fn push(&mut self, key: Option<u64>, length: usize) -> Result<(), String> {
        let message = self.made(key, length);
        let free = self.queue.len() < self.policy.bound.messages
            && self.queue.bytes() + length <= self.policy.bound.bytes;
        let before = self.queue.counters().dropped_full;
        match self.queue.push(at(self.now), message.clone()) {
            Ok(()) => {
                self.taken.push(Taken { key, at: self.now });
                let dropped = self.queue.counters().dropped_full > before;
                ensure(!(free && dropped), || "dropped, though there was room".to_owned())
            }
            Err(Refused::Full(back)) => {
                ensure(self.is_reliable() && !free && back == message, || {
                    format!("refused {length} bytes")
                })
            }
            Err(Refused::TooLarge) => Err(format!("{length} bytes are not too large")),
        }
    }

    fn made(&self, key: Option<u64>, length: usize) -> Message {
        let mut number = self.taken.len();
        if self.bug == Bug::KeepsTheOldest && key.is_some() {
            number = self.taken.iter().rposition(|taken| taken.key == key).unwrap_or(number);
        }
        let key = if self.bug == Bug::PassesTheWall { key.or(Some(u64::MAX)) } else { key };
        let mut bytes = vec![0; length];
        bytes[..LEAST].copy_from_slice(&(number as u64).to_be_bytes());
        Message { key: key.map(Key), bytes: bytes.into() }
    }

    fn grant(&mut self, messages: u64, bytes: u64) {
        let Amount { messages: before, bytes: bytes_before } = self.granted;
        self.granted = Amount { messages: before + messages, bytes: bytes_before + bytes };
        let more = u64::from(self.bug == Bug::SendsMore);
        let Amount { messages, bytes } = self.granted;
        self.queue.grant(Amount { messages: messages + more, bytes: bytes + 100 * more });
    }

    /// Whether something was handed out.
    fn poll(&mut self) -> Result<bool, String> {
        let now = at(self.now);
        let Some(first) = self.queue.poll(now) else { return Ok(false) };
        match self.bug {
            Bug::Loses if first.key.is_none() => return Ok(true),
            Bug::Swaps => {
                if let Some(second) = self.queue.poll(now) {
                    self.hand_out(&second)?;
                }
            }
            _ => {}
        }
        self.hand_out(&first)?;
        Ok(true)
    }

    fn hand_out(&mut self, message: &Message) -> Result<(), String> {
        let number = u64::from_be_bytes(*message.bytes.first_chunk().unwrap()) as usize;
        let Taken { key, at } = self.taken[number];
        let next = self.handed.last().map_or(0, |last| last + 1);
        ensure(number >= next, || format!("{number} comes after {}", next - 1))?;
        if let Some(after) = self.policy.stale_after {
            let age = Duration::from_micros(self.now - at);
            ensure(age < after, || format!("{number} is stale"))?;
        }
        ensure(!self.is_replaced(number), || format!("there is a newer one than {number}"))?;
        if let Some((every, last)) = self.policy.every.zip(self.last) {
            let rest = Duration::from_micros(self.now - last);
            ensure(rest >= every, || format!("{number} follows too soon"))?;
        }
        if self.is_reliable() {
            self.ensure_nothing_lost(next..number)?;
            self.used.messages += 1;
            self.used.bytes += message.bytes.len() as u64;
            let Amount { messages, bytes } = self.granted;
            let covered = self.used.messages <= messages && self.used.bytes <= bytes;
            ensure(covered, || format!("there was no credit for {number}"))?;
        }
        ensure(message.key.is_some() || key.is_none(), || format!("{number} lost its key"))?;
        self.handed.push(number);
        self.last = Some(self.now);
        Ok(())
    }

    /// Whether a newer one of the same key was taken in, and none without a key before that.
    fn is_replaced(&self, number: usize) -> bool {
        let key = self.taken[number].key;
        let mut later = self.taken[number + 1..].iter().take_while(|later| later.key.is_some());
        key.is_some() && self.policy.coalesces && later.any(|later| later.key == key)
    }

    fn ensure_nothing_lost(&self, mut between: std::ops::Range<usize>) -> Result<(), String> {
        let lost = between.find(|number| !self.is_replaced(*number));
        ensure(lost.is_none(), || format!("{lost:?} was lost"))
    }

    fn check(&self) -> Result<(), String> {
        let (queue, bound) = (&self.queue, self.policy.bound);
        let holds = queue.len() <= bound.messages && queue.bytes() <= bound.bytes;
        ensure(holds, || format!("{} messages, {} bytes wait", queue.len(), queue.bytes()))?;
        let counters = queue.counters();
        let Counters { taken_in, sent, dropped_full, dropped_stale, coalesced } = counters;
        let became = sent + dropped_full + dropped_stale + coalesced + queue.len() as u64;
        let adds_up = (taken_in, taken_in, sent)
            == (self.taken.len() as u64, became, self.handed.len() as u64);
        ensure(adds_up, || format!("{counters:?} with {} waiting", queue.len()))?;
        let drops = dropped_full + dropped_stale > 0;
        ensure(!(self.is_reliable() && drops), || "something reliable was dropped".to_owned())
    }

    /// The reader grants everything, and everything is sent.
    fn finish(mut self) -> Result<(), String> {
        self.grant(1_000_000, 1_000_000);
        for _ in 0..MAX_ROUNDS {
            while self.poll()? {
                self.check()?;
            }
            self.now += self.policy.every.map_or(0, |every| every.as_micros() as u64);
        }
        self.check()?;
        ensure(self.queue.is_empty(), || format!("{} are never sent", self.queue.len()))?;
        ensure(self.queue.poll_timeout().is_none(), || "an empty queue waits".to_owned())?;
        if self.is_reliable() {
            let next = self.handed.last().map_or(0, |last| last + 1);
            self.ensure_nothing_lost(next..self.taken.len())?;
        }
        Ok(())
    }
}
