//! Relays that are worth more, and relays that drain.

use proptest::prelude::*;

use super::{
    super::{
        open_path::PROBE_AGAIN, rests, silence::LOOK_EVERY, successor::MAX_SLOW,
        upkeep::BETTER_ANSWERS,
    },
    *,
};

/// What setting a path up and having it answer often enough takes in this world.
const PROVING: Duration = Duration::from_secs(1);
/// A lane has gone to what is worth more by then, or tried to.
const MOVED_BY: Duration = BETTER_FOR.saturating_add(BETTER_WITHIN).saturating_add(PROVING);
/// A relay that drains is left within this time where another path carries, though two that do not
/// are tried before, and the lane waits for its moment.
const LEFT_WITHIN: Duration = Duration::from_secs(30);

fn relays() -> [Candidate; 4] {
    [relay(1), relay(2), relay(3), relay(4)]
}

fn on_the_first() -> World {
    let mut world = World::new(relay(1), &relays());
    world.value(&[(relay(1), 500), (relay(2), 500), (relay(3), 500), (relay(4), 500)]);
    world.run(s(30));
    assert_eq!((world.path(), world.lane.standing().switches), (Some(relay(1)), 0));
    world
}

#[test]
fn a_lane_goes_to_a_relay_that_is_worth_clearly_more_for_a_while_and_leaves_the_one_before() {
    let mut world = on_the_first();
    world.value(&[(relay(1), 500), (relay(2), 500), (relay(3), 500 + BETTER_BY)]);
    world.run(BETTER_FOR - ms(1));
    assert!(!world.open.values().any(|one| *one == relay(3)), "not before its time");
    leaves_the_first(&mut world, BETTER_WITHIN + PROVING);
    assert_eq!(world.path(), Some(relay(3)));
    let standing = world.lane.standing();
    assert_eq!((standing.switches, standing.last_switch), (1, Some(SwitchReason::Better)));
    assert!(world.open.values().any(|one| *one == relay(1)), "the one before is kept for a while");
    assert!(world.most_open <= MAX_OPEN);
    world.run(s(600));
    assert_eq!(world.lane.standing().switches, 1);
    assert_eq!(world.open.len(), 2, "one is warm");
    assert!(world.now.since(world.last_echo) < ms(50));
}

#[test]
fn a_warm_relay_answers_anew_before_it_takes_over() {
    let mut world = on_the_first();
    assert!(world.open.values().any(|one| *one == relay(2)));
    world.value(&[(relay(1), 500), (relay(2), 500 + BETTER_BY)]);
    world.run(waits(&world) + PROBE_AGAIN);
    assert_eq!(world.path(), Some(relay(1)), "what it answered before does not count");
    world.run(PROVING);
    assert_eq!(world.path(), Some(relay(2)));
}

#[test]
fn what_is_not_worth_clearly_more_or_not_for_long_moves_nobody() {
    let mut world = on_the_first();
    world.value(&[(relay(1), 500), (relay(3), 500 + BETTER_BY - 1)]);
    world.run(s(600));
    for _ in 0..60 {
        world.value(&[(relay(1), 500), (relay(3), 900)]);
        world.run(BETTER_FOR - ms(1));
        world.value(&[(relay(1), 500), (relay(3), 500)]);
        world.run(ms(1));
    }
    world.value(&[(relay(3), 1_000)]);
    world.run(s(600));
    assert_eq!(world.lane.standing().switches, 0, "of the one in use nothing is known");
}

#[test]
fn a_relay_that_is_worth_more_and_takes_much_longer_is_not_taken_and_seldom_tried() {
    let mut world = on_the_first();
    world.round_trips.insert(relay(3), ms(300));
    world.value(&[(relay(1), 500), (relay(2), 500), (relay(3), 900)]);
    world.run(MOVED_BY + s(1));
    let probes = world.probes;
    world.run(SLOW_REST - MOVED_BY);
    assert_eq!(world.lane.standing().switches, 0);
    let probes = world.probes - probes;
    assert!(probes <= 80, "{probes} probes: the warm one's, and few others");
    world.round_trips.clear();
    world.run(MOVED_BY + PROVING);
    assert_eq!(world.path(), Some(relay(3)), "it is as quick as others by now");
}

