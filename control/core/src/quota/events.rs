use std::{collections::BTreeMap, time::Duration};

use rap_proto::{Moment, OrganizationId};

use super::{Quota, QuotaReached};

/// How many seconds' worth of events an organization may add at once after a rest.
pub const BURST_SECONDS: u32 = 4;
/// The most organizations whose events are counted at once.
pub const MAX_EVENT_BUCKETS: usize = 65_536;
const MICROS: u64 = 1_000_000;

/// Events by which somebody loses something: never held back.
const UNCOUNTED: &[&str] = &[
    "api_token.revoked",
    "join_token.revoked",
    "login.closed",
    "membership.revoked",
    "node.draining_started",
    "node.rejected",
    "node.revoked",
    "policy.removed",
    "resource.removed",
    "session.terminated",
    "vpn_connection.disabled",
];

/// Whether an event counts against its organization's quota.
pub fn is_counted(event_type: &str) -> bool {
    !UNCOUNTED.contains(&event_type)
}

/// How many events each organization added lately.
#[derive(Debug, Default)]
pub struct EventBuckets {
    /// The moment at which each bucket is full again; a bucket that is full is forgotten.
    full_at: BTreeMap<OrganizationId, Moment>,
}

/// The organization adds more than its quota permits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spent {
    pub reached: QuotaReached,
    /// From then on there is room, unless others take it.
    pub retry_after: Duration,
}

impl EventBuckets {
    /// Takes `events` of the organization's bucket, which gains `per_second` of them each second.
    /// More events than a full bucket holds take it empty.
    pub fn spend(
        &mut self,
        now: Moment,
        organization: OrganizationId,
        per_second: u32,
        events: u32,
    ) -> Result<(), Spent> {
        let per_second = per_second.max(1);
        let event = Duration::from_micros((MICROS / u64::from(per_second)).max(1));
        let burst = per_second.saturating_mul(BURST_SECONDS);
        let before = self.full_at.get(&organization).copied().unwrap_or_default().max(now);
        let full_at = before + event * events.min(burst);
        if let Some(wait) = full_at.since(now).checked_sub(event * burst)
            && !wait.is_zero()
        {
            let missing = before.since(now).as_micros() / event.as_micros().max(1);
            let used = u32::try_from(missing).unwrap_or(u32::MAX) / BURST_SECONDS;
            let quota = Quota::EventsPerSecond;
            let reached = QuotaReached { quota, limit: per_second, used: used.max(1) };
            return Err(Spent { reached, retry_after: wait });
        }
        if self.full_at.len() >= MAX_EVENT_BUCKETS {
            self.full_at.retain(|_, full_at| *full_at > now);
        }
        if self.full_at.len() < MAX_EVENT_BUCKETS || self.full_at.contains_key(&organization) {
            self.full_at.insert(organization, full_at);
        }
        Ok(())
    }

    /// How many organizations' events are counted.
    pub fn remembered(&self) -> usize {
        self.full_at.len()
    }
}
