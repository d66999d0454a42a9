//! Virtual time: what happens next.

use std::{cmp::Reverse, collections::BinaryHeap, time::Duration};

use rap_proto::Moment;

/// The most events that wait at once: a world that schedules more runs in circles.
pub const MAX_SCHEDULED: usize = 100_000;
/// In how many bits of an entry the place of its event stands.
const PLACE_BITS: u32 = 24;
/// In how many the number of its scheduling stands, above them.
const SEQUENCE_BITS: u32 = 40;
const _: () = assert!(MAX_SCHEDULED <= 1 << PLACE_BITS);

/// A queue of events by time; events of one moment come in the order of their scheduling.
#[derive(Debug)]
pub struct Scheduler<E> {
    now: Moment,
    sequence: u64,
    queue: BinaryHeap<Reverse<Entry>>,
    /// The events lie still, since they are large and the queue moves what it holds.
    events: Vec<Option<E>>,
    free: Vec<usize>,
}

/// What is next: its time, its number, which no other has, and its place, as one number. Nobody foretells
/// how comparisons end, and the queue makes several for each event: so there is one, without a branch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Entry(u128);

impl Entry {
    fn new(at: Moment, sequence: u64, place: usize) -> Self {
        let (at, sequence) = (u128::from(at.micros()), u128::from(sequence));
        Self((at << SEQUENCE_BITS | sequence) << PLACE_BITS | place as u128)
    }

    fn at(self) -> Moment {
        Moment::from_micros((self.0 >> (SEQUENCE_BITS + PLACE_BITS)) as u64)
    }

    fn place(self) -> usize {
        (self.0 & ((1 << PLACE_BITS) - 1)) as usize
    }
}

impl<E> Default for Scheduler<E> {
    fn default() -> Self {
        Self {
            now: Moment::default(),
            sequence: 0,
            queue: BinaryHeap::new(),
            events: Vec::new(),
            free: Vec::new(),
        }
    }
}

impl<E> Scheduler<E> {
    pub fn now(&self) -> Moment {
        self.now
    }

    /// # Panics
    /// When more than [`MAX_SCHEDULED`] events wait.
    pub fn after(&mut self, delay: Duration, event: E) {
        self.at(self.now + delay, event);
    }

    /// A moment that is past means at once.
    pub fn at(&mut self, at: Moment, event: E) {
        assert!(self.queue.len() < MAX_SCHEDULED, "{MAX_SCHEDULED} events wait");
        self.sequence += 1;
        assert!(self.sequence < 1 << SEQUENCE_BITS, "no world schedules so many events");
        let place = self.free.pop().unwrap_or_else(|| {
            self.events.push(None);
            self.events.len() - 1
        });
        self.events[place] = Some(event);
        let at = at.max(self.now);
        self.queue.push(Reverse(Entry::new(at, self.sequence, place)));
    }

    /// The next event up to and including `end`; time moves to it, or to `end` without one.
    pub fn next(&mut self, end: Moment) -> Option<E> {
        if self.queue.peek().is_none_or(|Reverse(entry)| entry.at() > end) {
            self.now = self.now.max(end);
            return None;
        }
        let Reverse(entry) = self.queue.pop()?;
        let place = entry.place();
        self.now = entry.at();
        self.free.push(place);
        self.events[place].take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_by_time_and_then_by_order() {
        let mut scheduler = Scheduler::default();
        let at = Moment::from_micros;
        scheduler.at(at(20), 'c');
        scheduler.at(at(10), 'a');
        scheduler.at(at(10), 'b');
        let mut seen = Vec::new();
        while let Some(event) = scheduler.next(at(15)) {
            seen.push((scheduler.now(), event));
        }
        assert_eq!(seen, [(at(10), 'a'), (at(10), 'b')]);
        assert_eq!(scheduler.now(), at(15));
        scheduler.at(at(1), 'd');
        assert_eq!(scheduler.next(at(30)), Some('d'), "the past is now");
        assert_eq!(scheduler.now(), at(15));
        assert_eq!(scheduler.next(at(30)), Some('c'));
    }

    #[test]
    #[should_panic(expected = "events wait")]
    fn a_world_that_schedules_without_end_is_stopped() {
        let mut scheduler = Scheduler::default();
        (0..=MAX_SCHEDULED).for_each(|event| scheduler.after(Duration::ZERO, event));
    }
}
