//! The checks of the world can fail: each planted mistake is found by one fixed history.

use super::world::{Bug, Step, droppable, paced, reliable, run};

fn history() -> Vec<Step> {
    let mut steps = Vec::new();
    for _ in 0..6 {
        steps.extend([
            Step::Push(Some(1), 20),
            Step::Push(None, 30),
            Step::Push(Some(1), 20),
            Step::Push(Some(1), 24),
            Step::Push(Some(2), 20),
            Step::Grant(2, 80),
            Step::Poll,
            Step::Poll,
            Step::Poll,
            Step::Pass(30_000),
        ]);
    }
    // What waits is stale by now, and was not when it would be with twice the time.
    steps.extend([Step::Pass(30_000), Step::Poll, Step::Timeout]);
    steps
}

#[test]
fn the_world_finds_planted_bugs_in_a_queue() {
    let steps = history();
    for policy in [reliable(), droppable(), paced()] {
        assert_eq!(run(policy, &steps, Bug::None), Ok(()));
    }
    let planted = [
        (reliable(), Bug::HoldsMore),
        (reliable(), Bug::PassesTheWall),
        (reliable(), Bug::KeepsTheOldest),
        (reliable(), Bug::NeverCoalesces),
        (reliable(), Bug::Swaps),
        (reliable(), Bug::Loses),
        (reliable(), Bug::SendsMore),
        (droppable(), Bug::HandsOutStale),
        (droppable(), Bug::KeepsTheOldest),
        (paced(), Bug::Hurries),
    ];
    for (policy, bug) in planted {
        assert!(run(policy, &steps, bug).is_err(), "{bug:?} stays unnoticed");
    }
}
