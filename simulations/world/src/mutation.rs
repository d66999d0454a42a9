//! Planted bugs. A checker that finds none of them checks nothing.

use crate::kit::mutation::mutations;

mutations! {
    /// An agent says that a snapshot is durable before it is.
    SnapshotNotPersisted = "snapshot-not-persisted",
    /// An agent forgets its floor when a snapshot is offered.
    FloorForgotten = "floor-forgotten",
    /// An agent takes a snapshot for the node that the snapshot names.
    AnyNodesSnapshot = "any-nodes-snapshot",
    /// An agent believes the signer that a snapshot came with.
    UnsignedSnapshot = "unsigned-snapshot",
    /// An agent waits for doorbells only.
    PollIgnored = "poll-ignored",
    /// Control confirms observations and records them a little later.
    ConfirmedBeforeRecorded = "confirmed-before-recorded",
    /// An agent starts without the spool that it left.
    SpoolForgotten = "spool-forgotten",
    /// Control sends a node the resources of another.
    ScopeWidened = "scope-widened",
    /// Control starts from a state that lacks the last event.
    EventForgotten = "event-forgotten",
    /// An egress believes the entry and checks nothing.
    AdmittedUnchecked = "admitted-unchecked",
    /// An egress keeps what is open when a newer snapshot does not permit it any more.
    WithdrawalIgnored = "withdrawal-ignored",
    /// Control lets a join token be used again.
    JoinTokenReused = "join-token-reused",
    /// Entry and egress let a session's channel through without asking their fence.
    FenceNotAsked = "fence-not-asked",
    /// An egress asks its fence, and not whether it holds the lease itself.
    HolderNotAsked = "holder-not-asked",
    /// The flows of a connection go on when its lease is given back.
    FlowOutlivesLease = "flow-outlives-lease",
    /// A replica folds nothing while another leads.
    OthersNotFolded = "others-not-folded",
    /// A replica folds two neighbouring events in the wrong order.
    FoldedOutOfOrder = "folded-out-of-order",
    /// What a leader gives is stored also when it leads no more.
    LeaderNotGuarded = "leader-not-guarded",
    /// A replica folds on behind what a failover lost.
    LossNotNoticed = "loss-not-noticed",
    /// A grantor takes the database after a failover for the one before.
    TimelineIgnored = "timeline-ignored",
    /// A replica grants also without a beat.
    NotFrozen = "not-frozen",
    /// A node that is shown another log than it saw begins anew by itself.
    LogTrustedAnew = "log-trusted-anew",
    /// Control renews a holder that was revoked, and says nothing to it.
    RevokedHolderKept = "revoked-holder-kept",
    /// A node takes up a beat that it has not written down.
    BeatNotKept = "beat-not-kept",
}
