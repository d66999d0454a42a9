//! One round: the time from a decision until what it led to was seen.
//!
//! First it waits for the acknowledgement of something that was sent after the decision, which takes
//! one round trip. From then on it measures, for another round trip and at least [`LEAST_MEASURED`].

use std::time::Duration;

use rap_proto::Moment;

use super::{Acked, LOSS_TOLERATED, measure};

/// What is measured for a shorter time says when a process was scheduled.
pub(super) const LEAST_MEASURED: Duration = Duration::from_millis(4);

#[derive(Debug, Clone)]
pub(super) struct Round {
    decided_at: Moment,
    measured_from: Option<Moment>,
    /// The newest that was acknowledged was sent then.
    newest: Moment,
    bytes: u64,
    app_limited_bytes: u64,
    shortest: Duration,
    in_flight: u64,
    lost: u64,
    is_marked: bool,
}

/// What a round came to.
#[derive(Debug)]
pub(super) struct Measured {
    /// Bytes per second that were acknowledged.
    pub(super) rate: u64,
    /// The shortest round trip: whatever all had to wait for is queue.
    pub(super) trip: Duration,
    /// The most that was in flight.
    pub(super) in_flight: u64,
    pub(super) is_app_limited: bool,
    /// Too much was lost, or a router complained.
    pub(super) is_pushed_back: bool,
}

impl Round {
    pub(super) const fn new(now: Moment) -> Self {
        Self {
            decided_at: now,
            measured_from: None,
            newest: now,
            bytes: 0,
            app_limited_bytes: 0,
            shortest: Duration::MAX,
            in_flight: 0,
            lost: 0,
            is_marked: false,
        }
    }

    pub(super) fn acked(&mut self, now: Moment, acked: Acked, trip: Duration) {
        self.newest = self.newest.max(acked.sent_at);
        self.in_flight = self.in_flight.max(acked.in_flight);
        if self.measured_from.is_some() {
            self.bytes += acked.bytes;
            self.app_limited_bytes += if acked.app_limited { acked.bytes } else { 0 };
            self.shortest = self.shortest.min(trip);
        } else if acked.sent_at >= self.decided_at {
            // These bytes came before the time that counts.
            self.measured_from = Some(now);
            self.shortest = trip;
        }
    }

    /// What was sent before the decision was answered by it, so nothing counts before the time.
    pub(super) fn lost(&mut self, bytes: u64) {
        if self.measured_from.is_some() {
            self.lost = self.lost.saturating_add(bytes);
        }
    }

    pub(super) const fn marked(&mut self) {
        self.is_marked = self.measured_from.is_some();
    }

    /// Ends the round when it is time, and begins the next.
    pub(super) fn end(&mut self, now: Moment) -> Option<Measured> {
        let from = self.measured_from?;
        let time = now.since(from);
        if self.newest < from || time < LEAST_MEASURED {
            return None;
        }
        let sent = self.bytes.saturating_add(self.lost);
        let measured = Measured {
            rate: measure::rate(self.bytes, time),
            trip: self.shortest,
            in_flight: self.in_flight,
            is_app_limited: self.app_limited_bytes > self.bytes / 2,
            is_pushed_back: self.is_marked || self.lost > sent / LOSS_TOLERATED,
        };
        *self = Self::new(now);
        Some(measured)
    }
}
