//! Planted bugs of the lease scenario. A checker that finds none of them checks nothing.

use crate::kit::mutation::mutations;

mutations! {
    /// A holder counts a lease from when the answer came.
    DeadlineFromReceipt = "deadline-from-receipt",
    /// Holder and grantor take every clock for exact.
    NoDriftMargin = "no-drift-margin",
    /// A node goes on after a restart with what its disk says that it held.
    NoRestartWait = "no-restart-wait",
    /// A node takes up a grant that it has not written down.
    FloorNotPersisted = "floor-not-persisted",
    /// An answer to an older renewal counts as one to the newest.
    StaleAnswerAccepted = "stale-answer-accepted",
    /// A grant makes active, whenever it comes, without a renewal.
    ReplayedGrant = "replayed-grant",
    /// A holder gives the lease back while its driver still stops.
    DeactivateNotAwaited = "deactivate-not-awaited",
    /// The packet loop relies on the timer to stop it.
    TimerOnly = "timer-only",
    /// A holder goes on without a valid beat.
    BeatIgnored = "beat-ignored",
    /// A holder does not hear that it is asked for its lease.
    ReleaseIgnored = "release-ignored",
    /// The database renews what was granted to another, or ran out.
    RenewAfterFence = "renew-after-fence",
    /// The resource serves every generation.
    FenceNotChecked = "fence-not-checked",
    /// The resource serves a newer generation before its mark is durable.
    MarkNotPersisted = "mark-not-persisted",
    /// A lease is granted again when the grantor's clock alone says that it is over.
    OwnClockOnly = "own-clock-only",
    /// A lease is granted again when the database's clock alone says that it is over.
    DatabaseClockOnly = "database-clock-only",
    /// A grantor does not notice that the database failed over.
    HoldOffSkipped = "hold-off-skipped",
    /// A connection moves back to the node that is preferred.
    NotSticky = "not-sticky",
    /// A grant's generation follows the row's, whatever was granted that the row has lost.
    GenerationFromRow = "generation-from-row",
    /// A witness takes a tree head that is smaller than the one that it kept.
    SmallerHeadAccepted = "smaller-head-accepted",
}
