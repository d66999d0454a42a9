//! Random outages: a lane has a path again soon after any path works.

use proptest::prelude::*;

use super::*;

/// With a path that works all the time among the candidates, the application waits no longer.
/// Most of it is spent on paths that answer probes and carry nothing, one after the other.
const BOUND: Duration = Duration::from_secs(9);
/// The same when the one that works is open already, and nothing else changes meanwhile.
const WARM_BOUND: Duration = Duration::from_millis(800);

fn all() -> [Candidate; 5] {
    [direct(1), relay(1), relay(2), relay(3), relay(4)]
}

fn condition() -> impl Strategy<Value = Condition> {
    prop_oneof![
        2 => Just(Condition::Works),
        1 => Just(Condition::Hollow),
        3 => Just(Condition::Dead),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn while_any_path_works_the_lane_is_not_without_one_for_long(
        steady in 0_usize..5,
        over in 0_usize..5,
        changes in prop::collection::vec((0_usize..5, condition(), 50_u64..4_000), 1..40),
    ) {
        let paths = all();
        let mut world = World::new(paths[over], &paths);
        for (which, condition, millis) in changes {
            if which != steady {
                world.set(paths[which], condition);
            }
            world.run(ms(millis));
            let waited = world.now.since(world.last_echo);
            prop_assert!(waited <= BOUND, "waited {waited:?}: {:?}", world.lane);
            prop_assert!(world.most_open <= MAX_OPEN);
        }
    }

    #[test]
    fn a_relay_that_dies_beside_a_warm_one_costs_little(quiet in 500_u64..20_000) {
        let mut world = World::new(relay(1), &[relay(1), relay(2), relay(3)]);
        world.run(ms(quiet));
        world.set(relay(1), Condition::Dead);
        world.run(WARM_BOUND);
        prop_assert!(world.now.since(world.last_echo) < ms(50), "{:?}", world.lane);
    }

}

proptest! {
    // A quarter of an hour is long.
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn a_lane_settles_when_nothing_changes_any_more(
        over in 0_usize..5,
        last in prop::collection::vec(condition(), 5),
    ) {
        prop_assume!(last.contains(&Condition::Works));
        let paths = all();
        let mut world = World::new(paths[over], &paths);
        for (path, condition) in paths.iter().zip(&last) {
            world.set(*path, *condition);
        }
        world.run(s(900));
        let before = world.lane.standing().switches;
        world.run(s(600));
        let switches = world.lane.standing().switches - before;
        prop_assert!(switches <= 8, "{switches} switches in ten minutes");
    }
}
