//! Whether this node is active for one connection: the holder of its lease.
//!
//! | Part | Decides |
//! |---|---|
//! | [`LeaseHolder`] | what to ask control, and when the driver starts and stops |
//! | [`Term`] | until when this node may be active |
//! | [`Permit`] | what the packet loop is shown of that |
//! | [`Holders`] | which connections there are, what is asked in one call, when control is told |
//! | [`floor`] | which generation this node agreed to, across restarts |
//! | [`marks`] | which generations of others its fence saw, across restarts |
//!
//! A grant makes nobody active. The node that is offered a generation first makes its floor
//! durable, then asks control to renew, and starts its driver when that is answered. Whoever
//! receives an old or repeated offer finds out by the refusal of the renewal.
//!
//! Every `now` is a [`Moment`] of CLOCK_BOOTTIME: a clock that stands still
//! while the host sleeps would let a holder wake up in the belief that no time has passed.

pub mod floor;
mod holder;
pub mod holders;
pub mod marks;
mod permit;
mod recorded;
mod term;
#[cfg(test)]
mod tests;

use std::time::Duration;

use rap_proto::{Generation, LeaseClass, Moment};

pub use floor::LeaseFloor;
pub use holder::LeaseHolder;
pub use holders::Holders;
pub use permit::Permit;
pub use recorded::{RECORDED_BYTES, Recorded};
pub use term::{MAX_IN_FLIGHT, Term};

/// How often the driver of a node that is not active is asked whether it could take over.
pub const PROBE_EVERY: Duration = Duration::from_secs(5);
/// How long a driver may take to start before it is stopped again.
pub const ACTIVATE_LIMIT: Duration = Duration::from_secs(10);
/// How soon a release that was not answered is sent again.
pub const RELEASE_AGAIN: Duration = Duration::from_millis(500);
/// How often a release is sent; after that the lease runs out by itself.
pub const MAX_RELEASES: u32 = 20;
/// How long a draining node waits to be asked for the lease before it stops on its own.
pub const DRAIN_LIMIT: Duration = Duration::from_secs(30);

/// Names one renewal, so that an answer counts from the moment when its own request was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct RequestId(pub u64);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Input {
    /// Control granted this node a generation, or says so again.
    Offered {
        generation: Generation,
        class: LeaseClass,
    },
    /// This floor is durable.
    Persisted {
        generation: Generation,
    },
    Answered {
        request: RequestId,
        answer: Answer,
    },
    /// The driver was started.
    Activated {
        generation: Generation,
    },
    /// The driver did not start, or died; or the floor was not written.
    Failed {
        generation: Generation,
    },
    /// The driver has stopped: nothing of this generation is sent any more.
    Deactivated {
        generation: Generation,
    },
    /// Whether the driver could take over.
    Probed {
        ready: bool,
    },
    /// Control asks for the lease, to give it to another node or to nobody.
    ReleaseAsked {
        generation: Generation,
    },
    /// Control took the release, or knows of no such lease.
    ReleaseTaken {
        generation: Generation,
    },
    /// Whether this node takes nothing new and gives up what it has.
    Drain(bool),
    /// The newest authority beat is valid until then. Without a beat nobody is active.
    Beat {
        until: Moment,
    },
}

/// What control says to a renewal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// The lease had so long to live when the database answered.
    Granted { remaining: Duration },
    /// A newer generation was granted.
    Superseded { by: Generation },
    /// This generation is not held any more: it ran out, was released or fenced.
    Over,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Must be durable before [`Input::Persisted`].
    PersistFloor {
        generation: Generation,
    },
    SendRenewal {
        request: RequestId,
        generation: Generation,
    },
    /// Start the driver; what it sends asks [`LeaseHolder::may_forward`] first, each time.
    Activate {
        generation: Generation,
    },
    /// Stop the driver. [`Input::Deactivated`] says that it has stopped, not that it was told to.
    Deactivate {
        generation: Generation,
    },
    SendRelease {
        generation: Generation,
    },
    Probe,
    /// What control and the operator are told has changed.
    Report(Report),
}

/// Where a holder is. Only in `Activating` and `Active` may anything be forwarded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Holds nothing.
    Standby,
    /// Agreed to a generation that is not yet durable.
    Persisting {
        generation: Generation,
    },
    /// Asks for the first renewal.
    Acquiring {
        generation: Generation,
    },
    Activating {
        generation: Generation,
    },
    Active {
        generation: Generation,
    },
    /// The driver was told to stop.
    Stopping {
        generation: Generation,
        why: StopReason,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum StopReason {
    /// The agent started: what its last run left behind must be gone before anything else.
    Restart,
    /// The lease's time or the beat's is over.
    Expired,
    /// Control granted a newer generation, or knows of this one no more.
    Refused,
    /// Control asked for it.
    Asked,
    Draining,
    DriverFailed,
}

/// What a holder tells about itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Report {
    /// It would take over.
    pub ready: bool,
    pub draining: bool,
    /// The newest generation that this node agreed to.
    pub floor: Generation,
    /// The generation that it holds or is about to hold.
    pub holding: Option<Generation>,
    /// It is active.
    pub active: bool,
    /// The driver was told to stop and has not stopped within its budget.
    pub overdue: bool,
}

impl Phase {
    /// The generation that this phase is about.
    pub const fn generation(self) -> Option<Generation> {
        match self {
            Self::Standby => None,
            Self::Persisting { generation }
            | Self::Acquiring { generation }
            | Self::Activating { generation }
            | Self::Active { generation }
            | Self::Stopping { generation, .. } => Some(generation),
        }
    }

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Standby => "standby",
            Self::Persisting { .. } => "persisting",
            Self::Acquiring { .. } => "acquiring",
            Self::Activating { .. } => "activating",
            Self::Active { .. } => "active",
            Self::Stopping { .. } => "stopping",
        }
    }
}
