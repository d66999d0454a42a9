use std::time::Duration;

use rap_proto::Moment;

use super::Rate;

const MICROS: u64 = 1_000_000;

/// One bucket, kept as the moment at which it is full again: what is missing until then was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Bucket {
    full_at: Moment,
}

impl Bucket {
    pub(super) const fn full_at(self) -> Moment {
        self.full_at
    }

    /// The bucket with one token less, or how long until it has one.
    pub(super) fn take(self, rate: Rate, now: Moment) -> Result<Self, Duration> {
        let token = Duration::from_micros((MICROS / u64::from(rate.per_second())).max(1));
        let capacity = token * rate.burst();
        let full_at = self.full_at.max(now) + token;
        match full_at.since(now).checked_sub(capacity) {
            None | Some(Duration::ZERO) => Ok(Self { full_at }),
            Some(wait) => Err(wait),
        }
    }
}