#[test]
fn a_relay_that_is_worth_more_and_carries_nothing_is_left_and_tried_ever_more_seldom() {
    let mut world = on_the_first();
    world.value(&[(relay(1), 500), (relay(2), 500), (relay(3), 900)]);
    world.set(relay(3), Condition::Hollow);
    world.run(s(60));
    assert_eq!(world.path(), Some(relay(1)));
    assert_eq!(world.lane.standing().last_switch, Some(SwitchReason::Unproven));
    world.run(s(3_600));
    let switches = world.lane.standing().switches;
    assert!(switches <= 40, "{switches} switches in an hour");
}

#[test]
fn a_chain_is_left_for_a_chain_that_is_worth_more_and_a_relay_for_none() {
    let (one, other) = (chain(&[1, 2]), chain(&[3, 4]));
    let mut world = World::new(one, &[one, other]);
    world.value(&[(one, 300), (other, 400)]);
    world.run(MOVED_BY);
    assert_eq!(world.path(), Some(other));
    let mut world = World::new(relay(1), &[relay(1), one]);
    world.value(&[(relay(1), 100), (one, 900)]);
    world.run(s(300));
    assert_eq!((world.path(), world.lane.standing().switches), (Some(relay(1)), 0));
}

/// How long the lane waits before it goes to what is worth more.
fn waits(world: &World) -> Duration {
    let due = world.lane.succession_due().expect("something is worth more");
    due.since(world.now)
}

/// How many of a hundred moments are in each tenth of this time.
fn in_tenths(moments: &[Duration], within: Duration) -> [usize; 10] {
    std::array::from_fn(|part| {
        let (from, to) = (within / 10 * part as u32, within / 10 * (part as u32 + 1));
        moments.iter().filter(|at| (from..to).contains(*at)).count()
    })
}

#[test]
fn lanes_that_see_the_same_relay_become_the_best_go_there_one_after_the_other() {
    let (mut first, mut second) = (Vec::new(), Vec::new());
    for seed in 0..100 {
        let mut world = World::seeded(seed, relay(1), &relays());
        let others = [(relay(1), 500), (relay(2), 500), (relay(4), 500)];
        world.value(&[&others[..], &[(relay(3), 900)]].concat());
        first.push(waits(&world).saturating_sub(BETTER_FOR));
        leaves_the_first(&mut world, MOVED_BY);
        assert_eq!(world.path(), Some(relay(3)), "lane {seed}");
        let moved = world.now;
        // It fills, and all of them find another one.
        world.run(PROVEN_AFTER + s(1));
        world.value(&[(relay(1), 500), (relay(2), 500), (relay(3), 500), (relay(4), 900)]);
        let pause = (world.now + waits(&world)).since(moved);
        second.push(pause.saturating_sub(MOVE_EVERY - ms(20)));
        world.run(MOVE_EVERY + MOVE_WITHIN + PROVING);
        assert_eq!(world.path(), Some(relay(4)), "lane {seed}");
    }
    for (moments, within) in [(first, BETTER_WITHIN), (second, MOVE_WITHIN)] {
        let moments = in_tenths(&moments, within + ms(20));
        assert!(moments.iter().all(|lanes| *lanes < 25), "{moments:?} of 100 lanes");
        assert_eq!(moments.iter().sum::<usize>(), 100);
    }
}

#[test]
fn a_lane_whose_turn_has_not_come_stays_when_the_best_relay_has_filled() {
    let mut world = on_the_first();
    world.value(&[(relay(1), 500), (relay(2), 500), (relay(3), 900)]);
    world.run(waits(&world).saturating_sub(ms(1)));
    world.value(&[(relay(1), 500), (relay(2), 500), (relay(3), 500)]);
    world.run(s(600));
    assert_eq!((world.path(), world.lane.standing().switches), (Some(relay(1)), 0));
}

/// Runs until the lane is on another relay, or so long.
fn leaves_the_first(world: &mut World, within: Duration) {
    let last = world.now + within;
    while world.path() == Some(relay(1)) && world.now < last {
        world.run(ms(20));
    }
}

