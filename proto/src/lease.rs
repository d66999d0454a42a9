//! Leases: the words and the arithmetic that holder, grantor and fence agree on.
//!
//! A lease is the right of one node to be active for one connection, for a while. Its
//! [`Generation`] rises with every grant and is the fencing token: whoever has seen a higher one
//! refuses a lower one. Every span is a [`Duration`] on the clock of whoever measures it; each
//! clock may run fast or slow by [`DRIFT_PPM`].

use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{VpnConnectionId, term::terms};

/// The drift rate ρ: by how many millionths of a span any clock may be wrong. Far above a crystal
/// and above the slewing of a time service that works.
pub const DRIFT_PPM: u32 = 10_000;
/// How long a holder may take to stop, which it takes off the end of every lease.
pub const STOP_BUDGET: Duration = Duration::from_millis(500);
/// What a grantor waits on top of a lease's longest life.
pub const GRACE: Duration = Duration::from_millis(250);

/// Calendar time is kept in whole milliseconds, at both ends of a span.
const ROUNDING: Duration = Duration::from_millis(2);
const MILLION: u128 = 1_000_000;

terms! {
    /// How quickly a connection changes its holder when that fails, against how long control may
    /// be away before a working holder has to stop.
    LeaseClass, "lease class":
    /// Another node takes over within seconds.
    Fast = "fast",
    /// Survives a failover of the database.
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
    /// How long one grant or renewal is good for, by the database's clock.
    pub const fn ttl(self) -> Duration {
        Duration::from_millis(self.ttl_ms() as u64)
    }

    pub const fn ttl_ms(self) -> u32 {
        match self {
            Self::Fast => 4_000,
            Self::Steady => 45_000,
        }
    }

    pub const fn renew_every(self) -> Duration {
        match self {
            Self::Fast => Duration::from_secs(1),
            Self::Steady => Duration::from_secs(10),
        }
    }

    /// How long a grantor must have seen no renewal, on its own clock: `T(1+ρ) + G`.
    pub fn hold_off(self) -> Duration {
        let ttl = self.ttl();
        ttl + drift(ttl) + GRACE
    }
}

/// How long after its request a holder may rely on a lease that had `remaining` to live when the
/// database answered: `remaining × (1 − 2ρ)`, less the rounding. One ρ is for the holder's clock,
/// one for the database's.
pub fn reliable(remaining: Duration) -> Duration {
    remaining.saturating_sub(2 * drift(remaining) + ROUNDING)
}

/// `span × ρ`, rounded up.
fn drift(span: Duration) -> Duration {
    let micros = (span.as_micros() * u128::from(DRIFT_PPM)).div_ceil(MILLION);
    Duration::from_micros(u64::try_from(micros).unwrap_or(u64::MAX))
}

/// The fencing token: which grant of one connection's lease something was done under. From 1.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Generation(u64);

impl Generation {
    /// Below every grant.
    pub const NONE: Self = Self(0);

    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    pub const fn number(self) -> u64 {
        self.0
    }

    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// Under which lease something is asked for: what a path's set-up and an access token carry for
/// the fence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Leased {
    pub connection: VpnConnectionId,
    pub generation: Generation,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::node_api::KEPT_IDLE;

    #[test]
    fn a_holder_has_stopped_before_any_grantor_may_grant_again() {
        for class in LeaseClass::ALL {
            let ttl = class.ttl().as_secs_f64();
            let rho = f64::from(DRIFT_PPM) / 1e6;
            // The slowest holder against the fastest clocks on the other side, in true time.
            let stopped = reliable(class.ttl()).as_secs_f64() / (1.0 - rho);
            let by_the_database = ttl / (1.0 + rho);
            let by_the_grantor = class.hold_off().as_secs_f64() / (1.0 + rho);
            assert!(stopped <= by_the_database, "{class}: {stopped} {by_the_database}");
            assert!(stopped < by_the_grantor, "{class}: {stopped} {by_the_grantor}");
            // Two renewals may be lost.
            let lasts = reliable(class.ttl()).saturating_sub(STOP_BUDGET);
            assert!(lasts > 3 * class.renew_every(), "{class}");
            assert!(2 * class.renew_every() < KEPT_IDLE, "{class}: on the connection of the last");
        }
    }
}
