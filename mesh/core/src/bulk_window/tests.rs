#![allow(clippy::unwrap_used, clippy::cast_precision_loss)]

mod alone;
mod anything;
mod changes;
mod link;
mod shared;

use super::*;

pub(super) const DATAGRAM: u64 = 1_200;

pub(super) const fn at(micros: u64) -> Moment {
    Moment::from_micros(micros)
}

pub(super) const fn millis(count: u64) -> Duration {
    Duration::from_millis(count)
}

pub(super) const fn secs(count: u64) -> Duration {
    Duration::from_secs(count)
}

/// Bytes per second.
pub(super) const fn mbit(count: u64) -> u64 {
    count * 125_000
}

/// An acknowledgement of one datagram after this time, of a sender that fills its window.
pub(super) fn acked(window: &BulkWindow, now: Moment, trip: Duration) -> Input {
    let sent_at = at(now.micros() - u64::try_from(trip.as_micros()).unwrap());
    let in_flight = window.window();
    Input::Acked(Acked { bytes: DATAGRAM, sent_at, in_flight, app_limited: false })
}
