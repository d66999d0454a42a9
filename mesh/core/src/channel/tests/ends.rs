//! Two ends of a channel, and what may happen between them.

use std::collections::{BTreeMap, VecDeque};

use proptest::prelude::*;

use super::{
    world::{LEAST, MAX_MESSAGE, droppable, reliable},
    *,
};

/// A message that says its number.
fn numbered(number: usize, key: Option<u64>, length: usize) -> Message {
    let mut bytes = vec![0; length];
    bytes[..LEAST].copy_from_slice(&(number as u64).to_be_bytes());
    Message { key: key.map(Key), bytes: bytes.into() }
}

fn number(bytes: &[u8]) -> usize {
    u64::from_be_bytes(*bytes.first_chunk().unwrap()) as usize
}

fn written(out: Out) -> Vec<u8> {
    match out {
        Out::Credit(bytes) => bytes.to_vec(),
        Out::Message(head, bytes) => [&head[..], &bytes[..]].concat(),
    }
}

#[derive(Debug, Clone, Copy)]
enum Step {
    /// One end's program sends a message of so many bytes.
    Push(usize, usize),
    /// One end writes what it has to, at most so many items.
    Write(usize, usize),
    /// So many bytes of one end arrive at the other.
    Arrive(usize, usize),
    Read(usize),
}

struct Pair {
    ends: [ReliableEnd; 2],
    /// Bytes on their way from each end.
    wires: [VecDeque<u8>; 2],
    pushed: [usize; 2],
    read: [usize; 2],
}

impl Pair {
    fn new() -> Self {
        Self {
            ends: [ReliableEnd::new(&reliable()), ReliableEnd::new(&reliable())],
            wires: Default::default(),
            pushed: [0; 2],
            read: [0; 2],
        }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Push(end, length) => {
                let message = numbered(self.pushed[end], None, length);
                if self.ends[end].push(at(0), message).is_ok() {
                    self.pushed[end] += 1;
                }
            }
            Step::Write(end, items) => {
                for _ in 0..items {
                    let Some(out) = self.ends[end].poll_out(at(0)) else { return };
                    self.wires[end].extend(written(out));
                }
            }
            Step::Arrive(from, bytes) => {
                let wire = &mut self.wires[from];
                let bytes: Vec<u8> = wire.drain(..bytes.min(wire.len())).collect();
                assert_eq!(self.ends[1 - from].handle_bytes(&bytes), Ok(()));
            }
            Step::Read(end) => {
                if let Some(message) = self.ends[end].take() {
                    assert_eq!(number(&message), self.read[end], "in order, and none is missing");
                    self.read[end] += 1;
                }
            }
        }
    }
}

fn step() -> impl Strategy<Value = Step> {
    let end = || 0_usize..2;
    prop_oneof![
        (end(), LEAST..=MAX_MESSAGE).prop_map(|(end, length)| Step::Push(end, length)),
        (end(), 1_usize..4).prop_map(|(end, items)| Step::Write(end, items)),
        (end(), 1_usize..150).prop_map(|(end, bytes)| Step::Arrive(end, bytes)),
        end().prop_map(Step::Read),
    ]
}

/// What happens to droppable messages between two ends.
#[derive(Debug, Clone, Copy)]
enum Way {
    /// A message of this key is made, and the time goes on by so many microseconds.
    Made(Option<u64>, u64),
    Sent,
    /// The one at this place arrives next, whichever that is.
    Arrives(usize),
    Lost(usize),
}

fn way() -> impl Strategy<Value = Way> {
    let key = prop_oneof![1 => Just(None), 3 => (0_u64..3).prop_map(Some)];
    prop_oneof![
        4 => (key, 0_u64..20_000).prop_map(|(key, micros)| Way::Made(key, micros)),
        4 => Just(Way::Sent),
        4 => (0_usize..10).prop_map(Way::Arrives),
        1 => (0_usize..10).prop_map(Way::Lost),
    ]
}

