//! Under which headings the scenario counts what happened, besides its faults.

use rap_proto::Authority;

/// From one state of a node to the next.
pub const NODES: &str = "nodes";
/// What replicas asked the primary to do, and what came of it.
pub const REPLICAS: &str = "replicas";
/// Why nodes refused beats.
pub const REFUSED: &str = "refused";

/// A state without its time.
pub fn word(authority: Authority) -> &'static str {
    match authority {
        Authority::Unheard => "unheard",
        Authority::Healthy => "healthy",
        Authority::Degraded { .. } => "degraded",
        Authority::Isolated { .. } => "isolated",
    }
}
