//! `cargo xtask demo`: a whole fabric on this machine.

use std::process::Command;

use crate::shell::{self, Outcome};

pub(crate) fn run(arguments: &[&str]) -> Outcome {
    eprintln!("building (the first time this takes some minutes)");
    shell::run(&mut shell::cargo(["build", "--quiet", "--package=rap"]))?;
    let program = shell::target_dir().join("debug").join("rap");
    shell::run(Command::new(program).arg("dev").args(arguments))
}
