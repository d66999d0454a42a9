//! Planted bugs of the beat scenario. A checker that finds none of them checks nothing.

use crate::kit::mutation::mutations;

mutations! {
    /// A vote is gone when the replica that cast it starts again.
    VoteNotStored = "vote-not-stored",
    /// A replica that started again votes once more for a sequence that it had voted for.
    SequenceReused = "sequence-reused",
    /// A replica signs whatever is proposed, as if it had read it.
    UnreadSigned = "unread-signed",
    /// One signature less than a quorum makes a beat.
    QuorumOfLess = "quorum-of-less",
    /// A node counts a beat's whole life from when it came.
    LifeFromReceipt = "life-from-receipt",
    /// The clock that a node counts by stands still while its host is suspended.
    SuspendNotCounted = "suspend-not-counted",
    /// A node takes up a beat that it has not written down.
    FloorNotPersisted = "floor-not-persisted",
    /// A node takes an older statement for a newer one because it came later.
    EpochNotChecked = "epoch-not-checked",
    /// A node asks no more once it has refused a beat.
    RefusedForGood = "refused-for-good",
}
