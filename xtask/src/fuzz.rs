//! `cargo xtask fuzz`: every decoder under libFuzzer, guided by coverage.
//!
//! Coverage comes from flags that stable Rust has, so no other toolchain is needed; see
//! `simulations/fuzz/README.md`.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::Mutex,
    thread,
};

use crate::shell::{self, Outcome};

/// How long CI spends on each target: the seeds lead to most of what is to be found at once.
const SECONDS: &str = "15";
/// How long the long run does.
pub(crate) const LONG_SECONDS: &str = "300";
/// Targets that run at once.
const AT_ONCE: usize = 2;
const COVERAGE: &str = "-Cpasses=sancov-module \
    -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
    -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares \
    -Ccodegen-units=1 -Cdebug-assertions=on";
/// Naming the platform keeps the coverage flags away from build scripts and macros.
#[cfg(target_arch = "x86_64")]
const PLATFORM: &str = "x86_64-unknown-linux-gnu";
#[cfg(target_arch = "aarch64")]
const PLATFORM: &str = "aarch64-unknown-linux-gnu";

pub(crate) fn run(arguments: &[&str]) -> Outcome {
    let (seconds, chosen) = match arguments {
        ["--seconds", seconds, chosen @ ..] => (*seconds, chosen),
        chosen => (SECONDS, chosen),
    };
    if seconds.parse::<u32>().is_err() {
        return Err(format!("--seconds takes a whole number, not {seconds:?}"));
    }
    let targets = targets()?;
    if let Some(unknown) = chosen.iter().find(|name| !targets.iter().any(|known| known == *name)) {
        return Err(format!("no target {unknown:?}; the targets are: {}", targets.join(", ")));
    }
    let program = build()?;
    let queue: Vec<&str> = targets
        .iter()
        .map(String::as_str)
        .filter(|name| chosen.is_empty() || chosen.contains(name))
        .rev()
        .collect();
    fuzz_all(&program, seconds, queue)
}

/// Runs what is queued, some at once; the first failure stops the others from starting.
fn fuzz_all(program: &Path, seconds: &str, queue: Vec<&str>) -> Outcome {
    let (queue, failure) = (Mutex::new(queue), Mutex::new(None));
    let take = || queue.lock().expect("no thread panics").pop();
    let failed = || failure.lock().expect("no thread panics");
    thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some(target) = take() {
                    if failed().is_some() {
                        break;
                    }
                    match fuzz_one(program, seconds, target) {
                        Ok(()) => println!("{target}: {seconds} s without a finding"),
                        Err(message) => *failed() = Some(message),
                    }
                }
            });
        }
    });
    failure.into_inner().expect("no thread panics").map_or(Ok(()), Err)
}

fn fuzz_one(program: &Path, seconds: &str, target: &str) -> Outcome {
    let folder = |name: &str| {
        let folder = shell::target_dir().join("fuzz").join(name).join(target);
        fs::create_dir_all(&folder).map(|()| folder).map_err(|error| error.to_string())
    };
    let (corpus, findings) = (folder("corpus")?, folder("findings")?);
    let log = findings.join("log");
    let file = fs::File::create(&log).map_err(|error| error.to_string())?;
    let status = Command::new(program)
        .env("RAP_FUZZ_TARGET", target)
        .arg(format!("-max_total_time={seconds}"))
        .args(["-max_len=73728", "-rss_limit_mb=2048", "-timeout=10", "-print_final_stats=1"])
        .arg(format!("-artifact_prefix={}/", findings.display()))
        .arg(corpus)
        .arg(shell::root().join("simulations/fuzz/seeds").join(target))
        .stderr(file)
        .status()
        .map_err(|error| format!("cannot start the fuzzer: {error}"))?;
    if status.success() {
        return Ok(());
    }
    let text = fs::read_to_string(&log).unwrap_or_default();
    let tail: Vec<_> = text.lines().rev().take(40).collect();
    let tail: Vec<_> = tail.into_iter().rev().collect();
    Err(format!(
        "{target} failed:\n{}\nthe input is in {}; repeat it with\n  \
         RAP_FUZZ_TARGET={target} {} <input>",
        tail.join("\n"),
        findings.display(),
        program.display()
    ))
}

/// The names of the folders of seeds: one for each target, as a test of theirs checks.
fn targets() -> Result<Vec<String>, String> {
    let seeds = shell::root().join("simulations/fuzz/seeds");
    let entries = fs::read_dir(&seeds).map_err(|error| format!("{}: {error}", seeds.display()))?;
    let mut names: Vec<_> =
        entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    Ok(names)
}

fn build() -> Result<PathBuf, String> {
    let target_dir = shell::target_dir().join("fuzz");
    let mut command = shell::cargo(["build", "--quiet", "--locked", "--package=rap-fuzz"]);
    command.args(["--features=libfuzzer", "--bin=rap-fuzz", "--target", PLATFORM]);
    command.env("CARGO_TARGET_DIR", &target_dir).env("RUSTFLAGS", COVERAGE);
    command.env("CARGO_PROFILE_DEV_OPT_LEVEL", "2");
    shell::run(&mut command)?;
    Ok(target_dir.join(PLATFORM).join("debug/rap-fuzz"))
}
