//! Direct paths that become slow.

use super::{
    super::{open_path::ANSWER_WAIT, successor::ENOUGH_ANSWERS, upkeep::BETTER_ANSWERS},
    *,
};
use crate::paths::SLOWER_BY;

/// What setting a path up and having it answer often enough takes in this world.
pub(super) const PROVING: Duration = Duration::from_secs(1);
/// A direct path that became slow is left by then.
pub(super) const LEFT_BY: Duration =
    BETTER_FOR.saturating_add(BETTER_WITHIN).saturating_add(PROVING);
/// What a path in this world takes of which nothing else is said.
const USUAL: Duration = Duration::from_millis(10);
const LONG: Duration = Duration::from_millis(150);
/// How often an idle lane is heard.
const KEEP_ALIVE: Duration = Duration::from_secs(2);

fn on_the_direct_path() -> World {
    let mut world = World::new(direct(1), &[direct(1), relay(1), relay(2)]);
    world.run(s(30));
    assert_eq!((world.path(), world.open.len(), world.probes), (Some(direct(1)), 1, 0));
    world
}

fn switches(world: &World) -> (u64, Option<SwitchReason>) {
    let standing = world.lane.standing();
    (standing.switches, standing.last_switch)
}

#[test]
fn a_direct_path_that_becomes_slow_is_left_after_a_while_and_taken_again_when_it_is_not() {
    let mut world = on_the_direct_path();
    world.round_trips.insert(direct(1), LONG);
    world.run(BETTER_FOR - ms(1));
    assert_eq!((world.path(), world.open.len()), (Some(direct(1)), 1), "not before its time");
    assert!(world.lane.heeds_relays(), "which relays there are matters");
    world.run(LEFT_BY - BETTER_FOR);
    assert_eq!((world.path(), switches(&world)), (Some(relay(1)), (1, Some(SwitchReason::Slower))));
    let rests_until = world.lane.slow_until(direct(1)).expect("it was left as slow");
    assert!(rests_until.since(world.now) > SLOW_REST - LEFT_BY, "holes rest as long");
    world.run(s(10));
    assert_eq!(world.open.values().copied().collect::<Vec<_>>(), [relay(1), relay(2)]);
    world.round_trips.clear();
    world.run(SLOW_REST - LEFT_BY - s(10));
    assert_eq!(world.path(), Some(relay(1)), "it is not looked at again so soon");
    world.run(LEFT_BY + PROVING);
    assert_eq!(
        (world.path(), switches(&world)),
        (Some(direct(1)), (2, Some(SwitchReason::Better)))
    );
    assert!(world.now.since(world.last_echo) < ms(50));
    assert!(world.most_open <= MAX_OPEN);
}

#[test]
fn a_direct_path_that_stays_slow_is_looked_at_ever_more_seldom_and_not_taken() {
    let mut world = on_the_direct_path();
    world.round_trips.insert(direct(1), LONG);
    world.run(LEFT_BY);
    let probes = world.probes;
    world.run(s(3_600));
    assert_eq!((world.path(), switches(&world).0), (Some(relay(1)), 1));
    let warm = 3_600 / u32::try_from(WARM_PROBE_EVERY.as_secs()).unwrap_or(1);
    let others = world.probes - probes - warm;
    assert!(others <= 30 * BETTER_ANSWERS, "{others} probes besides the warm path's");
}

#[test]
fn a_slow_direct_path_is_kept_where_no_relay_is_much_faster_and_relays_are_measured_seldom() {
    let mut world = on_the_direct_path();
    let bearable = LONG + LONG / 2 + SLOWER_BY;
    for relay in [relay(1), relay(2)] {
        world.round_trips.insert(relay, LONG);
    }
    world.round_trips.insert(direct(1), bearable);
    world.run(s(3_600));
    assert_eq!((world.path(), switches(&world).0, world.open.len()), (Some(direct(1)), 0, 1));
    // Of each relay, and of the direct path beside it, which is asked while the relay's is set up.
    let each = 2 * BETTER_ANSWERS + 2;
    let most = 2 * each * (1 + 3_600 / u32::try_from(SLOW_REST.as_secs()).unwrap_or(1));
    assert!((2 * each - 4..=most).contains(&world.probes), "{} probes", world.probes);
    world.round_trips.insert(direct(1), bearable + ms(1));
    world.run(SLOW_REST + LEFT_BY);
    assert_eq!(world.path(), Some(relay(1)));
}

