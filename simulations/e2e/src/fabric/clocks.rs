//! Hosts whose wall clock moves while their agents run: libfaketime answers for it. Clocks that
//! count from the start of the host are left alone, as when an administrator or NTP sets the time.

use std::{fs, path::PathBuf, time::Duration};

use super::{Fabric, Recording, Site};
use crate::Space;

/// Where Debian puts the library, below `/usr/lib/` and the architecture's name.
const LIBRARY: &str = "faketime/libfaketime.so.1";

impl Fabric {
    /// Sets the wall clock of a host to `ahead` of the true time. Only where agents were started for
    /// it: [`Self::start_recording`].
    ///
    /// # Panics
    /// When the file cannot be written.
    pub fn set_clock(&self, space: Space, ahead: Duration) {
        self.site.set_clock(space, ahead);
    }
}

impl Site {
    pub(super) fn set_clock(&self, space: Space, ahead: Duration) {
        // The agent reads it at each look at the clock, so it is never seen half written.
        let new = self.dir.path().join("clock.new");
        fs::write(&new, format!("+{}\n", ahead.as_secs())).expect("our folder");
        fs::rename(new, self.clock(space)).expect("our folder");
    }

    /// What an agent whose wall clock can be set finds in its environment.
    pub(super) fn clock_variables(
        &self,
        space: Space,
        recording: &Recording,
    ) -> [(&'static str, PathBuf); 4] {
        self.set_clock(space, Duration::ZERO);
        [
            ("LD_PRELOAD", recording.clocks.clone()),
            ("FAKETIME_TIMESTAMP_FILE", self.clock(space)),
            ("FAKETIME_NO_CACHE", "1".into()),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1".into()),
        ]
    }

    fn clock(&self, space: Space) -> PathBuf {
        self.dir.path().join(format!("clock-{}", space.name()))
    }
}

/// The library, or why clocks cannot be moved here.
pub(super) fn library() -> Result<PathBuf, String> {
    let architectures = fs::read_dir("/usr/lib").map_err(|error| error.to_string())?;
    let mut found = architectures.flatten().map(|entry| entry.path().join(LIBRARY));
    found.find(|path| path.is_file()).ok_or_else(|| "libfaketime is not installed".to_owned())
}
