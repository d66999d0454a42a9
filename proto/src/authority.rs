//! What a node reports of how control's authority came and went there.

use std::ops::Not;

use serde::{Deserialize, Serialize};

use crate::{beat::Authority, term::terms};

/// The most lapses that a node tells within an hour, each with at most three changes: whoever loses control
/// all the time fills no log.
pub const MAX_LAPSES_PER_HOUR: u32 = 8;

terms! {
    /// What control's word is worth at a node: [`Authority`] without its times.
    AuthorityStanding, "authority standing":
    Healthy = "healthy",
    Degraded = "degraded",
    Isolated = "isolated",
}

impl AuthorityStanding {
    /// `None` where no beat was ever heard: there is nothing that could change.
    pub const fn of(authority: Authority) -> Option<Self> {
        match authority {
            Authority::Unheard => None,
            Authority::Healthy => Some(Self::Healthy),
            Authority::Degraded { .. } => Some(Self::Degraded),
            Authority::Isolated { .. } => Some(Self::Isolated),
        }
    }
}

/// From now on control's word is worth this at the node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuthorityChange {
    pub standing: AuthorityStanding,
    /// Of the last beat that the node heard; where it is healthy again, of the one that ended it.
    pub epoch: u64,
    pub sequence: u64,
    /// For how long no beat had been valid there, in milliseconds of the node's own clock.
    pub without_ms: u64,
    /// The agent was started in that time: what was before its start is counted by the node's calendar.
    #[serde(default, skip_serializing_if = "Not::not")]
    pub restarted: bool,
    /// So many lapses before this one were not told, as there were too many within an hour. What the
    /// spool of the node leaves out is not among them.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub left_out: u64,
}

const fn is_zero(count: &u64) -> bool {
    *count == 0
}
