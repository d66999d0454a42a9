//! `cargo xtask sim`: the deterministic simulation.

use crate::shell::{self, Outcome};

pub(crate) fn run(arguments: &[&str]) -> Outcome {
    let command = ["run", "--quiet", "--package=rap-simulations", "--bin=rap-sim", "--"];
    shell::run(shell::cargo(command).args(arguments))
}
