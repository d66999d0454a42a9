//! A direct path that becomes slow is left for a relay, and taken again when it is as it was.

use std::time::Duration;

use rap_mesh::Path;
use rap_mesh_core::lane_path::{BETTER_FOR, BETTER_WITHIN, SLOW_REST};

use super::{
    BEGINS, MOST_SILENT, NODES, Run, SETTLES,
    cluster::{EGRESS, ENTRY},
    hosts, name,
    record::Record,
};

/// What every way between two nodes takes, and what the direct one takes when it is slow.
const SHORT: Duration = Duration::from_millis(5);
const LONG: Duration = Duration::from_millis(150);
const SEEDS: u64 = 3;

/// A run whose entry reaches its egress directly.
fn direct(seed: u64) -> Run {
    let mut run = Run::with(seed, &Record::default(), hosts::counting);
    for (at, (_, one)) in NODES.iter().enumerate() {
        NODES[..at].iter().for_each(|(_, other)| run.sim.set_link_latency(*one, *other, SHORT));
    }
    run.sim.repair(name(ENTRY), name(EGRESS));
    run.pass(BEGINS);
    assert!(is_direct(&run), "{}", run.record.story());
    run
}

fn is_direct(run: &Run) -> bool {
    matches!(run.record.path(), Some(Path::Direct { .. }))
}

fn takes(run: &Run, time: Duration) {
    run.note(format_args!("the direct path takes {time:?}"));
    run.sim.set_link_latency(name(ENTRY), name(EGRESS), time);
}

#[test]
fn a_lane_leaves_a_direct_path_that_becomes_slow_and_takes_it_again_when_it_is_not() {
    for seed in 0..SEEDS {
        let mut run = direct(seed);
        takes(&run, LONG);
        run.pass(BETTER_FOR + BETTER_WITHIN + SETTLES);
        assert!(!is_direct(&run), "{}", run.record.story());
        takes(&run, SHORT);
        run.pass(SLOW_REST + SETTLES);
        assert!(is_direct(&run), "{}", run.record.story());
        run.orders.ends.set(true);
        run.pass(SETTLES);
        let (story, seen) = (run.record.story(), run.record.lock());
        let said: Vec<u64> = (0..run.orders.said.get()).collect();
        assert_eq!((&seen.there, &seen.back), (&said, &said), "seed {seed}\n{story}");
        assert_eq!((seen.dials, seen.lanes[0].1), (1, 2), "seed {seed}\n{story}");
        assert!(seen.gap <= MOST_SILENT, "seed {seed}: silent for {:?}\n{story}", seen.gap);
    }
}
