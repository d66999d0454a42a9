//! `cargo xtask bench`: measures, and writes `docs/benchmarks.md`.
//!
//! Each program prints lines of `figure<TAB>value<TAB>unit`, and of `figure<TAB>skipped<TAB>reason`
//! for what this machine does not let it measure. The programs run in turn, several rounds, so that
//! a slow minute of the machine falls on all of them; what is reported is the median, and what is
//! claimed is a ratio between two figures of the same rounds, or one figure.

mod machine;
mod report;

use std::{collections::BTreeMap, fs, process::Command};

use crate::shell::{self, Outcome};

/// How many rounds there are where nobody says it, and the most that may be asked for.
const ROUNDS: usize = 5;
const MAX_ROUNDS: usize = 99;

/// What has to be built, by the words that tell cargo: each line with features of its own.
const BUILDS: &[&[&str]] = &[
    &["--package=rap-mesh", "--example=mesh_bench"],
    &["--package=rap-mesh-core", "--example=score_bench"],
    &["--package=rap-simulations", "--bin=rap-sim"],
    &[
        "--package=rap-e2e",
        "--package=rap",
        "--package=rap-control",
        "--package=rap-node-agent",
        "--package=rap-stream-worker",
        "--bins",
    ],
];

/// Programs that measure, by where cargo puts them, and what they are told.
const PROGRAMS: &[(&str, &[&str])] = &[
    ("measure/examples/score_bench", &[]),
    ("measure/rap-sim", &["--figure", "--scenario", "leases", "--seeds", "3000"]),
    ("measure/rap-sim", &["--figure", "--scenario", "fleet", "--seeds", "200"]),
    ("measure/rap-sim", &["--figure", "--scenario", "fabric", "--seeds", "100"]),
    ("measure/rap-sim", &["--figure", "--scenario", "beat", "--seeds", "60"]),
    ("measure/rap-sim", &["--figure", "--scenario", "joint", "--seeds", "10"]),
    // Three runs of 3 s: one alone says too little of a ratio near its target.
    ("measure/examples/mesh_bench", &["3", "3"]),
    ("measure/rap-e2e-bench", &[]),
    ("measure/rap-log-bench", &[]),
];

/// What stands in a value's place when there is none, with the reason behind it.
const SKIPPED: &str = "skipped";

/// All values of a figure, one a round, and its unit; or why there are fewer.
#[derive(Debug, Default)]
pub(crate) struct Figure {
    values: Vec<f64>,
    unit: String,
    skipped: Option<String>,
}

impl Figure {
    pub(crate) fn median(&self) -> f64 {
        let mut sorted = self.values.clone();
        sorted.sort_by(f64::total_cmp);
        sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
    }
}

pub(crate) type Figures = BTreeMap<String, Figure>;

pub(crate) fn run(arguments: &[&str]) -> Outcome {
    let rounds = rounds(arguments)?;
    for words in BUILDS {
        shell::run(shell::cargo(["build", "--quiet", "--profile=measure"]).args(*words))?;
    }
    let mut figures = Figures::new();
    let path = shell::root().join("docs/benchmarks.md");
    for round in 1..=rounds {
        for (program, words) in PROGRAMS {
            eprintln!("round {round} of {rounds}: {program} {}", words.join(" "));
            let mut command = Command::new(shell::target_dir().join(program));
            command.args(*words);
            command.env("RAP_BIN_DIR", shell::target_dir().join("measure"));
            collect(&shell::output(&mut command)?, &mut figures)?;
        }
        // Whoever has to stop here keeps what was measured.
        let text = report::write(&machine::describe(), round, &figures);
        fs::write(&path, text)
            .map_err(|error| format!("cannot write {}: {error}", path.display()))?;
    }
    println!("wrote {}", path.display());
    Ok(())
}

fn rounds(arguments: &[&str]) -> Result<usize, String> {
    match arguments {
        [] => Ok(ROUNDS),
        ["--rounds", number] => match number.parse() {
            Ok(rounds @ 1..=MAX_ROUNDS) => Ok(rounds),
            _ => Err(format!("--rounds takes a number from 1 to {MAX_ROUNDS}")),
        },
        _ => Err("bench takes --rounds N, and nothing else".to_owned()),
    }
}

fn collect(output: &str, figures: &mut Figures) -> Outcome {
    for line in output.lines() {
        let mut parts = line.split('\t');
        let (Some(name), Some(value), Some(unit)) = (parts.next(), parts.next(), parts.next())
        else {
            return Err(format!("not a figure: {line:?}"));
        };
        let figure = figures.entry(name.to_owned()).or_default();
        if value == SKIPPED {
            figure.skipped = Some(unit.to_owned());
            continue;
        }
        figure.values.push(value.parse().map_err(|_| format!("not a number: {line:?}"))?);
        unit.clone_into(&mut figure.unit);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_collected_over_rounds_and_their_median_is_taken() {
        let mut figures = Figures::new();
        for value in ["3", "1", "2"] {
            collect(&format!("rate\t{value}\tMB/s"), &mut figures).expect("a figure");
        }
        assert!((figures["rate"].median() - 2.0).abs() < f64::EPSILON);
        collect("pace\tskipped\tno namespaces", &mut figures).expect("a reason");
        assert_eq!(figures["pace"].skipped.as_deref(), Some("no namespaces"));
        assert!(figures["pace"].values.is_empty());
        assert!(collect("rate 3", &mut figures).is_err());
        assert!(collect("rate\tfast\tMB/s", &mut figures).is_err());
    }

    #[test]
    fn as_many_rounds_run_as_somebody_says_within_bounds() {
        assert_eq!(rounds(&[]), Ok(ROUNDS));
        assert_eq!(rounds(&["--rounds", "3"]), Ok(3));
        for wrong in [&["--rounds", "0"][..], &["--rounds", "100"], &["--rounds"], &["3"]] {
            assert!(rounds(wrong).is_err(), "{wrong:?}");
        }
    }
}
