use rap_proto::{Duty, ReplicaId, Timestamp};
use serde::{Deserialize, Serialize};

use crate::aggregate::events;

events! {
    /// What happened to a duty's leadership.
    LeadershipEvent:
    Granted(LeadershipGranted) = "leadership.granted" / 1;
    Released(LeadershipReleased) = "leadership.released" / 1;
}

/// Times are the database's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LeadershipGranted {
    pub duty: Duty,
    pub replica: ReplicaId,
    pub generation: u64,
    pub granted_at: Timestamp,
    /// When it expires unless it is renewed, which is no event.
    pub valid_until: Timestamp,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LeadershipReleased {
    pub generation: u64,
    pub reason: LeadershipEnd,
    /// When the replica led at the latest, all renewals included.
    pub released_at: Timestamp,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LeadershipEnd {
    /// The replica stopped and said so.
    Resigned,
    /// The replica fell silent.
    Expired,
}
