//! Under which headings the scenario counts what happened, besides its faults.

use rap_proto::Authority;

/// From one state of a node to the next.
pub const NODES: &str = "nodes";
/// What replicas asked the primary to do, and what came of it.
pub const REPLICAS: &str = "replicas";
/// Why nodes refused beats.
pub const REFUSED: &str = "refused";

/// What goes wrong.
pub const FAULT_KINDS: [&str; 21] = [
    "partition",
    "one-way partition",
    "node crash",
    "torn write",
    "replica crash",
    "power cut of all replicas",
    "node suspended",
    "replica pause",
    "primary's calendar back",
    "primary's calendar forward",
    "node's calendar back",
    "node's calendar forward",
    "failover",
    "unsynced failover",
    "rival proposal",
    "new statement",
    "two leaders",
    "duplicate",
    "nobody reaches the primary",
    "a minority reaches the primary",
    "a node reaches no replica",
];
/// The passages of nodes that a run in which much happens has.
pub const PASSAGES: [&str; 6] = [
    "unheard to healthy",
    "unheard to degraded",
    "healthy to degraded",
    "degraded to healthy",
    "degraded to isolated",
    "isolated to healthy",
];

/// A state without its time.
pub fn word(authority: Authority) -> &'static str {
    match authority {
        Authority::Unheard => "unheard",
        Authority::Healthy => "healthy",
        Authority::Degraded { .. } => "degraded",
        Authority::Isolated { .. } => "isolated",
    }
}
