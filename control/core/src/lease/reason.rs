use std::fmt;

/// Why a connection is as it is, and why a command was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// The holder works and stays, even if another node would be preferred.
    HolderWorks,
    /// The holder was not heard to have taken its grant.
    HolderNotHeard,
    NeverGranted,
    /// The holder gave it up.
    Released,
    /// The holder gave it up because it was asked to.
    HandedOver,
    /// Nobody renewed it in time, by both clocks.
    RanOut,
    /// It ran out by one clock and not yet by the other.
    RunningOut,
    HolderDrains,
    /// The holder is not among the nodes that may hold it any more.
    HolderNotAllowed,
    Disabled,
    /// No node that may hold it is ready.
    NobodyReady,
    /// Control started, or the database failed over, too short a while ago.
    HoldingOff,
    /// Its holder changed too often.
    Damped,
    /// The table shows less than was granted: a failover lost events.
    TableWentBack,
    /// A command is on its way.
    Commanded,
}

impl Reason {
    pub const ALL: [Self; 15] = [
        Self::HolderWorks,
        Self::HolderNotHeard,
        Self::NeverGranted,
        Self::Released,
        Self::HandedOver,
        Self::RanOut,
        Self::RunningOut,
        Self::HolderDrains,
        Self::HolderNotAllowed,
        Self::Disabled,
        Self::NobodyReady,
        Self::HoldingOff,
        Self::Damped,
        Self::TableWentBack,
        Self::Commanded,
    ];

    /// Whether a holder is replaced without anybody having planned it.
    pub(super) const fn is_a_loss(self) -> bool {
        matches!(self, Self::RanOut | Self::Released)
    }

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::HolderWorks => "holder_works",
            Self::HolderNotHeard => "holder_not_heard",
            Self::NeverGranted => "never_granted",
            Self::Released => "released",
            Self::HandedOver => "handed_over",
            Self::RanOut => "ran_out",
            Self::RunningOut => "running_out",
            Self::HolderDrains => "holder_drains",
            Self::HolderNotAllowed => "holder_not_allowed",
            Self::Disabled => "disabled",
            Self::NobodyReady => "nobody_ready",
            Self::HoldingOff => "holding_off",
            Self::Damped => "damped",
            Self::TableWentBack => "table_went_back",
            Self::Commanded => "commanded",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
