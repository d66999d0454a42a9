//! `cargo xtask test`: everything that CI runs, step by step, the cheap steps first. `--long` is the
//! same with many more rounds of what is killed, paused and cut off, longer fuzzing, and an update from
//! the release before.

use std::{num::NonZero, process::Command, thread, time::Instant};

use crate::{
    contract, fuzz, packages,
    shell::{self, Outcome},
    skew, skips, verifier,
};

/// The cargo-deny that checks licences, sources and bans.
const CARGO_DENY_VERSION: &str = "0.20.2";

/// Lease worlds are small: many seeds take as long as few of the other scenario.
const LEASE_SEEDS: &str = "3000";
const LEASE_SEEDS_OF_A_COMMIT: &str = "1000";
/// Beats are signed for real, which takes longer than all the rest of their world.
const BEAT_SEEDS: &str = "200";
const BEAT_SEEDS_OF_A_COMMIT: &str = "60";

/// Every part at once takes the longest.
const JOINT_SEEDS: &str = "120";
const JOINT_SEEDS_OF_A_COMMIT: &str = "15";

/// Of ten nodes each, and of so many others.
const FLEET_SEEDS: &str = "200";
const FLEET_SEEDS_OF_A_COMMIT: &str = "60";
const LARGE_FLEETS: [(&str, &str); 3] = [("100", "6"), ("1000", "1"), ("10000", "1")];

/// How many rounds the tests run that ask for their number, by the variable that they ask.
const LONG_ROUNDS: &[(&str, &str)] =
    &[("RAP_CRASH_ROUNDS", "200"), ("RAP_LEASE_ROUNDS", "100"), ("RAP_ISOLATION_ROUNDS", "1")];
const LONG: &str = "--long";
/// Lets root's run pass although tests were skipped.
pub(crate) const PERMIT: &str = "--permit-skips";
const LONG_FUZZ: &[&str] = &["--seconds", fuzz::LONG_SECONDS];

/// Who sets it decides how many tests run at once.
const TEST_THREADS: &str = "RUST_TEST_THREADS";

