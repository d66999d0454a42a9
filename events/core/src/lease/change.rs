use std::{collections::BTreeMap, time::Duration};

use rap_proto::Timestamp;
use uuid::Uuid;

use super::{DatabaseTime, LeaseRow};
use crate::log::{Append, AppendError, StreamId};

/// The most lease changes of one append.
pub const MAX_LEASE_CHANGES_PER_APPEND: usize = 64;
/// The most guards of one append.
pub const MAX_LEASE_GUARDS_PER_APPEND: usize = 16;
/// The longest time to live of a lease: one hour. Whoever wants it longer renews it.
pub const MAX_LEASE_TTL_MS: u32 = 3_600_000;

/// What an append does to a lease, in the same transaction as its events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LeaseChange {
    /// Gives the lease to `holder`. Nobody may be able to hold it any more, and `generation` must
    /// be above every earlier one. With a timeline it is refused on every other: what was decided
    /// before a failover may rest on what the failover lost.
    Grant { lease: StreamId, generation: u64, holder: Uuid, ttl_ms: u32, timeline: Option<u64> },
    /// The holder has stopped: the lease is free at once.
    End { lease: StreamId, generation: u64 },
    /// Renewals end, and the lease is free when its time is over: the holder may not know yet.
    Fence { lease: StreamId, generation: u64 },
}

/// The append is stored only if this holder has the lease at that moment, under this generation. A
/// failover that lost a grant lets another holder have the same generation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseGuard {
    pub lease: StreamId,
    pub generation: u64,
    pub holder: Uuid,
}

impl LeaseChange {
    pub fn lease(&self) -> &StreamId {
        match self {
            Self::Grant { lease, .. } | Self::End { lease, .. } | Self::Fence { lease, .. } => {
                lease
            }
        }
    }

    /// The row that the change leaves behind, or why it is refused.
    fn apply(&self, row: Option<&LeaseRow>, at: DatabaseTime) -> Result<LeaseRow, AppendError> {
        let now = at.now;
        match self {
            Self::Grant { lease, generation, holder, ttl_ms, timeline } => {
                if timeline.is_some_and(|timeline| timeline != at.timeline) {
                    return Err(AppendError::TimelineChanged { timeline: at.timeline });
                }
                if let Some(held) = row.filter(|row| now < row.valid_until) {
                    return Err(AppendError::LeaseHeld { lease: lease.clone(), held: *held });
                }
                let greatest = row.map_or(0, |row| row.generation);
                if *generation <= greatest {
                    let lease = lease.clone();
                    return Err(AppendError::LeaseGeneration { lease, greatest });
                }
                Ok(LeaseRow {
                    generation: *generation,
                    holder: *holder,
                    ttl_ms: *ttl_ms,
                    renewed_at: now,
                    valid_until: now + Duration::from_millis(u64::from(*ttl_ms)),
                    ended: false,
                })
            }
            Self::End { lease, generation } => {
                let row = ending(row, lease, *generation)?;
                Ok(LeaseRow { ended: true, valid_until: row.valid_until.min(now), ..row })
            }
            Self::Fence { lease, generation } => {
                let row = ending(row, lease, *generation)?;
                Ok(LeaseRow { ended: true, ..row })
            }
        }
    }
}

/// The row of a generation that is to end. Its time may be over; it may not have ended before.
fn ending(
    row: Option<&LeaseRow>,
    lease: &StreamId,
    generation: u64,
) -> Result<LeaseRow, AppendError> {
    match row {
        Some(row) if row.generation == generation && !row.ended => Ok(*row),
        other => Err(lost(lease, generation, other)),
    }
}

impl LeaseGuard {
    fn check(&self, row: Option<&LeaseRow>, now: Timestamp) -> Result<(), AppendError> {
        match row {
            Some(row)
                if row.generation == self.generation
                    && row.holder == self.holder
                    && row.is_held(now) =>
            {
                Ok(())
            }
            other => Err(lost(&self.lease, self.generation, other)),
        }
    }
}

fn lost(lease: &StreamId, generation: u64, row: Option<&LeaseRow>) -> AppendError {
    AppendError::LeaseLost { lease: lease.clone(), generation, held: row.copied() }
}

/// Checks an append's guards and applies its changes in order; returns the rows that changed.
/// The guards are about what was before the append: whoever gives a lease up may still be
/// guarded by it.
pub fn apply(
    append: &Append,
    rows: &BTreeMap<StreamId, LeaseRow>,
    at: DatabaseTime,
) -> Result<BTreeMap<StreamId, LeaseRow>, AppendError> {
    for guard in &append.guards {
        guard.check(rows.get(&guard.lease), at.now)?;
    }
    let mut changed: BTreeMap<StreamId, LeaseRow> = BTreeMap::new();
    for change in &append.leases {
        let row = changed.get(change.lease()).or_else(|| rows.get(change.lease()));
        let row = change.apply(row, at)?;
        changed.insert(change.lease().clone(), row);
    }
    Ok(changed)
}
