use rap_proto::{Duty, ReplicaId, Timestamp};

use super::LeadershipEnd;
use crate::lease::TenureRejection;

/// How long a replica leads without renewing.
pub const LEADERSHIP_TTL_MS: u32 = 4_000;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LeadershipCommand {
    /// Comes with [`crate::lease::LeaseChange::Grant`]; times by the database's clock.
    Grant {
        duty: Duty,
        replica: ReplicaId,
        generation: u64,
        granted_at: Timestamp,
        valid_until: Timestamp,
    },
    /// Comes with [`crate::lease::LeaseChange::End`], or with the next grant when it has expired.
    Release {
        generation: u64,
        reason: LeadershipEnd,
        /// When the replica led at the latest.
        released_at: Timestamp,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LeadershipRejection {
    #[error("the stream is another duty's")]
    OtherDuty,
    #[error("the lease is held")]
    LeaseHeld,
    #[error("the last leader may still be active")]
    StillValid,
    #[error("the generation is not the lease's")]
    StaleGeneration,
    #[error("the lease's time is out of range")]
    LifetimeOutOfRange,
}

impl From<TenureRejection> for LeadershipRejection {
    fn from(rejection: TenureRejection) -> Self {
        match rejection {
            TenureRejection::LeaseHeld => Self::LeaseHeld,
            TenureRejection::StillValid => Self::StillValid,
            TenureRejection::StaleGeneration => Self::StaleGeneration,
            TenureRejection::LifetimeOutOfRange => Self::LifetimeOutOfRange,
        }
    }
}
