//! The commands that a developer and a newcomer type: `cargo xtask <command>`.

mod bench;
mod contract;
mod demo;
mod fuzz;
mod packages;
mod shell;
mod sim;
mod skew;
mod skips;
mod test;
mod verifier;

use std::process::ExitCode;

const USAGE: &str = "\
cargo xtask <command>

  demo                     build and start a whole fabric on this machine, to try it
  test [--long] [--permit-skips] [STEP…]
                           everything that CI runs; steps can be named one by one; --long kills,
                           pauses and cuts off many more times; what this machine cannot do is
                           skipped and listed, and fails the run of root unless permitted
  ci                       the same as test
  sim [--scenario fabric|leases|beat|fleet|joint|lanes|messages|agents|sessions] [--nodes N]
      [--seed N] [--seeds N] [--minutes M] [--plant BUG] [--runs N]
                           deterministic simulation; a failing seed prints how to repeat it; with
                           --runs 2 each seed of lanes, messages, agents or sessions runs twice, and
                           has to be one history
  skew [--permit-skips]    builds the programs of the release before, and updates a fabric from them
                           to these, one by one; test --long does so, too
  fuzz [--seconds N] [TARGET…]
                           coverage-guided fuzzing of every decoder
  bench [--rounds N]       measure, and write docs/benchmarks.md
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let outcome = match arguments.split_first() {
        Some((&"demo", rest)) => demo::run(rest),
        Some((&("test" | "ci"), rest)) => test::run(rest),
        Some((&"sim", rest)) => sim::run(rest),
        Some((&"skew", rest)) => skew::run(rest),
        Some((&"fuzz", rest)) => fuzz::run(rest),
        Some((&"bench", rest)) => bench::run(rest),
        Some((&("help" | "--help" | "-h"), _)) => {
            print!("{USAGE}");
            Ok(())
        }
        _ => Err(format!("no such command\n\n{USAGE}")),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("xtask: {message}");
            ExitCode::FAILURE
        }
    }
}
