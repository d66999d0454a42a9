//! Whatever happens in whatever order, each kind of queue keeps its promise.

use proptest::prelude::*;

use super::world::{Bug, LEAST, MAX_MESSAGE, Step, droppable, paced, reliable, run};

fn step() -> impl Strategy<Value = Step> {
    let key = prop_oneof![2 => Just(None), 3 => (0_u64..3).prop_map(Some)];
    prop_oneof![
        8 => (key, LEAST..=MAX_MESSAGE).prop_map(|(key, length)| Step::Push(key, length)),
        5 => Just(Step::Poll),
        2 => (0_u64..4, 0_u64..200).prop_map(|(messages, bytes)| Step::Grant(messages, bytes)),
        3 => (0_u64..30_000).prop_map(Step::Pass),
        1 => Just(Step::Timeout),
    ]
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    prop::collection::vec(step(), 1..150)
}

proptest! {
    #[test]
    fn nothing_reliable_is_lost_or_reordered_and_no_bound_is_passed(steps in steps()) {
        prop_assert_eq!(run(reliable(), &steps, Bug::None), Ok(()));
    }

    #[test]
    fn nothing_stale_is_handed_out_and_the_newest_of_each_key_is(steps in steps()) {
        prop_assert_eq!(run(droppable(), &steps, Bug::None), Ok(()));
    }

    #[test]
    fn a_pace_is_kept_and_the_counters_add_up(steps in steps()) {
        prop_assert_eq!(run(paced(), &steps, Bug::None), Ok(()));
    }
}
