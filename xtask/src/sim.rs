//! `cargo xtask sim`: the deterministic simulation. Level 1 is built as for measuring: it is many times faster.
//! Level 2 is among the tests of the simulations, and built as they are.

use std::process::{Command, Stdio};

use crate::shell::{self, Outcome};

/// The scenarios of level 2, each with the test that looks at its seeds: those of `rap_simulations::level2`,
/// which a structure rule compares.
const LEVEL_2: &[(&str, &str)] = &[
    ("lanes", "meshes::a_lane_goes_on_through_crashes_cuts_and_moves_and_nothing_is_lost_or_twice"),
    (
        "messages",
        "meshes::messages::\
         messages_are_whole_where_they_are_reliable_and_counted_where_they_are_dropped",
    ),
    ("agents", "daemons::whole_agents_carry_a_connection_one_at_a_time_through_cuts_and_crashes"),
    (
        "sessions",
        "sessions::sessions_through_whole_agents_lose_nothing_while_relays_crash_and_clients_move",
    ),
];

/// What is said of a scenario, and the variable by which its test is told.
const VARIABLES: &[(&str, &str)] = &[
    ("--seed", "RAP_SIM_SEED"),
    ("--seeds", "RAP_SIM_SEEDS"),
    ("--runs", "RAP_SIM_RUNS"),
    ("--plant", "RAP_SIM_PLANT"),
];
const SECONDS: &str = "RAP_SIM_SECONDS";
const MINUTES: &str = "--minutes";

pub(crate) fn run(arguments: &[&str]) -> Outcome {
    let chosen = value_of("--scenario", arguments);
    if let Some(scenario) = LEVEL_2.iter().find(|(name, _)| Some(*name) == chosen) {
        return level_2(scenario, arguments, 1);
    }
    let command =
        ["run", "--quiet", "--profile=measure", "--package=rap-simulations", "--bin=rap-sim", "--"];
    shell::run(shell::cargo(command).args(arguments))?;
    // Whoever wants to search for minutes, and says nothing else, searches everywhere.
    match arguments {
        [MINUTES, _] => {
            LEVEL_2.iter().try_for_each(|scenario| level_2(scenario, arguments, LEVEL_2.len()))
        }
        _ => Ok(()),
    }
}

/// One scenario, for its share of the minutes that are asked for.
fn level_2(&(name, test): &(&str, &str), arguments: &[&str], shares: usize) -> Outcome {
    let mut command = shell::cargo([
        "test",
        "--quiet",
        "--package=rap-simulations",
        "--test=it",
        "--locked",
        "--",
        "--exact",
        "--nocapture",
        test,
    ]);
    command.envs(asked(arguments, shares)?);
    let said = said(&mut command)?;
    // A test that is called something else now would look at nothing.
    let looked = said.lines().any(|line| line.starts_with(&format!("{name}: ")));
    if looked { Ok(()) } else { Err(format!("there is no test {test}")) }
}

/// The environment of a test for what the arguments ask for.
fn asked(arguments: &[&str], shares: usize) -> Result<Vec<(&'static str, String)>, String> {
    let mut variables = Vec::new();
    for pair in arguments.chunks(2) {
        let [option, value] = pair else { return Err(format!("{pair:?} lacks a value")) };
        let known = VARIABLES.iter().find(|(known, _)| known == option);
        match (known, *option) {
            (Some((_, variable)), _) => variables.push((*variable, (*value).to_owned())),
            (None, MINUTES) => {
                let minutes: usize =
                    value.parse().map_err(|_| format!("{value:?} is no number of minutes"))?;
                variables.push((SECONDS, (60 * minutes / shares).to_string()));
            }
            (None, "--scenario") => {}
            (None, other) => return Err(format!("level 2 has no {other}")),
        }
    }
    Ok(variables)
}

fn value_of<'a>(option: &str, arguments: &[&'a str]) -> Option<&'a str> {
    let place = arguments.iter().position(|argument| *argument == option)?;
    arguments.get(place + 1).copied()
}

/// Runs to the end, and shows what it says. Returns that.
fn said(command: &mut Command) -> Result<String, String> {
    let output = command.stderr(Stdio::inherit()).output();
    let output = output.map_err(|error| format!("cannot start cargo: {error}"))?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    print!("{said}");
    if output.status.success() { Ok(said) } else { Err("the tests failed".to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_and_a_bug_are_told_by_the_environment_and_minutes_are_shared() {
        let repeated = ["--scenario", "agents", "--seed", "7", "--plant", "driver-goes-on"];
        let expected = [("RAP_SIM_SEED", "7"), ("RAP_SIM_PLANT", "driver-goes-on")];
        let expected = expected.map(|(name, value)| (name, value.to_owned()));
        assert_eq!(asked(&repeated, 1), Ok(expected.to_vec()));
        assert_eq!(asked(&["--minutes", "2"], 4), Ok(vec![(SECONDS, "30".to_owned())]));
        assert!(asked(&["--nodes", "10"], 1).is_err());
        assert!(asked(&["--seed"], 1).is_err());
        assert_eq!(value_of("--scenario", &repeated), Some("agents"));
    }
}