#[test]
fn a_relay_that_drains_is_left_soon_and_let_go() {
    let mut world = on_the_first();
    world.drain(relay(1));
    leaves_the_first(&mut world, DRAIN_WITHIN + PROVING);
    assert_eq!(world.path(), Some(relay(2)), "the warm one");
    let standing = world.lane.standing();
    assert_eq!((standing.switches, standing.last_switch), (1, Some(SwitchReason::Draining)));
    assert!(world.open.values().any(|one| *one == relay(1)), "in case that this was a mistake");
    world.run(PROVEN_AFTER + LOOK_EVERY);
    assert!(!world.open.values().any(|one| *one == relay(1)), "nobody keeps it from its end");
    world.run(s(60));
    assert_eq!(world.open.values().copied().collect::<Vec<_>>(), [relay(2), relay(3)]);
}

#[test]
fn a_relay_that_drains_is_left_for_one_whose_answers_take_longer_than_the_pause_of_probes() {
    let mut world = on_the_first();
    world.round_trips.extend(relays()[1..].iter().map(|one| (*one, ms(700))));
    world.drain(relay(1));
    world.run(DRAIN_WITHIN + s(5));
    assert_eq!(world.path(), Some(relay(2)));
}

#[test]
fn the_lanes_of_a_relay_that_drains_leave_it_one_after_the_other() {
    let mut moments = Vec::new();
    for seed in 0..100 {
        let mut world = World::seeded(seed, relay(1), &relays());
        world.value(&[(relay(1), 500), (relay(2), 500), (relay(3), 500)]);
        world.run(s(30));
        let began = world.now;
        world.drain(relay(1));
        // What is measured meanwhile changes nothing about it.
        world.run(ms(500));
        world.value(&[(relay(1), 490), (relay(2), 510), (relay(3), 500)]);
        leaves_the_first(&mut world, DRAIN_WITHIN + PROVING);
        assert_eq!(world.path(), Some(relay(2)), "lane {seed}");
        moments.push(world.now.since(began).saturating_sub(PROVING / 2));
    }
    let moments = in_tenths(&moments, DRAIN_WITHIN);
    assert!(moments.iter().all(|lanes| *lanes < 25), "{moments:?} of 100 lanes");
}

#[test]
fn a_relay_that_drains_no_more_is_stayed_on() {
    let mut stayed = 0;
    for seed in 0..20 {
        let mut world = World::seeded(seed, relay(1), &relays());
        world.value(&[(relay(1), 500), (relay(2), 500)]);
        world.run(s(30));
        world.drain(relay(1));
        world.run(DRAIN_WITHIN / 2);
        world.drains.clear();
        world.tell_worths();
        world.run(s(60));
        stayed += u32::from(world.path() == Some(relay(1)));
    }
    assert!((1..20).contains(&stayed), "{stayed} lanes were not due yet");
}

#[test]
fn a_warm_relay_that_drains_is_let_go_and_another_one_is_kept() {
    let mut world = on_the_first();
    world.drain(relay(2));
    world.run(DRAIN_WITHIN + s(1));
    assert_eq!(world.open.values().copied().collect::<Vec<_>>(), [relay(1), relay(3)]);
    assert_eq!(world.lane.standing().switches, 0);
}

#[test]
fn a_relay_that_drains_is_kept_while_nothing_else_carries() {
    let mut world = World::new(relay(1), &[relay(1), relay(2), chain(&[3, 4])]);
    world.value(&[(relay(1), 500), (relay(2), 500), (chain(&[3, 4]), 200)]);
    world.set(relay(2), Condition::Dead);
    world.set(chain(&[3, 4]), Condition::Dead);
    world.drain(relay(1));
    world.run(s(1_200));
    assert_eq!((world.path(), world.lane.standing().switches), (Some(relay(1)), 0));
    assert!(world.now.since(world.last_echo) < ms(50));
    world.set(chain(&[3, 4]), Condition::Works);
    world.run(LONGEST_REST + PROVING);
    assert_eq!(world.path(), Some(chain(&[3, 4])), "longer, and it works");
    world.run(s(60));
    assert!(!world.open.values().any(|one| *one == relay(1)));
}

#[test]
fn what_drains_is_no_better_way() {
    let (one, both) = (relay(1), chain(&[2, 3]));
    let mut world = World::new(both, &[one, both]);
    world.value(&[(one, 900), (both, 200)]);
    world.drain(one);
    world.run(s(60));
    assert_eq!((world.path(), world.lane.standing().switches), (Some(both), 0));
    world.drains.clear();
    world.tell_worths();
    world.run(s(60));
    assert_eq!(world.path(), Some(one));
}

