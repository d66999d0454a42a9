//! Several control servers over one database.

use std::{fs, os::unix::fs::DirBuilderExt as _};

use super::{CONTROL_PORT, Fabric, PASSWORD, PATIENCE, Person, Run, Site, Space, person};
use crate::until;

/// The control server that every fabric has. Nodes know it alone, unless they are told of others.
pub const FIRST: u16 = 0;
/// Each replica's own; the copy of a state directory leaves it out.
const OWN_KEY: &str = "replica.key";

impl Fabric {
    /// Starts one more control server beside the others and waits until it answers.
    pub async fn add_replica(&mut self, number: u16) {
        self.site.copy_control_state(number);
        self.start_replica(number).await;
    }

    /// Starts a control server that was there before, and waits until it answers.
    pub async fn start_replica(&mut self, number: u16) {
        let replica = self.site.start_control(number);
        self.control.insert(number, replica);
        until(&format!("replica {number} answers"), PATIENCE, async || {
            self.is_ready(number).await.then_some(())
        })
        .await;
    }

    /// From now on whoever is started tells nodes of these control servers; the first one is started
    /// again.
    pub async fn tell_servers(&mut self, numbers: &[u16]) {
        self.site.told = numbers.to_vec();
        self.stop_replica(FIRST).await;
        self.start_replica(FIRST).await;
    }

    /// Whether a control server says that it is ready.
    pub async fn is_ready(&self, number: u16) -> bool {
        let url = format!("{}/readyz", self.replica_url(number));
        self.owner.run("curl", &["-sSfk", "-o", "/dev/null", &url]).await.code == 0
    }

    pub fn replica_url(&self, number: u16) -> String {
        control_url(number)
    }

    /// Kills a control server (SIGKILL).
    ///
    /// # Panics
    /// When it does not run.
    pub async fn kill_replica(&mut self, number: u16) {
        self.control.remove(&number).expect("it runs").kill().await;
    }

    /// Has a control server finish what it does (SIGTERM).
    ///
    /// # Panics
    /// When it does not run, or fails.
    pub async fn stop_replica(&mut self, number: u16) {
        let ended = self.control.remove(&number).expect("it runs").stop(PATIENCE).await;
        assert!(ended.success(), "replica {number}: {ended}");
    }

    /// Has a control server's own key signed into the statement of who signs beats.
    pub async fn list_replica(&self, number: u16) -> Run {
        person::run(self.site.control(number, &["replica", "add"]), "").await
    }

    /// The platform's owner, logged in at one replica.
    pub async fn owner_at(&self, number: u16) -> Person {
        let profile = format!("replica-{number}");
        let owner = self.owner.with("RAP_CONTROL", control_url(number));
        let owner = owner.with("RAP_PROFILE", profile);
        let words = ["login", "--user", "owner", "--password-stdin"];
        owner.rap_with_input(&words, PASSWORD).await.ok();
        owner
    }

    /// Alice, logged in anew at the first control server, who names none from then on.
    pub async fn alice_anew(&self) -> Person {
        let alice = self.alice.without("RAP_CONTROL");
        let words = ["login", "--user", "alice", "--password-stdin"];
        alice.rap_with_input(&words, PASSWORD).await.ok();
        alice
    }
}

impl Site {
    fn copy_control_state(&self, number: u16) {
        let copy = self.control_state(number);
        fs::DirBuilder::new().mode(0o700).create(&copy).expect("our folder");
        for entry in fs::read_dir(self.control_state(FIRST)).expect("our folder") {
            let entry = entry.expect("our folder");
            if entry.file_name() != OWN_KEY {
                fs::copy(entry.path(), copy.join(entry.file_name())).expect("our folder");
            }
        }
    }
}

pub(super) fn control_url(number: u16) -> String {
    format!("https://{}:{}", Space::Control.address(), CONTROL_PORT + number)
}

/// The name of a replica's process and of its folder.
pub(super) fn name(number: u16) -> String {
    if number == FIRST { "control".to_owned() } else { format!("control-{number}") }
}
