//! Programs of more than one release in one fabric.

use std::path::PathBuf;

use super::{Fabric, PATIENCE, Run, Space, person};
use crate::Lab;

impl Fabric {
    /// The same as [`Fabric::start_on`], with the programs of another folder.
    ///
    /// # Panics
    /// When a program fails.
    pub async fn start_from(
        programs: PathBuf,
        change: impl FnOnce(&Lab) -> Result<(), String>,
    ) -> Result<Self, String> {
        Self::start_with(change, programs, None).await
    }

    /// Takes what is started from now on from this folder. People keep their `rap`, and what runs goes on.
    pub fn start_next_from(&mut self, programs: PathBuf) {
        self.site.programs = programs;
    }

    /// Brings the schema of the database up to date.
    pub async fn migrate(&self) -> Run {
        let mut command = self.site.command(Space::Control, "rap-control");
        command.arg("migrate").env("RAP_CONTROL_DATABASE", &self.site.database);
        person::run(command, "").await
    }

    /// Stops the agent of a host (SIGTERM) and starts it anew.
    ///
    /// # Panics
    /// When it fails.
    pub async fn replace_agent(&mut self, space: Space) {
        let ended = self.agent(space).stop(PATIENCE).await;
        assert!(ended.success(), "{space:?}: {ended}");
        self.start_agent(space);
        self.settle().await;
    }
}
