//! Planted bugs of the fleet scenario. A checker that finds none of them checks nothing.

use crate::kit::mutation::mutations;

mutations! {
    /// A node keeps a peer that the directory no longer names.
    WithdrawalIgnored = "withdrawal-ignored",
    /// A node takes whom it finds in its cache for a peer.
    CacheIsTruth = "cache-is-truth",
    /// A node asks somebody to forward who is no relay.
    RoleNotChecked = "role-not-checked",
    /// A node takes one organization's relay for everybody's.
    ScopeForgotten = "scope-forgotten",
    /// A node tries single relays, and never several in a row.
    ChainsForgotten = "chains-forgotten",
    /// A node has the relays behind the first one of a path be another organization's as well.
    OnwardMistaken = "onward-mistaken",
    /// A relay asks the next one for as many relays as it was asked for.
    HopsNotCounted = "hops-not-counted",
    /// A node keeps twice as many peers as it may.
    BoundDoubled = "bound-doubled",
    /// A node keeps places for relays, whoever they are for.
    PlacesShared = "places-shared",
    /// A node believes that a relay forwards, without trying.
    ThroughSkipped = "through-skipped",
    /// A node believes that a relay forwards for good once it did.
    ForwardedOnce = "forwarded-once",
    /// A node takes silence for an answer.
    SilenceIsAnAnswer = "silence-is-an-answer",
    /// A node keeps the counts of its release, whatever the platform says.
    RuleIgnored = "rule-ignored",
    /// A node goes on over relays that are taken from the organization.
    PathKept = "path-kept",
    /// A node arms no timer when one has fired.
    TimerLost = "timer-lost",
    /// A node changes its mind at every look.
    NoHysteresis = "no-hysteresis",
    /// A node that starts again says that its way back begins in the middle.
    StepsSkipped = "steps-skipped",
    /// Control counts a relay that is gone against what an organization reaches.
    RelayLossIsShown = "relay-loss-is-shown",
    /// Control tells an organization how many nodes there are.
    NodesAreCounted = "nodes-are-counted",
}
