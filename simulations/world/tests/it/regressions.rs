//! Seeds that failed once hold.

use rap_simulations::{beat, fleet, joint, lease, world};

use crate::{daemons, level2, meshes, sessions};

const REGRESSIONS: &str = include_str!("../../regressions.txt");

#[test]
fn seeds_that_failed_once_hold() {
    for line in REGRESSIONS.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let (scenario, seed) = line.split_once(' ').unwrap();
        let seed = seed.parse().unwrap();
        let report = match scenario {
            "fabric" => world::run(world::Options { seed, mutation: None }),
            "leases" => lease::run(lease::Options { seed, mutation: None }),
            "beat" => beat::run(beat::Options { seed, mutation: None }),
            "joint" => joint::run(joint::Options { seed, mutation: None }),
            "lanes" => meshes::report(level2::seed(seed)),
            "messages" => meshes::messages::report(level2::seed(seed)),
            "agents" => daemons::report(level2::seed(seed)),
            "sessions" => sessions::report(level2::seed(seed)),
            sized if sized.starts_with("fleet-") => {
                let nodes = sized["fleet-".len()..].parse().unwrap();
                fleet::run(fleet::Options { seed, nodes, mutation: None })
            }
            other => panic!("there is no scenario {other}"),
        };
        assert_eq!(report.violation, None, "\n{report}");
    }
}
