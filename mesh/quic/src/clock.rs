//! The one place where the mesh reads clocks.

use std::time::{SystemTime, UNIX_EPOCH};

use rap_proto::{Moment, Timestamp};
use tokio::time::Instant;

#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    origin: Instant,
    calendar: fn() -> Timestamp,
}

impl Clock {
    /// By the machine's calendar.
    pub(crate) fn start() -> Self {
        Self::by(calendar)
    }

    pub(crate) fn by(calendar: fn() -> Timestamp) -> Self {
        Self { origin: Instant::now(), calendar }
    }

    pub(crate) fn now(self) -> Timestamp {
        (self.calendar)()
    }

    pub(crate) fn moment(self) -> Moment {
        let micros = self.origin.elapsed().as_micros();
        Moment::from_micros(u64::try_from(micros).unwrap_or(u64::MAX))
    }

    /// Waits until then: for ever where nothing is due.
    pub(crate) async fn until(self, at: Option<Moment>) {
        match at {
            Some(at) => tokio::time::sleep(at.since(self.moment())).await,
            None => std::future::pending().await,
        }
    }
}

pub(crate) fn calendar() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_unix_millis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}
