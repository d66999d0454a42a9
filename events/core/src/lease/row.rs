use rap_proto::Timestamp;
use uuid::Uuid;

use super::{Renewal, RenewalOutcome};

/// A lease as the table holds it. A row is never removed: it remembers the greatest generation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeaseRow {
    /// From 1; a later grant has a greater one.
    pub generation: u64,
    pub holder: Uuid,
    pub ttl_ms: u32,
    /// When it was granted or last renewed.
    pub renewed_at: Timestamp,
    /// Before this time nobody else is granted the lease.
    pub valid_until: Timestamp,
    /// It is renewed no more: its holder gave it up, or it was fenced.
    pub ended: bool,
}

impl LeaseRow {
    pub fn is_held(&self, now: Timestamp) -> bool {
        !self.ended && now < self.valid_until
    }

    pub fn remaining_ms(&self, now: Timestamp) -> u64 {
        u64::try_from(self.valid_until.since(now).as_millis()).unwrap_or(u64::MAX)
    }

    /// What a renewal of this row comes to at `now`.
    pub fn answer(&self, renewal: &Renewal, now: Timestamp) -> RenewalOutcome {
        if renewal.generation > self.generation {
            return RenewalOutcome::Unknown;
        }
        if (renewal.generation, renewal.holder) != (self.generation, self.holder) {
            return RenewalOutcome::Superseded { generation: self.generation };
        }
        if self.ended {
            return RenewalOutcome::Ended;
        }
        if now >= self.valid_until {
            return RenewalOutcome::Expired;
        }
        RenewalOutcome::Renewed { remaining_ms: u64::from(self.ttl_ms) }
    }
}
