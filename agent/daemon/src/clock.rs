//! This machine's clocks. Timers run on CLOCK_BOOTTIME, which counts on while the host sleeps.

use std::time::{SystemTime, UNIX_EPOCH};

use rap_proto::{Moment, Timestamp};
use rustix::time::{ClockId, clock_gettime};

#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Clock;

impl Clock {
    pub(crate) fn moment(self) -> Moment {
        let time = clock_gettime(ClockId::Boottime);
        let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
        let micros = u64::try_from(time.tv_nsec).unwrap_or(0) / 1_000;
        Moment::from_micros(seconds * 1_000_000 + micros)
    }

    pub(crate) fn now(self) -> Timestamp {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp::from_unix_millis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
    }
}
