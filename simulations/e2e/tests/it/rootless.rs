//! Tests for people who are not root: each runs again as root of a user namespace of its own.
//!
//! That needs subordinate user ids (`/etc/subuid` and Debian's package `uidmap`), because
//! PostgreSQL and sshd want other users than root.

use std::process::{Command, Stdio};

/// Set for the child.
const INSIDE: &str = "RAP_E2E_INSIDE";
const UNSHARE: [&str; 8] = [
    "--user",
    "--map-root-user",
    "--map-auto",
    "--mount",
    "--net",
    "--pid",
    "--fork",
    "--mount-proc",
];
/// `ip netns`, sshd and PostgreSQL keep things below /run.
const PREPARE: &str = "mount -t tmpfs tmpfs /run && exec \"$@\"";

/// Whether this process leaves the test alone: because a child has passed it, or because the
/// machine lets nobody but root do it.
///
/// # Panics
/// When the child has failed.
pub(crate) fn is_for_a_child(test: &str) -> bool {
    if rustix::process::geteuid().is_root() || std::env::var_os(INSIDE).is_some() {
        return false;
    }
    let probe = Command::new("unshare").args(UNSHARE).arg("true").stdin(Stdio::null()).output();
    match probe {
        Ok(output) if output.status.success() => {}
        Ok(output) => {
            let words = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            super::skip(test, &format!("not root, and no user namespace: {words}"));
            return true;
        }
        Err(error) => {
            super::skip(test, &format!("not root, and no `unshare`: {error}"));
            return true;
        }
    }
    let own = std::env::current_exe().unwrap();
    let status = Command::new("unshare")
        .args(UNSHARE)
        .args(["sh", "-c", PREPARE, "sh"])
        .arg(own)
        .args([test, "--exact", "--nocapture"])
        .env(INSIDE, "yes")
        .stdin(Stdio::null())
        .status()
        .unwrap();
    assert!(status.success(), "{test} failed inside a user namespace ({status})");
    true
}
