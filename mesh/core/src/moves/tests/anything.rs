//! Whatever happens in whatever order: what breaks, what becomes slow, what relays come to, and flows that
//! come and go.

use proptest::prelude::*;

use super::{watch::LEFT_BY, *};
use crate::{lane_path::SLOW_REST, paths::KEPT_WITHIN};

/// Every rest is over by then, and what carries a flow was looked at since.
const CALM: Duration = LONGEST_REST.saturating_mul(3);

#[derive(Debug, Clone, Copy)]
enum Event {
    Begin(u64, usize),
    End(u64),
    Breaks(usize),
    Repairs(usize),
    /// Its round trip is so many milliseconds.
    Takes(usize, u64),
    /// The first relay drains, or does not.
    Drains(bool),
    /// The second relay is one, or none.
    IsRelay(bool),
    Renews,
    /// Direct paths have to be better, or not.
    Rules(DirectPaths),
    /// What nobody waits for is said of a path, and of a flow.
    Stray(usize, u64),
    Passes(u64),
}

fn any_event() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => (0..12_u64, 0..4_usize).prop_map(|(flow, way)| Event::Begin(flow, way)),
        2 => (0..12_u64).prop_map(Event::End),
        3 => (0..4_usize).prop_map(Event::Breaks),
        4 => (0..4_usize).prop_map(Event::Repairs),
        4 => (0..4_usize, 1..200_u64).prop_map(|(way, millis)| Event::Takes(way, millis)),
        1 => any::<bool>().prop_map(Event::Drains),
        1 => any::<bool>().prop_map(Event::IsRelay),
        1 => Just(Event::Renews),
        1 => prop::sample::select(vec![DirectPaths::Allowed, DirectPaths::WhenBetter])
            .prop_map(Event::Rules),
        1 => (0..4_usize, 0..12_u64).prop_map(|(way, flow)| Event::Stray(way, flow)),
        6 => (1..20_000_u64).prop_map(Event::Passes),
        3 => (20_000..100_000_u64).prop_map(Event::Passes),
    ]
}

fn events(most: usize) -> impl Strategy<Value = Vec<Event>> {
    prop::collection::vec(any_event(), 0..most)
}

fn lives(events: &[Event], bug: Bug) -> World {
    let mut world = World::new(bug);
    let mut begun = BTreeSet::new();
    for event in events {
        match *event {
            Event::Begin(flow, way) if world.carries(all_ways()[way]) && begun.insert(flow) => {
                world.begin(flow, all_ways()[way]);
            }
            Event::Begin(..) => {}
            Event::End(flow) => world.end(flow),
            Event::Breaks(way) => world.breaks(all_ways()[way]),
            Event::Repairs(way) => world.repairs(all_ways()[way]),
            Event::Takes(way, millis) => {
                world.takes_from_now(all_ways()[way], Duration::from_millis(millis));
            }
            Event::Drains(drains) => world.drains_are(drains.then_some(node(1))),
            Event::IsRelay(is_one) => world.relays_are([node(1), node(if is_one { 2 } else { 1 })]),
            Event::Renews => world.renews(),
            Event::Rules(rule) => world.rules_direct(rule),
            Event::Stray(way, flow) => world.hears_what_it_did_not_ask(all_ways()[way], flow),
            Event::Passes(millis) => world.run(Duration::from_millis(millis)),
        }
    }
    world
}

/// Everything works, and all paths take the same, for so long by this rule.
fn calmed(mut world: World, rule: DirectPaths) -> World {
    world.rules_direct(rule);
    world.relays_are([node(1), node(2)]);
    world.drains_are([]);
    for way in all_ways() {
        world.repairs(way);
        world.takes_from_now(way, ROUND_TRIP);
    }
    world.begin(99, relay(1));
    world.run(CALM);
    world
}

proptest! {
    #[test]
    fn whatever_happens_flows_move_rarely_and_only_to_what_is_proven_and_not_slower(
        events in events(80),
    ) {
        let world = lives(&events, Bug::None);
        prop_assert_eq!(&world.wrong, &None);
        prop_assert!(world.most_moving <= MAX_MOVING);
    }

    #[test]
    fn when_everything_works_again_everything_is_direct_in_the_end(events in events(40)) {
        for rule in [DirectPaths::Allowed, DirectPaths::WhenBetter] {
            let world = calmed(lives(&events, Bug::None), rule);
            prop_assert_eq!(&world.wrong, &None);
            prop_assert!(world.everything_is_over(direct()));
        }
    }

    #[test]
    fn a_direct_path_that_has_to_be_better_is_left_in_time_when_it_is_worse(
        events in events(20),
        excess in 1..500_u64,
    ) {
        let mut world = calmed(lives(&events, Bug::None), DirectPaths::WhenBetter);
        let kept = ROUND_TRIP + ROUND_TRIP / 10 + KEPT_WITHIN;
        world.takes_from_now(direct(), kept + Duration::from_micros(excess));
        world.run(SLOW_REST + LEFT_BY);
        prop_assert_eq!(&world.wrong, &None);
        prop_assert!(world.over(99).is_relayed());
    }

    #[test]
    fn a_direct_path_that_becomes_slow_is_left_in_time_whoever_begins_meanwhile(
        events in events(20),
        excess in 1..500_u64,
        others in prop::collection::vec((1..4_usize, 1..30_000_u64), 0..60),
    ) {
        let mut world = calmed(lives(&events, Bug::None), DirectPaths::Allowed);
        let tolerated = ROUND_TRIP + ROUND_TRIP / 2 + SLOWER_BY;
        world.takes_from_now(direct(), tolerated + Duration::from_millis(excess));
        // What is slower for flows that begin elsewhere rests, and is not looked at meanwhile.
        let end = world.now + LEFT_BY + if others.is_empty() { Duration::ZERO } else { LONGEST_REST };
        for (flow, (way, pause)) in (100..).zip(others) {
            world.begin(flow, all_ways()[way]);
            world.run(Duration::from_millis(pause).min(end.since(world.now)));
        }
        world.run(end.since(world.now));
        prop_assert_eq!(&world.wrong, &None);
        prop_assert!(world.over(99).is_relayed());
    }
}

/// A direct path that comes and goes.
fn flapping() -> Vec<Event> {
    let mut events = vec![Event::Begin(1, 1), Event::Begin(2, 3), Event::Begin(3, 1)];
    events.extend([Event::Begin(4, 2), Event::Passes(9_000), Event::Repairs(0)]);
    for _ in 0..20 {
        events.extend([Event::Passes(16_000), Event::Breaks(0)]);
        events.extend([Event::Passes(3_000), Event::Repairs(0)]);
    }
    events
}

/// A direct path that becomes slow, which a flow is on, and another flow would move to.
fn slow() -> Vec<Event> {
    let mut events = vec![Event::Repairs(0), Event::Begin(1, 0), Event::Passes(130_000)];
    events.extend([Event::Takes(0, 100), Event::Passes(60_000)]);
    events.extend([Event::Begin(2, 1), Event::Passes(60_000)]);
    events
}

#[test]
fn the_book_finds_planted_bugs() {
    let seen = |bug| {
        [flapping(), slow()].iter().any(|events| {
            let world = lives(events, bug);
            world.wrong.is_some() || world.most_moving > MAX_MOVING
        })
    };
    assert!(!seen(Bug::None));
    for bug in Bug::ALL {
        assert!(seen(bug), "{bug:?} stays unnoticed");
    }
}