/// What a step is told: how many rounds.
type Rounds = &'static [(&'static str, &'static str)];
/// A name to choose it by, and what it does.
type Step = (&'static str, fn(Rounds) -> Outcome);

/// What the arguments ask for.
struct Choice {
    rounds: Rounds,
    permits_skips: bool,
    steps: Vec<Step>,
}

const STEPS: &[Step] = &[
    ("packages", |_| packages::ensure()),
    ("format", |_| format()),
    ("lint", |_| lint()),
    ("docs", |_| docs()),
    ("build", |_| build()),
    ("unit", unit),
    ("contract", |_| contract::run()),
    ("sim", |_| simulate()),
    ("e2e", end_to_end),
    ("fuzz", |rounds| fuzz::run(if rounds.is_empty() { &[] } else { LONG_FUZZ })),
    ("deny", |_| deny()),
];

pub(crate) fn run(arguments: &[&str]) -> Outcome {
    let choice = choose(arguments)?;
    skips::forget()?;
    let passed = choice.steps.iter().try_for_each(|(name, step)| {
        println!("== {name}");
        let start = Instant::now();
        step(choice.rounds)?;
        println!("== {name}: passed in {} s", start.elapsed().as_secs());
        Ok(())
    });
    // What failed counts more, and what was skipped is listed all the same.
    passed.and(skips::judge(choice.permits_skips))
}

fn choose(arguments: &[&str]) -> Result<Choice, String> {
    let (options, named): (Vec<&str>, Vec<&str>) =
        arguments.iter().partition(|argument| [LONG, PERMIT].contains(argument));
    if let Some(name) = named.iter().find(|name| STEPS.iter().all(|(step, _)| step != *name)) {
        let known: Vec<_> = STEPS.iter().map(|(step, _)| *step).collect();
        return Err(format!("no step {name:?}; the steps are: {}", known.join(", ")));
    }
    let chosen = STEPS.iter().filter(|(step, _)| named.is_empty() || named.contains(step));
    Ok(Choice {
        rounds: if options.contains(&LONG) { LONG_ROUNDS } else { &[] },
        permits_skips: options.contains(&PERMIT),
        steps: chosen.copied().collect(),
    })
}

fn format() -> Outcome {
    shell::run(&mut shell::cargo(["fmt", "--all", "--check"]))
}

fn lint() -> Outcome {
    shell::run(&mut shell::cargo([
        "clippy",
        "--quiet",
        "--workspace",
        "--all-targets",
        "--locked",
        "--",
        "--deny=warnings",
    ]))
}

fn docs() -> Outcome {
    let mut command =
        shell::cargo(["doc", "--quiet", "--workspace", "--lib", "--no-deps", "--locked"]);
    shell::run(command.env("RUSTDOCFLAGS", "--deny=warnings"))
}

fn build() -> Outcome {
    shell::run(&mut shell::cargo(["build", "--quiet", "--workspace", "--all-targets", "--locked"]))
}

/// Twice as many at once as there are cores: what takes the time waits for sockets and databases.
fn unit(rounds: Rounds) -> Outcome {
    let mut command =
        shell::cargo(["test", "--quiet", "--workspace", "--exclude=rap-e2e", "--locked"]);
    command.env(skips::VARIABLE, skips::file());
    // Level 2 of the simulation looks also at seeds that follow from the commit, as level 1 does.
    if let Ok(commit) = commit() {
        command.env("RAP_SIM_COMMIT", commit);
    }
    if std::env::var_os(TEST_THREADS).is_none() {
        let cores = thread::available_parallelism().map_or(1, NonZero::get);
        command.env(TEST_THREADS, (2 * cores).to_string());
    }
    shell::run(command.envs(rounds.iter().copied()))
}

/// Fixed seeds, and a block of others that follows from the commit. With the program that the
/// build step made: building it alone would choose other features and compile them again.
fn simulate() -> Outcome {
    let program = shell::target_dir().join("debug").join("rap-sim");
    let fixed = |scenario, seeds| {
        shell::run(Command::new(&program).args(["--scenario", scenario, "--seeds", seeds]))
    };
    fixed("fabric", "1000")?;
    fixed("leases", LEASE_SEEDS)?;
    fixed("beat", BEAT_SEEDS)?;
    fixed("joint", JOINT_SEEDS)?;
    fixed("fleet", FLEET_SEEDS)?;
    for (nodes, seeds) in LARGE_FLEETS {
        let arguments = ["--scenario", "fleet", "--nodes", nodes, "--seeds", seeds];
        shell::run(Command::new(&program).args(arguments))?;
    }
    let commit = commit()?;
    let block = |scenario, seeds| {
        let arguments = ["--scenario", scenario, "--seeds", seeds, "--commit", &commit];
        shell::run(Command::new(&program).args(arguments))
    };
    block("fabric", "200")?;
    block("leases", LEASE_SEEDS_OF_A_COMMIT)?;
    block("beat", BEAT_SEEDS_OF_A_COMMIT)?;
    block("joint", JOINT_SEEDS_OF_A_COMMIT)?;
    block("fleet", FLEET_SEEDS_OF_A_COMMIT)
}

fn commit() -> Result<String, String> {
    let mut head = Command::new("git");
    shell::output(head.args(["rev-parse", "HEAD"]).current_dir(shell::root()))
}

/// Out of the whole workspace: a package alone would choose other features, and compile most of its
/// dependencies again.
fn end_to_end(rounds: Rounds) -> Outcome {
    let mut command = shell::cargo([
        "test",
        "--workspace",
        "--test=e2e",
        "--locked",
        "--",
        "--test-threads=1",
        "--nocapture",
        "--skip",
        skew::TEST,
    ]);
    command.envs(rounds.iter().copied()).env(skips::VARIABLE, skips::file());
    shell::run(command.env("RAP_VERIFIERS", verifier::ensure()?))?;
    // Another release has to be built for it.
    if rounds.is_empty() { Ok(()) } else { skew::test() }
}

/// The advisory database lives on the network and moves; CI checks what this tree itself says.
fn deny() -> Outcome {
    let tools = shell::target_dir().join("tools");
    let installed = tools.join("bin").join("cargo-deny");
    let program = if shell::answers("cargo-deny", "--version") {
        "cargo-deny".into()
    } else {
        if !installed.exists() {
            println!("installing cargo-deny {CARGO_DENY_VERSION}");
            let mut install = shell::cargo(["install", "--quiet", "--locked", "cargo-deny"]);
            install.args(["--version", CARGO_DENY_VERSION, "--no-default-features", "--root"]);
            shell::run(install.arg(&tools))?;
        }
        installed
    };
    let mut check = Command::new(program);
    check.current_dir(shell::root());
    shell::run(check.args(["check", "bans", "licenses", "sources"]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(arguments: &[&str]) -> Result<(usize, Vec<&'static str>), String> {
        let choice = choose(arguments)?;
        Ok((choice.rounds.len(), choice.steps.into_iter().map(|(name, _)| name).collect()))
    }

    #[test]
    fn steps_run_as_they_are_named_and_long_only_when_somebody_says_so() {
        assert_eq!(chosen(&["e2e", "unit"]), Ok((0, vec!["unit", "e2e"])));
        assert_eq!(chosen(&["unit", "--long"]), Ok((LONG_ROUNDS.len(), vec!["unit"])));
        let all = STEPS.iter().map(|(name, _)| *name).collect();
        assert_eq!(chosen(&["--long"]), Ok((LONG_ROUNDS.len(), all)));
        assert!(chosen(&["unit", "--longer"]).is_err());
        let permits = |arguments| choose(arguments).is_ok_and(|choice| choice.permits_skips);
        assert!(permits(&[PERMIT, "unit"]) && !permits(&["unit"]));
    }
}
