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
