//! The one place where the server reads the clocks and draws random numbers.

use std::time::{SystemTime, UNIX_EPOCH};

use rap_proto::{Moment, Timestamp};
use rustix::time::{ClockId, clock_gettime};

/// What the system's clock says.
pub fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_unix_millis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

/// Time that only rises, also while the host sleeps (CLOCK_BOOTTIME).
pub(crate) fn moment() -> Moment {
    let time = clock_gettime(ClockId::Boottime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let micros = u64::try_from(time.tv_nsec).unwrap_or(0) / 1_000;
    Moment::from_micros(seconds * 1_000_000 + micros)
}

/// Random bytes of the operating system.
///
/// # Panics
/// When the system has none: nothing that this server does would be safe without them.
pub(crate) fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the operating system provides random bytes");
    bytes
}