#[test]
fn what_is_slow_for_a_moment_or_no_slower_than_it_was_is_left_alone() {
    let mut world = on_the_direct_path();
    world.round_trips.insert(direct(1), USUAL + USUAL / 2 + SLOWER_BY);
    world.run(s(600));
    for _ in 0..60 {
        world.round_trips.insert(direct(1), LONG);
        world.run(BETTER_FOR - ms(100));
        world.round_trips.clear();
        world.run(ms(100));
    }
    assert_eq!((world.probes, switches(&world).0), (0, 0));
    let mut world = World::new(direct(1), &[direct(1), relay(1)]);
    world.round_trips.insert(direct(1), LONG);
    world.run(s(600));
    assert_eq!((world.probes, switches(&world).0), (0, 0), "it never was faster");
}

#[test]
fn a_slow_direct_path_is_left_for_the_first_relay_that_is_much_faster() {
    let mut world = on_the_direct_path();
    world.round_trips = [direct(1), relay(1)].map(|path| (path, LONG)).into();
    world.run(LEFT_BY + 2 * PROVING);
    assert_eq!((world.path(), switches(&world)), (Some(relay(2)), (1, Some(SwitchReason::Slower))));
}

#[test]
fn a_direct_path_that_takes_longer_than_answers_are_waited_for_is_left_as_well() {
    let mut world = on_the_direct_path();
    world.round_trips.insert(direct(1), 2 * ANSWER_WAIT);
    world.run(LEFT_BY + ANSWER_WAIT * ENOUGH_ANSWERS);
    assert_eq!((world.path(), switches(&world)), (Some(relay(1)), (1, Some(SwitchReason::Slower))));
}

#[test]
fn what_a_burst_left_of_the_estimate_of_an_idle_lane_moves_nothing() {
    let mut world = on_the_direct_path();
    world.estimate = Some(LONG);
    world.send_every = KEEP_ALIVE;
    world.run(3 * SLOW_REST);
    assert!(world.probes > 0, "both paths are measured");
    assert_eq!((world.path(), switches(&world).0), (Some(direct(1)), 0));
    world.estimate = None;
    world.round_trips.insert(direct(1), LONG);
    world.run(SLOW_REST + LEFT_BY);
    assert_eq!(world.path(), Some(relay(1)), "it is that slow by now");
}

#[test]
fn time_in_which_nothing_was_heard_does_not_count() {
    let mut world = on_the_direct_path();
    world.round_trips.insert(direct(1), LONG);
    world.run(s(1));
    world.sends = false;
    world.run(s(600));
    world.tell(Input::Candidates(vec![direct(1), relay(1), relay(2)]));
    assert_eq!(world.open.len(), 1, "no relay is measured beside it");
    world.sends = true;
    world.run(BETTER_FOR - ms(1));
    assert_eq!((world.path(), world.open.len()), (Some(direct(1)), 1));
    world.run(LEFT_BY);
    assert_eq!(world.path(), Some(relay(1)));
}

#[test]
fn a_path_whose_round_trip_goes_up_and_down_moves_the_lane_seldom() {
    let mut world = on_the_direct_path();
    let rounds = 60;
    for _ in 0..rounds {
        world.round_trips.insert(direct(1), LONG);
        world.run(s(60));
        world.round_trips.clear();
        world.run(s(60));
    }
    let periods = 120 * rounds / SLOW_REST.as_secs();
    assert!((2..=2 * periods).contains(&switches(&world).0), "{:?}", switches(&world));
}

#[test]
fn a_relay_that_only_seems_faster_gives_the_lane_back() {
    let mut world = on_the_direct_path();
    world.set(relay(1), Condition::Hollow);
    world.set(relay(2), Condition::Hollow);
    world.round_trips.insert(direct(1), LONG);
    world.run(LEFT_BY + s(10));
    assert_eq!(
        (world.path(), switches(&world)),
        (Some(direct(1)), (2, Some(SwitchReason::Unproven)))
    );
    world.run(s(3_600));
    assert_eq!(world.path(), Some(direct(1)));
    assert!(world.now.since(world.last_echo) < LONG + ms(50));
}

#[test]
fn a_slow_direct_path_is_taken_when_nothing_else_is_left() {
    let mut world = on_the_direct_path();
    world.round_trips.insert(direct(1), LONG);
    world.run(LEFT_BY + s(10));
    assert_eq!(world.path(), Some(relay(1)));
    world.set(relay(1), Condition::Dead);
    world.set(relay(2), Condition::Dead);
    world.run(s(10));
    assert_eq!(world.path(), Some(direct(1)));
}
