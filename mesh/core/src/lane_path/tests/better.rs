//! Direct paths that have to be better than relays.

use super::{
    slowness::{LEFT_BY, PROVING},
    *,
};
use crate::paths::KEPT_WITHIN;

/// What a path in this world takes of which nothing else is said.
const USUAL: Duration = ms(10);
const KEPT: Duration = USUAL.saturating_add(ms(1)).saturating_add(KEPT_WITHIN);
const MOMENT: Duration = Duration::from_micros(1);

fn over(first: Candidate, direct_takes: Duration) -> World {
    let mut world = World::new(first, &[direct(1), relay(1), relay(2)]);
    world.round_trips.insert(direct(1), direct_takes);
    world.tell(Input::Direct(DirectPaths::WhenBetter));
    world
}

fn standing(world: &World) -> (Option<Candidate>, u64, bool) {
    let standing = world.lane.standing();
    (world.path(), standing.switches, standing.not_better)
}

#[test]
fn a_direct_path_is_taken_when_it_takes_no_longer_than_the_relay() {
    for (takes, taken) in [(ms(9), true), (USUAL, true), (USUAL + MOMENT, false)] {
        let mut world = over(relay(1), takes);
        // What queues and delays are in the connection's own estimate speaks for nobody.
        world.estimate = Some(ms(80));
        world.run(s(30) + LONGEST_REST);
        let expected = if taken { (direct(1), 1, false) } else { (relay(1), 0, true) };
        assert_eq!(standing(&world), (Some(expected.0), expected.1, expected.2), "{takes:?}");
    }
}

#[test]
fn a_direct_path_that_was_not_better_is_taken_when_it_is_or_need_not_be() {
    let mut world = over(relay(1), ms(12));
    world.run(s(600));
    world.round_trips.clear();
    world.run(LONGEST_REST + PROVING);
    assert_eq!(standing(&world), (Some(direct(1)), 1, false));
    let mut world = over(relay(1), ms(12));
    world.run(s(600));
    world.tell(Input::Direct(DirectPaths::Allowed));
    world.run(LONGEST_REST + PROVING);
    assert_eq!(standing(&world), (Some(direct(1)), 1, false));
}

#[test]
fn a_direct_path_in_use_is_left_when_it_is_clearly_worse_also_if_it_never_was_better() {
    for (takes, left) in [(KEPT, false), (KEPT + MOMENT, true)] {
        let mut world = over(direct(1), takes);
        world.run(LEFT_BY);
        let expected = if left { (relay(1), 1, true) } else { (direct(1), 0, false) };
        assert_eq!(standing(&world), (Some(expected.0), expected.1, expected.2), "{takes:?}");
        world.run(s(3_600));
        assert_eq!(standing(&world).1, expected.1, "and nothing flaps");
    }
}

#[test]
fn a_direct_path_that_is_a_little_worse_than_when_it_was_taken_stays() {
    let mut world = over(relay(1), USUAL);
    world.run(s(30));
    assert_eq!(standing(&world), (Some(direct(1)), 1, false));
    for takes in [KEPT, USUAL, KEPT] {
        world.round_trips.insert(direct(1), takes);
        world.run(SLOW_REST + LEFT_BY);
    }
    assert_eq!(standing(&world), (Some(direct(1)), 1, false));
    world.round_trips.insert(direct(1), KEPT + MOMENT);
    world.run(SLOW_REST + LEFT_BY);
    assert_eq!(standing(&world), (Some(relay(1)), 2, true));
    assert!(world.now.since(world.last_echo) < ms(100), "it is carried");
}

#[test]
fn a_direct_path_that_is_not_better_is_taken_when_nothing_else_works() {
    let mut world = over(relay(1), ms(200));
    world.run(s(30));
    assert_eq!(standing(&world), (Some(relay(1)), 0, true));
    for relay in [relay(1), relay(2)] {
        world.set(relay, Condition::Dead);
    }
    world.run(s(10));
    assert_eq!(standing(&world), (Some(direct(1)), 1, false));
}

#[test]
fn a_direct_path_is_taken_once_the_relay_beside_it_was_waited_for_in_vain() {
    let mut world = World::new(relay(1), &[direct(1), relay(1)]);
    world.round_trips.insert(relay(1), s(2));
    world.tell(Input::Direct(DirectPaths::WhenBetter));
    world.run(s(30));
    let last_switch = world.lane.standing().last_switch;
    assert_eq!((world.path(), last_switch), (Some(direct(1)), Some(SwitchReason::Better)));
}
