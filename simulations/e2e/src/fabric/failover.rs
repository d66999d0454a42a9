//! A database of which another server takes over.

use std::{fs, os::unix::fs::symlink};

use super::{Fabric, PATIENCE, Site};
use crate::until;

/// The folder of the first server, and of the one that takes over.
pub(super) const PRIMARY: &str = "postgres";
const STANDBY: &str = "standby";
/// Below each: where the server is reached.
const ADDRESS: &str = "run";
const LOST_ADDRESS: &str = "run-lost";

impl Fabric {
    /// Starts a server that follows the database asynchronously.
    ///
    /// # Panics
    /// When it does not start.
    pub async fn add_standby(&mut self) {
        let folder = self.site.dir.path().join(STANDBY);
        self.standby = Some(self.postgres.start_standby(&folder).await.expect("a standby starts"));
    }

    /// Waits until the standby has all that is in the database now, and cuts it off.
    ///
    /// # Panics
    /// When there is no standby, or it does not follow.
    pub async fn cut_off_standby(&mut self) {
        let position = self.postgres.position().await.expect("the database answers");
        let standby = self.standby.as_mut().expect("there is a standby");
        until("the standby has everything", PATIENCE, async || {
            standby.has_reached(&position).await.ok()?.then_some(())
        })
        .await;
        standby.halt().await;
    }

    /// Kills the database, promotes the standby and gives it the database's address.
    ///
    /// # Panics
    /// When there is no standby, or it is not promoted.
    pub async fn fail_over(&mut self) {
        self.postgres.kill().await;
        let mut standby = self.standby.take().expect("there is a standby");
        standby.restart().await.expect("the standby starts");
        standby.promote().await.expect("the standby is promoted");
        self.site.move_database();
        self.postgres = standby;
    }
}

impl Site {
    fn move_database(&self) {
        let address = self.dir.path().join(PRIMARY).join(ADDRESS);
        fs::rename(&address, address.with_file_name(LOST_ADDRESS)).expect("our folder");
        symlink(self.dir.path().join(STANDBY).join(ADDRESS), address).expect("our folder");
    }
}
