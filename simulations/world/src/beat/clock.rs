//! Calendars: right within a little, until somebody sets them.

use std::time::Duration;

use rap_proto::{Moment, Timestamp};

use crate::kit::{Chance, clock::START};

/// How wrong a calendar is that nobody set wrong, at most.
pub const ERROR: Duration = Duration::from_millis(500);

/// A calendar that is wrong by a constant, and sometimes jumps.
#[derive(Debug, Clone)]
pub struct Calendar {
    error_ms: i64,
}

impl Calendar {
    pub fn draw(chance: &mut Chance) -> Self {
        let bound = i64::try_from(ERROR.as_millis()).unwrap_or(0);
        let error = chance.below(ERROR.as_millis() as u64 * 2 + 1);
        Self { error_ms: i64::try_from(error).unwrap_or(0) - bound }
    }

    /// Forward, or back when `by_ms` is negative.
    pub fn jump(&mut self, by_ms: i64) {
        self.error_ms += by_ms;
    }

    /// Somebody sets it right.
    pub fn repair(&mut self) {
        self.error_ms = 0;
    }

    /// What it shows at this moment of true time.
    pub fn show(&self, now: Moment) -> Timestamp {
        let since = i64::try_from(now.micros() / 1_000).unwrap_or(0);
        Timestamp::from_unix_millis(START.unix_millis() + since + self.error_ms)
    }
}

/// The moment of true time at which a calendar without error shows this.
pub fn moment(at: Timestamp) -> Moment {
    let millis = u64::try_from(at.unix_millis() - START.unix_millis()).unwrap_or(0);
    Moment::from_micros(millis * 1_000)
}
