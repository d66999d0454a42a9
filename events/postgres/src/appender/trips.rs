//! How the appender came to its answers.

use tokio::sync::watch;

/// How often a batch was tried in each way, since the log was opened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Trips {
    /// Stored in one trip.
    pub at_once: u64,
    /// Tried in one trip and not stored, because somebody else had appended or was about to.
    pub missed: u64,
    /// Tried under the head's lock, in two trips.
    pub locked: u64,
}

pub(super) fn count(trips: &watch::Sender<Trips>, which: impl FnOnce(&mut Trips) -> &mut u64) {
    trips.send_modify(|trips| *which(trips) += 1);
}
