//! `cargo xtask sim`: the deterministic simulation, built as for measuring: it is many times faster.

use crate::shell::{self, Outcome};

pub(crate) fn run(arguments: &[&str]) -> Outcome {
    let command =
        ["run", "--quiet", "--profile=measure", "--package=rap-simulations", "--bin=rap-sim", "--"];
    shell::run(shell::cargo(command).args(arguments))
}