proptest! {
    #[test]
    fn both_directions_arrive_as_a_whole_and_in_order(
        steps in prop::collection::vec(step(), 1..300)
    ) {
        let mut pair = Pair::new();
        steps.into_iter().for_each(|step| pair.step(step));
        // Each round has room for a message and its credit in both directions.
        for _ in 0..300 {
            for end in [0, 1] {
                pair.step(Step::Write(end, 2));
                pair.step(Step::Arrive(end, 4 * MAX_MESSAGE));
                pair.step(Step::Read(1 - end));
            }
        }
        prop_assert_eq!(pair.read, [pair.pushed[1], pair.pushed[0]]);
        prop_assert!(pair.ends.iter().all(|end| end.unsent() == 0 && !end.is_within_an_item()));
    }

    #[test]
    fn no_older_picture_of_a_key_follows_a_newer_one_whatever_is_lost_or_comes_late(
        ways in prop::collection::vec(way(), 1..200)
    ) {
        let (mut from, mut to) = (DroppableEnd::new(&droppable()), DroppableEnd::new(&droppable()));
        let (mut now, mut made) = (0, 0);
        let mut flying: Vec<Lone> = Vec::new();
        let mut newest: BTreeMap<Option<Key>, usize> = BTreeMap::new();
        let (mut handed, mut lost) = (0, 0);
        for way in ways {
            match way {
                Way::Made(key, micros) => {
                    prop_assert_eq!(from.push(at(now), numbered(made, key, LEAST)), Ok(()));
                    made += 1;
                    now += micros;
                }
                Way::Sent => flying.extend(from.poll_out(at(now))),
                Way::Arrives(place) if !flying.is_empty() => {
                    let Lone { head, bytes, stale_at } = flying.remove(place % flying.len());
                    prop_assert!(stale_at.is_some_and(|at| at.micros() <= now + 50_000));
                    if let Some(Message { key, bytes }) = to.handle_message(head, bytes) {
                        let number = number(&bytes);
                        let older = newest.insert(key, number);
                        prop_assert!(older.is_none_or(|older| older < number));
                        handed += 1;
                    }
                }
                Way::Lost(place) if !flying.is_empty() => {
                    flying.remove(place % flying.len());
                    lost += 1;
                }
                Way::Arrives(_) | Way::Lost(_) => {}
            }
        }
        let sent = from.counters().sent;
        prop_assert_eq!(sent, handed + lost + to.late() + flying.len() as u64);
    }
}

#[test]
fn a_peer_that_sends_without_credit_or_nonsense_ends_the_channel() {
    let policy = reliable();
    let item = [&message_item(4)[..], b"mine"].concat();
    let mut end = ReliableEnd::new(&policy);
    assert_eq!(end.handle_bytes(&item), Err(Broken::TooMuch), "nothing was granted yet");

    let mut end = ReliableEnd::new(&policy);
    assert!(matches!(end.poll_out(at(0)), Some(Out::Credit(_))), "the first word is credit");
    for _ in 0..policy.bound.messages {
        assert_eq!(end.handle_bytes(&item), Ok(()));
    }
    assert_eq!(end.handle_bytes(&item), Err(Broken::TooMuch));

    let mut end = ReliableEnd::new(&policy);
    assert_eq!(end.handle_bytes(&[9, 0, 0, 0]), Err(Broken::Malformed));
}

#[test]
fn an_end_within_an_item_is_told_from_one_after_it() {
    let mut end = ReliableEnd::new(&reliable());
    end.poll_out(at(0)).unwrap();
    let item = [&message_item(4)[..], b"mine"].concat();
    end.handle_bytes(&item[..7]).unwrap();
    assert!(end.is_within_an_item() && end.take().is_none());
    end.handle_bytes(&item[7..]).unwrap();
    assert!(!end.is_within_an_item());
    assert_eq!(end.take(), Some(Bytes::from_static(b"mine")));
}

#[test]
fn a_reader_that_takes_nothing_stops_its_own_channel_and_fills_no_memory() {
    let policy = reliable();
    let (mut from, mut to) = (ReliableEnd::new(&policy), ReliableEnd::new(&policy));
    let credit = written(to.poll_out(at(0)).unwrap());
    from.handle_bytes(&credit).unwrap();
    from.poll_out(at(0)).unwrap();
    let mut pushed = 0;
    while from.push(at(0), numbered(pushed, None, LEAST)).is_ok() {
        pushed += 1;
        while let Some(out) = from.poll_out(at(0)) {
            to.handle_bytes(&written(out)).unwrap();
        }
    }
    // One bound waits at the reader, and one at the sender.
    assert_eq!(pushed, 2 * policy.bound.messages);
    assert_eq!(from.counters().sent, policy.bound.messages as u64);
}

#[test]
#[should_panic(expected = "this end loses nothing")]
fn a_droppable_kind_has_no_reliable_end() {
    ReliableEnd::new(&droppable());
}

#[test]
#[should_panic(expected = "this end drops")]
fn a_reliable_kind_has_no_droppable_end() {
    DroppableEnd::new(&reliable());
}
