//! The clocks that an agent reads.

use std::time::{SystemTime, UNIX_EPOCH};

use rap_proto::{Moment, Timestamp};
use rustix::time::{ClockId, clock_gettime};

/// Where the time comes from.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    /// What timers and leases count by; it counts on while the host sleeps.
    pub moment: fn() -> Moment,
    /// The calendar.
    pub now: fn() -> Timestamp,
}

impl Clock {
    /// This machine's. Timers run on CLOCK_BOOTTIME.
    pub const MACHINE: Self = Self { moment: boottime, now: calendar };

    pub(crate) fn moment(self) -> Moment {
        (self.moment)()
    }

    pub(crate) fn now(self) -> Timestamp {
        (self.now)()
    }
}

fn boottime() -> Moment {
    let time = clock_gettime(ClockId::Boottime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let micros = u64::try_from(time.tv_nsec).unwrap_or(0) / 1_000;
    Moment::from_micros(seconds * 1_000_000 + micros)
}

fn calendar() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_unix_millis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}
