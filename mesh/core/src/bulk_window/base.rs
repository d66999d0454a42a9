//! The base: the shortest round trip, which nobody's queue is part of.

use std::time::Duration;

use rap_proto::Moment;

use super::{Acked, BASE_EVERY};

/// So many acknowledgements of what was sent into the empty queue show the base.
const DRAINED_ACKS: u32 = 4;

#[derive(Debug, Clone)]
pub(super) struct Base {
    trip: Option<Duration>,
    seen_at: Moment,
}

impl Base {
    pub(super) const fn new(now: Moment) -> Self {
        Self { trip: None, seen_at: now }
    }

    pub(super) const fn seen(now: Moment, trip: Duration) -> Self {
        Self { trip: Some(trip), seen_at: now }
    }

    /// Zero before the first.
    pub(super) fn trip(&self) -> Duration {
        self.trip.unwrap_or_default()
    }

    /// One that is longer by no more than `about` shows that the base is still this one.
    pub(super) fn saw(&mut self, now: Moment, trip: Duration, about: Duration) {
        let known = self.trip.unwrap_or(Duration::MAX);
        if trip <= known {
            self.trip = Some(trip);
        }
        if trip <= known.saturating_add(about) {
            self.seen_at = now;
        }
    }

    pub(super) fn is_old(&self, now: Moment) -> bool {
        now.since(self.seen_at) >= BASE_EVERY
    }
}

/// Going down to see the base again.
#[derive(Debug, Clone, Default)]
pub(super) struct Drain {
    /// Since when no more is in flight than the window, which is small meanwhile.
    drained_at: Option<Moment>,
    shortest: Option<Duration>,
    acks: u32,
}

impl Drain {
    /// The base, once it was seen.
    pub(super) fn acked(
        &mut self,
        now: Moment,
        acked: Acked,
        trip: Duration,
        window: u64,
    ) -> Option<Duration> {
        let Some(drained_at) = self.drained_at else {
            if acked.in_flight.saturating_sub(acked.bytes) <= window {
                self.drained_at = Some(now);
            }
            return None;
        };
        if acked.sent_at < drained_at {
            return None;
        }
        let shortest = self.shortest.map_or(trip, |shortest| shortest.min(trip));
        self.shortest = Some(shortest);
        self.acks += 1;
        (self.acks >= DRAINED_ACKS).then_some(shortest)
    }
}
