//! A verifier of transparency logs that is not ours, from the Python package index.

use std::{path::PathBuf, process::Command};

use crate::shell;

/// The package and the version whose answers the tests know.
const PACKAGE: &str = "aics-tlog==0.2.1";

/// Its program, in an environment of its own below the target folder; installed when missing.
pub(crate) fn ensure() -> Result<PathBuf, String> {
    let folder = shell::target_dir().join("tools").join("aics-tlog");
    let program = folder.join("bin").join("aics-tlog");
    if program.exists() {
        return Ok(program);
    }
    println!("installing {PACKAGE}");
    shell::run(Command::new("python3").args(["-m", "venv"]).arg(&folder))?;
    // It asks for a newer Python than Debian 12 has, and uses nothing of it.
    let mut install = Command::new(folder.join("bin").join("pip"));
    install.args(["install", "--quiet", "--disable-pip-version-check"]);
    shell::run(install.args(["--ignore-requires-python", PACKAGE]))?;
    Ok(program)
}
