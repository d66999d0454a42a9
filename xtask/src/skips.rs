//! What tests left out because this machine cannot do it. A run that skipped what CI can do shows less
//! than it seems to, and does not pass.

use std::{collections::BTreeSet, fs, io::ErrorKind, path::PathBuf};

use crate::shell::{self, Outcome};

/// Tells tests in which file they collect what they skip, through the crate `rap-skips`.
pub(crate) const VARIABLE: &str = "RAP_SKIPPED";

pub(crate) fn file() -> PathBuf {
    shell::target_dir().join("skipped")
}

/// Before the first test: what an earlier run skipped is of no interest.
pub(crate) fn forget() -> Outcome {
    match fs::remove_file(file()) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(unusable(&error)),
        _ => Ok(()),
    }
}

/// Behind the last test: lists what was skipped. Root on Linux can do all that the tests ask for,
/// and has skipped nothing or says that it permits it.
pub(crate) fn judge(permitted: bool) -> Outcome {
    let text = match fs::read_to_string(file()) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        text => text.map_err(|error| unusable(&error))?,
    };
    let skipped: BTreeSet<&str> = text.lines().collect();
    println!("== skipped");
    skipped.iter().for_each(|line| println!("  {line}"));
    verdict(skipped.len(), permitted || !(cfg!(target_os = "linux") && shell::is_root()?))
}

fn verdict(skipped: usize, permitted: bool) -> Outcome {
    if skipped == 0 || permitted {
        return Ok(());
    }
    Err(format!("{skipped} skipped, which root has to permit with {}", crate::test::PERMIT))
}

fn unusable(error: &std::io::Error) -> String {
    format!("{}: {error}", file().display())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_skip_fails_the_run_unless_it_is_permitted() {
        assert!(verdict(1, false).is_err());
        assert_eq!([verdict(1, true), verdict(0, false)], [Ok(()), Ok(())]);
    }
}
