//! Virtual time: what happens next.

use std::{
    cmp::{Ordering, Reverse},
    collections::BinaryHeap,
    time::Duration,
};

use rap_proto::Moment;

/// The most events that wait at once: a world that schedules more runs in circles.
pub const MAX_SCHEDULED: usize = 100_000;

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

/// What is next: ordered by its time, then by its number, which no other has.
#[derive(Debug, Clone, Copy)]
struct Entry {
    at: Moment,
    sequence: u64,
    place: usize,
}

impl Entry {
    /// One number, and so one comparison without a branch: nobody foretells how these end, and the
    /// queue makes several for each event.
    fn key(&self) -> u128 {
        u128::from(self.at.micros()) << 64 | u128::from(self.sequence)
    }
}

impl Ord for Entry {
    fn cmp(&self, other: &Self) -> Ordering {
        self.key().cmp(&other.key())
    }
}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl Eq for Entry {}

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
        let place = self.free.pop().unwrap_or_else(|| {
            self.events.push(None);
            self.events.len() - 1
        });
        self.events[place] = Some(event);
        let at = at.max(self.now);
        self.queue.push(Reverse(Entry { at, sequence: self.sequence, place }));
    }

    /// The next event up to and including `end`; time moves to it, or to `end` without one.
    pub fn next(&mut self, end: Moment) -> Option<E> {
        if self.queue.peek().is_none_or(|Reverse(entry)| entry.at > end) {
            self.now = self.now.max(end);
            return None;
        }
        let Reverse(entry) = self.queue.pop()?;
        self.now = entry.at;
        self.free.push(entry.place);
        self.events[entry.place].take()
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
