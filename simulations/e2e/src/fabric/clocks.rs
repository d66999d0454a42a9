//! The clocks that an agent sees, where they are not its machine's.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use super::{Fabric, Site};
use crate::Space;

/// Where Debian puts the library, below `/usr/lib/` and the architecture's name.
const LIBRARY: &str = "faketime/libfaketime.so.1";

/// Which clocks an agent is started on.
#[derive(Debug, Clone)]
pub enum Clocks {
    True,
    /// In a time namespace: the host seems to have been up for so much longer.
    Ahead(Duration),
    /// The wall clock is this library's and can be set while the agent runs. Those that count from
    /// the start of the host are left alone, as when an administrator or NTP sets the time.
    Settable(PathBuf),
}

impl Clocks {
    /// Through libfaketime, or why there is none.
    pub fn settable() -> Result<Self, String> {
        let architectures = fs::read_dir("/usr/lib").map_err(|error| error.to_string())?;
        let mut found = architectures.flatten().map(|entry| entry.path().join(LIBRARY));
        let found = found.find(|path| path.is_file()).map(Self::Settable);
        found.ok_or_else(|| "libfaketime is not installed".to_owned())
    }
}

impl Fabric {
    /// Sets the wall clock of a host, whose agent was started on [`Clocks::Settable`], to `ahead` of
    /// the true time.
    ///
    /// # Panics
    /// When the file cannot be written.
    pub fn set_clock(&self, space: Space, ahead: Duration) {
        self.site.set_clock(space, ahead);
    }
}

impl Site {
    /// A program on a host that sees these clocks.
    pub(super) fn on_clocks(&self, space: Space, program: &str, clocks: &Clocks) -> Command {
        let mut command = self.command(space, program);
        match clocks {
            Clocks::True => {}
            Clocks::Ahead(ahead) => {
                let shift = ahead.as_secs().to_string();
                command = self.lab.command(space, "unshare");
                command.args(["--time", "--boottime", &shift, "--monotonic", &shift]);
                command.args(["--fork", "--kill-child"]).arg(self.programs.join(program));
            }
            Clocks::Settable(library) => {
                self.set_clock(space, Duration::ZERO);
                let clock = self.clock(space);
                let variables: [(&str, &Path); 4] = [
                    ("LD_PRELOAD", library),
                    ("FAKETIME_TIMESTAMP_FILE", &clock),
                    ("FAKETIME_NO_CACHE", "1".as_ref()),
                    ("FAKETIME_DONT_FAKE_MONOTONIC", "1".as_ref()),
                ];
                command.envs(variables);
            }
        }
        command
    }

    fn set_clock(&self, space: Space, ahead: Duration) {
        // The agent reads it at each look at the clock, so it is never seen half written.
        let new = self.dir.path().join("clock.new");
        fs::write(&new, format!("+{}\n", ahead.as_secs())).expect("our folder");
        fs::rename(new, self.clock(space)).expect("our folder");
    }

    fn clock(&self, space: Space) -> PathBuf {
        self.dir.path().join(format!("clock-{}", space.name()))
    }
}
