pub use rap_proto::api::MAX_QUOTA;
use serde::{Deserialize, Serialize};

/// Nodes of its own that an organization may have until the platform says otherwise: those that
/// wait for approval count, those that are gone do not.
pub const DEFAULT_NODES: u32 = 10_000;
/// Sessions that may be open at once.
pub const DEFAULT_SESSIONS: u32 = 20_000;
/// Events that commands of its members may add to the log in a second.
pub const DEFAULT_EVENTS_PER_SECOND: u32 = 500;

/// How much one organization may take of what all share.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Quotas {
    pub nodes: u32,
    pub sessions: u32,
    pub events_per_second: u32,
}

impl Default for Quotas {
    fn default() -> Self {
        Self {
            nodes: DEFAULT_NODES,
            sessions: DEFAULT_SESSIONS,
            events_per_second: DEFAULT_EVENTS_PER_SECOND,
        }
    }
}

impl Quotas {
    /// None may be above [`MAX_QUOTA`]; no rate may be 0, or nothing could be undone.
    pub(super) fn are_sound(self) -> bool {
        let all = [self.nodes, self.sessions, self.events_per_second];
        all.into_iter().all(|quota| quota <= MAX_QUOTA) && self.events_per_second > 0
    }
}
