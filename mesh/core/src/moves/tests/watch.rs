//! Direct paths that become slow.

use super::*;
use crate::{lane_path::SLOW_REST, paths::KEPT_WITHIN};

const LONG: Duration = Duration::from_millis(200);
/// Flows have left a path that became slow by then.
pub(super) const LEFT_BY: Duration = WATCH_EVERY.saturating_add(Duration::from_secs(10));

/// Three flows on a direct path that was looked at.
fn on_the_direct_path() -> World {
    let mut world = World::new(Bug::None);
    world.repairs(direct());
    (0..3).for_each(|flow| world.begin(flow, direct()));
    world.run(2 * WATCH_EVERY);
    assert_eq!((world.moves, world.tried.get(&relay(1))), (0, None));
    world
}

fn all_over(world: &World, way: Candidate) -> bool {
    (0..3).all(|flow| world.over(flow) == way)
}

#[test]
fn flows_leave_a_direct_path_that_becomes_slow_and_come_back_when_it_is_not() {
    let mut world = on_the_direct_path();
    world.round_trips.insert(direct(), LONG);
    world.run(LEFT_BY);
    assert!(all_over(&world, relay(1)));
    assert_eq!((world.moves, world.most_moving), (3, MAX_MOVING));
    world.run(4 * SLOW_REST);
    assert!(all_over(&world, relay(1)), "it is as slow as before");
    assert_eq!(world.moves, 3);
    world.round_trips.clear();
    world.run(LONGEST_REST + 60 * SECOND);
    assert!(all_over(&world, direct()));
    assert_eq!((world.moves, world.leaves, world.wrong), (6, 0, None));
}

#[test]
fn flows_leave_a_slow_direct_path_for_the_first_relay_that_is_faster() {
    let mut world = on_the_direct_path();
    world.round_trips = [direct(), relay(1)].map(|path| (path, LONG)).into();
    world.run(LEFT_BY + 10 * SECOND);
    assert!(all_over(&world, relay(2)));
    world.run(PROVEN_FOR);
    world.begin(9, direct());
    world.run(2 * WORTH_AFTER);
    assert_eq!((world.over(9), world.wrong), (relay(2), None));
}

#[test]
fn what_begins_on_a_path_that_flows_leave_leaves_it_too() {
    let mut world = on_the_direct_path();
    world.round_trips.insert(direct(), LONG);
    world.run(LEFT_BY);
    world.begin(9, direct());
    world.run(WORTH_AFTER);
    assert_eq!(world.over(9), direct(), "not before its time");
    world.run(WORTH_AFTER);
    assert_eq!((world.over(9), world.wrong), (relay(1), None));
}

#[test]
fn flows_leave_a_direct_path_that_became_slow_also_when_others_compare_it_to_move_there() {
    for other in [relay(1), relay(2)] {
        let mut world = on_the_direct_path();
        world.round_trips.insert(direct(), LONG);
        world.begin(9, other);
        world.run(2 * LONGEST_REST + LEFT_BY);
        let over: Vec<Candidate> = (0..3).map(|flow| world.over(flow)).collect();
        assert_eq!((over, world.over(9)), (vec![relay(1); 3], other));
        assert_eq!((world.moves, world.wrong), (3, None));
    }
}

#[test]
fn a_slow_direct_path_is_kept_where_no_relay_is_faster_and_relays_are_tried_seldom() {
    let mut world = on_the_direct_path();
    world.round_trips = [relay(1), relay(2), chain()].map(|way| (way, LONG)).into();
    let bearable = LONG + LONG / 2 + SLOWER_BY;
    world.round_trips.insert(direct(), bearable);
    world.run(10 * SLOW_REST);
    assert_eq!(world.moves, 0);
    let tried = world.tried[&relay(1)];
    assert!((3 * TRIALS..=10 * TRIALS).contains(&tried), "{tried}");
    world.round_trips.insert(direct(), bearable + Duration::from_micros(1));
    world.run(SLOW_REST + LEFT_BY);
    assert!(all_over(&world, relay(1)));
    assert_eq!(world.wrong, None);
}

#[test]
fn a_path_that_is_no_slower_than_it_was_is_compared_with_nothing() {
    let mut world = on_the_direct_path();
    world.round_trips.insert(direct(), ROUND_TRIP + ROUND_TRIP / 2 + SLOWER_BY);
    world.round_trips.insert(relay(1), Duration::from_millis(1));
    world.run(10 * SLOW_REST);
    assert_eq!((world.moves, world.tried.get(&relay(1)), world.wrong), (0, None, None));
}

#[test]
fn a_direct_path_that_has_to_be_better_is_taken_if_it_is_no_longer_and_left_if_it_is_clearly_so() {
    let kept = ROUND_TRIP + ROUND_TRIP / 10 + KEPT_WITHIN;
    let moment = Duration::from_micros(1);
    let mut world = World::new(Bug::None);
    world.rules_direct(DirectPaths::WhenBetter);
    (0..3).for_each(|flow| world.begin(flow, relay(1)));
    world.repairs(direct());
    world.takes_from_now(direct(), ROUND_TRIP + moment);
    world.run(600 * SECOND);
    assert_eq!(world.moves, 0, "it is longer");
    world.takes_from_now(direct(), ROUND_TRIP);
    world.run(LONGEST_REST + 60 * SECOND);
    assert_eq!((world.moves, all_over(&world, direct())), (3, true));
    world.takes_from_now(direct(), kept);
    world.run(3 * SLOW_REST);
    assert_eq!(world.moves, 3, "two measurements of one path differ by as much");
    world.takes_from_now(direct(), kept + moment);
    world.run(SLOW_REST + LEFT_BY);
    assert!(all_over(&world, relay(1)));
    world.rules_direct(DirectPaths::Allowed);
    world.run(SLOW_REST + 60 * SECOND);
    assert_eq!((all_over(&world, direct()), world.wrong), (true, None), "it need not be better");
}

#[test]
fn a_slow_direct_path_is_kept_where_no_relay_answers() {
    let mut world = on_the_direct_path();
    world.works = [direct()].into();
    world.round_trips.insert(direct(), LONG);
    world.run(4 * SLOW_REST);
    assert!(all_over(&world, direct()));
    let relays = [relay(1), relay(2)].map(|relay| world.tried[&relay]);
    assert!(relays.iter().all(|tried| *tried < 30), "{relays:?}: what fails rests");
    world.repairs(relay(2));
    world.run(LONGEST_REST + LEFT_BY);
    assert!(all_over(&world, relay(2)));
    assert_eq!((world.leaves, world.wrong), (0, None));
}
