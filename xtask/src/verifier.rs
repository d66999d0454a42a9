//! Verifiers of transparency logs that are not ours, from the Python package index.

use std::{fs, path::PathBuf, process::Command};

use crate::shell;

/// The packages, of versions whose answers the tests know: one audits logs in the layout of C2SP's
/// `tlog-tiles`, one makes a Merkle tree (RFC 9162) of all leaves.
const PACKAGES: &[&str] = &["aics-tlog==0.2.1", "pymerkle==7.0.0"];

/// The folder of their programs, in an environment of its own below the target folder; installed
/// when missing.
pub(crate) fn ensure() -> Result<PathBuf, String> {
    let folder = shell::target_dir().join("tools").join("verifiers");
    let programs = folder.join("bin");
    // Written last, so an installation that was cut short is made again.
    let installed = folder.join(PACKAGES.join("+"));
    if installed.exists() {
        return Ok(programs);
    }
    println!("installing {}", PACKAGES.join(", "));
    shell::run(Command::new("python3").args(["-m", "venv"]).arg(&folder))?;
    // The first asks for a newer Python than Debian 12 has, and uses nothing of it.
    let mut install = Command::new(programs.join("pip"));
    install.args(["install", "--quiet", "--disable-pip-version-check"]);
    shell::run(install.arg("--ignore-requires-python").args(PACKAGES))?;
    fs::write(&installed, "").map_err(|error| format!("{}: {error}", installed.display()))?;
    Ok(programs)
}