#[test]
fn a_chain_that_drains_is_left_for_a_slower_relay() {
    let (one, both) = (relay(1), chain(&[2, 3]));
    let mut world = World::new(both, &[one, both]);
    world.round_trips.insert(one, ms(300));
    world.value(&[(one, 500), (both, 200)]);
    world.run(s(60));
    assert_eq!(world.path(), Some(both), "the relay takes much longer");
    world.drain(both);
    world.run(LONGEST_REST + DRAIN_WITHIN + s(5));
    assert_eq!(world.path(), Some(one));
    assert_eq!(world.lane.standing().last_switch, Some(SwitchReason::Draining));
}

#[test]
fn a_slower_relay_rests_as_long_also_when_it_was_worth_less_for_a_moment() {
    let mut world = on_the_first();
    world.round_trips.insert(relay(3), ms(300));
    let more = [(relay(1), 500), (relay(2), 500), (relay(3), 900)];
    world.value(&more);
    world.run(MOVED_BY + s(1));
    let probes = world.probes;
    for _ in 0..6 {
        world.value(&[(relay(1), 500), (relay(2), 500), (relay(3), 500)]);
        world.run(ms(1));
        world.value(&more);
        world.run(MOVED_BY);
    }
    let probes = world.probes - probes;
    assert!(probes <= 60, "{probes} probes: the warm one's, and no others");
    world.round_trips.clear();
    world.run(SLOW_REST);
    assert_eq!(world.path(), Some(relay(3)));
}

#[test]
fn what_is_remembered_as_slow_is_bounded() {
    let mut succession = Succession::new(7);
    for number in 0..=MAX_SLOW {
        succession.was_slow(at(number as u64), relay(number as u128));
    }
    assert_eq!(succession.slow_until(&relay(0)), None);
    assert_eq!(succession.slow_until(&relay(1)), Some(at(1) + SLOW_REST));
    succession.was_slow(at(1) + SLOW_REST, relay(0));
    assert_eq!(succession.slow_until(&relay(1)), None, "its time is over");
}

#[test]
fn a_lane_among_many_relays_is_not_cut_when_their_order_changes() {
    let mut all: Vec<Candidate> = (1..=20).map(relay).collect();
    let mut world = World::new(relay(1), &all);
    for _ in 0..100 {
        // Seven and twenty have no divisor in common: each relay is in every place.
        all.rotate_left(7);
        let open = world.lane.open_over_relays();
        let listed = keeping(all.clone(), &open);
        assert_eq!(listed.len(), MAX_CANDIDATES);
        assert!(open.iter().all(|one| listed.contains(one)), "{open:?} in {listed:?}");
        world.tell(Input::Candidates(listed));
        world.run(s(1));
    }
    assert_eq!((world.path(), world.lane.standing().switches), (Some(relay(1)), 0));
    assert_eq!(world.open.values().copied().collect::<Vec<_>>(), [relay(1), relay(2)]);
}

#[test]
fn relays_rest_also_while_they_are_not_listed_up_to_a_number() {
    let (mut rests, now) = (Rests::default(), at(1_000));
    let all: Vec<Candidate> = (0..=rests::MAX_UNLISTED as u128).map(relay).collect();
    for one in all.iter().chain([&direct(1)]) {
        rests.failed(now, *one);
    }
    rests.keep(now, &[relay(0)]);
    assert!(all.iter().all(|one| !rests.is_over(now, *one, false)));
    assert!(rests.is_over(now, direct(1), false), "found anew, it is another one");
    rests.keep(now, &[]);
    let kept = all.iter().filter(|one| rests.failures(**one) > 0).count();
    assert_eq!(kept, rests::MAX_UNLISTED);
    rests.keep(now + rests::RELAY_REST, &[]);
    assert!(all.iter().all(|one| rests.failures(*one) == 0));
}

#[test]
fn enough_is_looked_at_before_a_lane_moves() {
    let needed = PROBE_AGAIN * (BETTER_ANSWERS - 1);
    assert!(needed < PROVING && BETTER_FOR > PROVING && MOVE_EVERY > BETTER_FOR);
}

/// What happens to a lane over relays.
#[derive(Debug, Clone, Copy)]
enum Change {
    Worth(usize, u16),
    Takes(usize, u64),
    Drains(usize, bool),
}

