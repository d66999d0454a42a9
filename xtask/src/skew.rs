//! `cargo xtask skew`: the end-to-end test of two releases at once, with the programs of the release
//! before built from its commit.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{
    shell::{self, Outcome},
    skips,
};

/// Has the commit of the release before. Whoever makes a release writes the last one's there.
const OLDER_RELEASE: &str = "simulations/e2e/older-release";
/// Tells the test where the programs of the release before are.
const OLDER_PROGRAMS: &str = "RAP_OLDER_BIN_DIR";
/// What the test's name begins with. Only this command runs it.
pub(crate) const TEST: &str = "skew::";
/// How many digits a commit's name has.
const DIGITS: usize = 40;

pub(crate) fn run(arguments: &[&str]) -> Outcome {
    let permits_skips = match arguments {
        [] => false,
        [crate::test::PERMIT] => true,
        _ => return Err(format!("skew takes {}, and nothing else", crate::test::PERMIT)),
    };
    skips::forget()?;
    test().and(skips::judge(permits_skips))
}

/// Builds what is missing and runs the test.
pub(crate) fn test() -> Outcome {
    let path = shell::root().join(OLDER_RELEASE);
    let text = fs::read_to_string(&path).map_err(|error| format!("{OLDER_RELEASE}: {error}"))?;
    let programs = older_programs(commit(&text)?)?;
    shell::run(&mut shell::cargo(["build", "--quiet", "--workspace", "--bins", "--locked"]))?;
    let mut command = shell::cargo(["test", "--workspace", "--test=e2e", "--locked", "--"]);
    command.args([TEST, "--nocapture"]).env(OLDER_PROGRAMS, programs);
    shell::run(command.env(skips::VARIABLE, skips::file()))
}

fn commit(text: &str) -> Result<&str, String> {
    let commit = text.trim();
    let is_name = commit.len() == DIGITS && commit.bytes().all(|b| b.is_ascii_hexdigit());
    is_name.then_some(commit).ok_or_else(|| format!("{OLDER_RELEASE}: not a commit: {commit:?}"))
}

/// The folder with the programs of a commit. They are kept, and so are their dependencies for the next one.
fn older_programs(commit: &str) -> Result<PathBuf, String> {
    let folder = shell::target_dir().join("skew");
    let (tree, target) = (folder.join("tree"), folder.join("target"));
    check_out(commit, &tree)?;
    println!("building the programs of {commit}");
    let mut build = shell::cargo(["build", "--quiet", "--workspace", "--bins", "--locked"]);
    shell::run(build.current_dir(&tree).env("CARGO_TARGET_DIR", &target))?;
    Ok(target.join("debug"))
}

fn check_out(commit: &str, tree: &Path) -> Outcome {
    let is_here = |object: &str| {
        let output = git().args(["cat-file", "-e", object]).output();
        output.is_ok_and(|output| output.status.success())
    };
    if !is_here(&format!("{commit}^{{commit}}")) {
        return Err(format!(
            "this clone does not have {commit}, the release before ({OLDER_RELEASE}); where it is shallow: \
             git fetch --unshallow"
        ));
    }
    if tree.join(".git").exists() {
        return switch(commit, tree);
    }
    // Unlike a worktree, it leaves nothing behind in the repository when its folder is removed.
    let clone = ["clone", "--quiet", "--shared", "--no-checkout", "."];
    shell::run(git().args(clone).arg(tree))?;
    switch(commit, tree)
}

fn switch(commit: &str, tree: &Path) -> Outcome {
    let checkout = ["checkout", "--quiet", "--force", "--detach", commit];
    shell::run(Command::new("git").arg("-C").arg(tree).args(checkout))
}

fn git() -> Command {
    let mut command = Command::new("git");
    command.current_dir(shell::root());
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_release_before_is_a_commit() {
        let text = fs::read_to_string(shell::root().join(OLDER_RELEASE)).expect("a file of ours");
        assert_eq!(commit(&text).map(str::len), Ok(DIGITS));
        for wrong in ["", "main", "cfc83107", "--detach"] {
            assert!(commit(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_clone_without_the_release_before_is_told_so() {
        let none = "0123456789012345678901234567890123456789";
        let told = check_out(none, &shell::target_dir().join("nowhere"));
        assert!(told.is_err_and(|told| told.contains(none) && told.contains("--unshallow")));
    }

    #[test]
    fn only_skips_are_permitted() {
        assert!(run(&["--long"]).is_err());
    }
}
