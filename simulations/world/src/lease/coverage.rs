//! Under which headings the scenario counts what happened, besides its faults.

/// From one phase of a holder to the next.
pub const HOLDERS: &str = "holders";
/// What grantors did and why.
pub const GRANTORS: &str = "grantors";
/// Why connections waited or stayed.
pub const REASONS: &str = "reasons";
/// How much there was of anything: see [`GRANTED`] and [`SERVED`].
pub const TOTALS: &str = "totals";
/// Grants that were stored.
pub const GRANTED: &str = "granted";
/// What the resource took from holders.
pub const SERVED: &str = "served";

/// What goes wrong. What people change is counted with it.
pub const FAULT_KINDS: [&str; 24] = [
    "partition",
    "one-way partition",
    "congestion",
    "node crash",
    "torn write",
    "replica crash",
    "process pause",
    "agent pause",
    "packet loop pause",
    "replica pause",
    "database clock forward",
    "database clock back",
    "replica clock forward",
    "failover",
    "unsynced failover",
    "two leaders",
    "no beat",
    "driver does not start",
    "driver overdue",
    "resource crash",
    "duplicate",
    "older generation refused",
    "log refused",
    "node suspended itself",
];
/// The passages of holders that a run in which much happens has.
pub const PASSAGES: [&str; 4] =
    ["acquiring to standby", "activating to standby", "active to stopping", "stopping to standby"];
/// For which reasons connections are granted.
pub const GRANTS: [&str; 4] = [
    "grant, for never_granted",
    "grant, for released",
    "grant, for handed_over",
    "grant, for ran_out",
];