fn measurement() -> impl Strategy<Value = Change> {
    prop_oneof![
        8 => (0_usize..4, 0_u16..=1_000).prop_map(|(which, total)| Change::Worth(which, total)),
        1 => (0_usize..4, 5_u64..200).prop_map(|(which, millis)| Change::Takes(which, millis)),
    ]
}

fn anything() -> impl Strategy<Value = Change> {
    prop_oneof![
        4 => measurement(),
        1 => (0_usize..4, any::<bool>()).prop_map(|(which, it)| Change::Drains(which, it)),
    ]
}

fn happen(world: &mut World, change: Change) {
    match change {
        Change::Worth(which, total) => {
            world.worths.insert(relays()[which], total);
        }
        Change::Takes(which, millis) => {
            world.round_trips.insert(relays()[which], ms(millis));
        }
        Change::Drains(which, true) => {
            world.drains.insert(relays()[which]);
        }
        Change::Drains(which, false) => {
            world.drains.remove(&relays()[which]);
        }
    }
    // The order of the candidates is that of their worth.
    let mut order = relays().to_vec();
    order.sort_by_key(|one| std::cmp::Reverse(world.worths.get(one).copied()));
    world.tell(Input::Candidates(order));
    world.tell_worths();
}

fn worth(world: &World, candidate: Candidate) -> u16 {
    world.worths.get(&candidate).copied().unwrap_or_default()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn whatever_is_measured_a_lane_moves_rarely_and_ends_on_the_best(
        changes in prop::collection::vec((measurement(), 10_u64..30_000), 1..60),
    ) {
        let mut world = on_the_first();
        let begun = world.now;
        for (change, millis) in changes {
            happen(&mut world, change);
            world.run(ms(millis));
            let allowed = world.now.since(begun).as_secs() / MOVE_EVERY.as_secs() + 1;
            let switches = world.lane.standing().switches;
            prop_assert!(switches <= allowed, "{switches} switches, {allowed} allowed");
            prop_assert!(world.now.since(world.last_echo) < ms(450), "the lane goes on");
            prop_assert!(world.most_open <= MAX_OPEN);
        }
        // All of them take as long now, and nothing changes any more.
        world.round_trips.clear();
        world.run(SLOW_REST + (MOVE_EVERY + MOVE_WITHIN) * 3);
        let path = world.path().expect("all of them work");
        let best = relays().into_iter().map(|one| worth(&world, one)).max().unwrap_or_default();
        prop_assert!(worth(&world, path) + BETTER_BY > best, "{path:?} of {:?}", world.worths);
        let settled = world.lane.standing().switches;
        world.run(s(3_600));
        prop_assert_eq!(world.lane.standing().switches, settled, "and it stays");
    }

    #[test]
    fn a_relay_that_drains_is_left_within_a_bound_and_never_for_one_that_does(
        changes in prop::collection::vec((anything(), 10_u64..10_000), 1..40),
        conditions in prop::collection::vec(prop::bool::ANY, 4),
        steady in 0_usize..4,
    ) {
        let mut world = on_the_first();
        for (one, works) in relays().into_iter().zip(&conditions) {
            // What is in use goes on working.
            let works = *works || one == relay(1) || one == relays()[steady];
            world.set(one, if works { Condition::Works } else { Condition::Dead });
        }
        for (change, millis) in changes {
            let before = world.lane.standing().switches;
            happen(&mut world, change);
            world.run(ms(millis));
            prop_assert!(world.most_open <= MAX_OPEN);
            prop_assert!(world.now.since(world.last_echo) < s(1), "the lane goes on");
            let path = world.path();
            let drains = path.is_some_and(|path| world.drains.contains(&path));
            let moved = world.lane.standing().switches - before;
            prop_assert!(!(drains && moved > 0), "to {path:?}, which drains");
        }
        let others = relays().into_iter().any(|one| {
            world.conditions[&one] == Condition::Works && !world.drains.contains(&one)
        });
        world.run(LEFT_WITHIN);
        let path = world.path().expect("one works");
        prop_assert_eq!(world.drains.contains(&path), !others, "{:?}", world.lane);
        world.run(PROVEN_AFTER + s(1));
        let held = world.open.values().any(|one| *one != path && world.drains.contains(one));
        prop_assert!(!held, "{:?}", world.open);
    }
}
