//! The words of leases: how fast one changes hands, and what one replica of control does alone.

use crate::term::terms;

terms! {
    /// How soon another node may take a connection over when its holder falls silent.
    LeaseClass, "lease class":
    /// Renewed every second, lost after four.
    Fast = "fast",
    /// Outlives a failover of the database.
    Steady = "steady",
}

terms! {
    /// What exactly one replica of the control plane does at a time.
    Duty, "duty":
    /// Gives the commands that follow from the state and the time, and tells the bus who is
    /// revoked.
    Processes = "processes",
}

impl LeaseClass {
    pub const fn ttl_ms(self) -> u32 {
        match self {
            Self::Fast => 4_000,
            Self::Steady => 45_000,
        }
    }
}
