#![allow(clippy::unwrap_used)]

mod anything;
mod watch;
mod world;

use super::*;
use crate::paths::SLOWER_BY;
use world::{Bug, FOR_EVER, ROUND_TRIP, World, all_ways, allowed, chain, direct, node, relay};

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn flows_move_to_a_direct_path_that_answered_often_enough_and_a_few_at_a_time() {
    let mut world = World::new(Bug::None);
    for flow in 0..10 {
        world.begin(flow, relay(1));
    }
    world.run(20 * SECOND);
    assert_eq!((world.moves, world.over(3)), (0, relay(1)), "nothing better answers");
    world.repairs(direct());
    world.run(60 * SECOND);
    assert_eq!((world.moves, world.wrong.take()), (10, None));
    assert!((0..10).all(|flow| world.over(flow) == direct()));
    assert_eq!(world.most_moving, MAX_MOVING);
    let (trials, relays) = (world.trials, world.tried[&relay(1)]);
    world.run(10 * WATCH_EVERY);
    let trials = world.trials - trials;
    assert!((8..=10).contains(&trials), "{trials}: the direct path is looked at now and then");
    assert_eq!((world.moves, world.tried[&relay(1)]), (10, relays));
}

#[test]
fn a_flow_is_not_worth_it_before_its_time() {
    let mut world = World::new(Bug::None);
    world.repairs(direct());
    world.begin(1, relay(1));
    world.run(WORTH_AFTER - Duration::from_millis(1));
    assert_eq!(world.trials, 0);
    world.end(1);
    world.run(60 * SECOND);
    assert_eq!((world.trials, world.moves), (0, 0));
    assert!(world.lane.is_idle());
}

#[test]
fn a_chain_is_left_for_a_relay_and_that_for_a_direct_path_but_no_relay_for_another() {
    let mut world = World::new(Bug::None);
    world.begin(1, chain());
    world.run(10 * SECOND);
    assert_eq!(world.over(1), relay(1));
    world.run(600 * SECOND);
    assert_eq!((world.over(1), world.moves), (relay(1), 1));
    world.repairs(direct());
    world.run(400 * SECOND);
    assert_eq!((world.over(1), world.moves, world.wrong), (direct(), 2, None));
}

#[test]
fn a_direct_path_that_is_slower_rests_and_is_taken_when_it_is_not_any_more() {
    let mut world = World::new(Bug::None);
    world.repairs(direct());
    world.begin(1, relay(1));
    let bearable = ROUND_TRIP + ROUND_TRIP / 2 + SLOWER_BY;
    world.round_trips.insert(direct(), bearable + Duration::from_micros(1));
    world.run(1_200 * SECOND);
    assert_eq!((world.over(1), world.moves, world.wrong.take()), (relay(1), 0, None));
    let (tried, beside) = (world.tried[&direct()], world.tried[&relay(1)]);
    assert!((6..40).contains(&tried), "{tried} trials: it rests longer each time");
    assert!(beside < tried, "{beside} trials of the relay beside {tried}");
    world.round_trips.insert(direct(), bearable);
    world.run(LONGEST_REST + 10 * SECOND);
    assert_eq!((world.over(1), world.moves, world.wrong), (direct(), 1, None));
}

#[test]
fn what_is_slower_than_one_relay_is_not_slower_than_another() {
    let mut world = World::new(Bug::None);
    world.repairs(direct());
    world.begin(1, relay(1));
    world.begin(2, relay(2));
    world.round_trips.insert(relay(1), ROUND_TRIP / 20);
    world.run(60 * SECOND);
    assert_eq!((world.over(1), world.over(2)), (relay(1), direct()));
    world.round_trips.clear();
    world.run(LONGEST_REST);
    assert_eq!((world.over(1), world.wrong), (direct(), None));
}

#[test]
fn a_path_that_does_not_answer_has_nothing_tried_beside_it() {
    let mut world = World::new(Bug::None);
    world.begin(1, relay(1));
    world.run(600 * SECOND);
    assert!(world.tried[&direct()] > 3);
    assert_eq!(world.tried.get(&relay(1)), None);
}

#[test]
fn what_flaps_moves_a_flow_no_more_often_than_it_may() {
    let mut world = World::new(Bug::None);
    world.begin(1, relay(1));
    let (rounds, length) = (60_u32, 7 * SECOND);
    for _ in 0..rounds {
        world.repairs(direct());
        world.run(length);
        world.breaks(direct());
        world.run(SECOND);
    }
    let most = (rounds * 8) / u32::try_from(MOVE_EVERY.as_secs()).unwrap();
    assert!((1..=most).contains(&world.moves), "{}", world.moves);
    assert_eq!(world.wrong, None);
}

#[test]
fn a_relay_that_leaves_the_snapshot_is_left_at_once_and_a_dead_refuge_is_not_the_last() {
    let mut world = World::new(Bug::None);
    world.works.remove(&relay(2));
    world.begin(1, relay(1));
    world.begin(2, chain());
    world.run(Duration::from_millis(1));
    world.drops_relay(node(1));
    world.run(SECOND);
    assert_eq!(world.over(1), relay(1), "the other relay does not work");
    world.repairs(direct());
    world.run(FIRST_REST + SECOND);
    assert_eq!((world.over(1), world.over(2)), (direct(), direct()));
    let mut world = World::new(Bug::None);
    world.begin(1, relay(1));
    world.drops_relay(node(1));
    world.run(Duration::from_millis(200));
    assert_eq!((world.over(1), world.moves), (relay(2), 1));
}

#[test]
fn a_relay_that_left_is_given_up_in_time_though_nothing_else_works() {
    let mut world = World::new(Bug::None);
    world.works = [relay(1)].into();
    world.begin(1, relay(1));
    world.run(SECOND);
    world.drops_relay(node(1));
    world.run(LEFT_WITHIN - Duration::from_millis(1));
    assert_eq!((world.over(1), world.leaves), (relay(1), 0));
    world.run(SECOND);
    assert_eq!((world.leaves, world.wrong.take()), (1, None));
    assert!(!world.runs(1), "nothing else carries it");
    let mut world = World::new(Bug::None);
    world.works = [relay(1)].into();
    world.begin(1, relay(1));
    world.drops_relay(node(1));
    world.run(LEFT_WITHIN - SECOND);
    world.relays_are([node(1), node(2)]);
    world.run(600 * SECOND);
    assert_eq!((world.over(1), world.leaves), (relay(1), 0), "it may be used again");
}

#[test]
fn flows_leave_direct_paths_that_are_forbidden_and_come_back_when_they_are_allowed() {
    let mut world = World::new(Bug::None);
    world.repairs(direct());
    (0..3).for_each(|flow| world.begin(flow, direct()));
    world.run(SECOND);
    world.rules_direct(DirectPaths::Forbidden);
    world.run(SECOND);
    assert!((0..3).all(|flow| world.over(flow) == relay(1)), "while theirs still carries them");
    assert_eq!((world.moves, world.leaves, world.most_moving), (3, 0, MAX_MOVING));
    let trials = world.trials;
    world.run(600 * SECOND);
    assert_eq!((world.moves, world.trials, world.wrong.take()), (3, trials, None), "none is tried");
    world.rules_direct(DirectPaths::Allowed);
    world.run(60 * SECOND);
    assert!((0..3).all(|flow| world.over(flow) == direct()));
    assert_eq!(world.wrong, None);
}

#[test]
fn a_direct_path_that_is_forbidden_is_given_up_in_time_though_nothing_else_works() {
    let mut world = World::new(Bug::None);
    world.works = [direct()].into();
    world.begin(1, direct());
    world.rules_direct(DirectPaths::Forbidden);
    world.run(LEFT_WITHIN - Duration::from_millis(1));
    assert_eq!((world.over(1), world.leaves), (direct(), 0));
    world.run(SECOND);
    assert_eq!((world.leaves, world.runs(1), world.wrong), (1, false, None));
}

#[test]
fn it_is_told_which_paths_flows_take_and_leave() {
    let mut lane = LaneMoves::new(7, allowed(all_ways()));
    let now = Moment::from_micros(1);
    let told = |lane: &mut LaneMoves, input| {
        lane.handle_input(now, input);
        lane.take_changes()
    };
    let (direct, relay) = (Some(direct()), Some(relay(1)));
    let began = Input::Began { flow: 1, over: direct.unwrap(), asks_until: FOR_EVER };
    assert_eq!(told(&mut lane, began), [(None, direct)]);
    assert_eq!(told(&mut lane, Input::Lost { flow: 1 }), [(direct, None)]);
    assert_eq!(told(&mut lane, Input::WentOn { flow: 1, over: relay }), [(None, relay)]);
    let forbidden = DirectPaths::Forbidden;
    let forbidden = Allowed { direct: forbidden, ..allowed(all_ways()[1..].to_vec()) };
    assert_eq!(told(&mut lane, Input::WentOn { flow: 1, over: direct }), [(relay, direct)]);
    assert_eq!(told(&mut lane, Input::Ways(forbidden)), []);
    assert_eq!(lane.poll_effect(), Some(Effect::Move { flow: 1, over: relay.unwrap() }));
    assert_eq!(told(&mut lane, Input::Moved { flow: 1 }), [(direct, relay)]);
    assert_eq!(told(&mut lane, Input::Ended { flow: 1 }), [(relay, None)]);
    assert_eq!(told(&mut lane, Input::Ended { flow: 1 }), []);
}

#[test]
fn flows_leave_a_relay_that_drains_for_any_that_does_not_one_after_the_other() {
    let mut world = World::new(Bug::None);
    (0..40).for_each(|flow| world.begin(flow, relay(1)));
    world.run(20 * SECOND);
    world.drains_are([node(1)]);
    let on_first = |world: &World| (0..40).filter(|flow| world.over(*flow) == relay(1)).count();
    world.run(DRAIN_WITHIN / 2);
    let left = on_first(&world);
    assert!((10..30).contains(&left), "{left} of 40 are there after half of the time");
    world.run(DRAIN_WITHIN / 2 + SECOND);
    assert_eq!((on_first(&world), world.over(7)), (0, relay(2)));
    assert_eq!((world.most_moving, world.leaves, world.wrong), (MAX_MOVING, 0, None));
}

#[test]
fn a_flow_leaves_a_relay_that_drains_for_a_chain_and_stays_while_nothing_takes_it() {
    let mut world = World::new(Bug::None);
    let other = Candidate::Chain(crate::paths::Chain::new(&[node(2), node(3)]).unwrap());
    world.ways = vec![relay(1), other];
    world.works = [relay(1)].into();
    world.relays_are([node(1), node(2), node(3)]);
    world.begin(1, relay(1));
    world.drains_are([node(1)]);
    world.run(600 * SECOND);
    assert_eq!((world.over(1), world.moves, world.leaves), (relay(1), 0, 0), "it works");
    world.repairs(other);
    world.run(LONGEST_REST + SECOND);
    assert_eq!((world.over(1), world.moves), (other, 1));
    world.run(600 * SECOND);
    assert_eq!((world.moves, world.wrong.take()), (1, None), "what drains is no shorter way");
    world.drains_are([]);
    world.run(60 * SECOND);
    assert_eq!((world.over(1), world.wrong), (relay(1), None));
}

#[test]
fn a_flow_that_waits_for_a_place_moves_when_those_that_have_them_end() {
    let mut lane = LaneMoves::new(7, allowed(all_ways()));
    let start = Moment::from_micros(1);
    for flow in [1, 2, 3] {
        lane.handle_input(start, Input::Began { flow, over: relay(1), asks_until: FOR_EVER });
    }
    let draining = [node(1)].into();
    lane.handle_input(
        start,
        Input::Ways(Allowed { draining, ..allowed(all_ways()[1..].to_vec()) }),
    );
    let later = start + DRAIN_WITHIN;
    lane.handle_timeout(later);
    let moves: Vec<Effect> = std::iter::from_fn(|| lane.poll_effect()).collect();
    let moves_of = |flow| Effect::Move { flow, over: relay(2) };
    assert_eq!(moves, [moves_of(1), moves_of(2)], "all three are due, and there are two places");
    assert_eq!(lane.poll_timeout(), None);
    assert!(lane.is_moving(2) && !lane.is_moving(3));
    lane.handle_input(later, Input::Ended { flow: 2 });
    assert_eq!(lane.poll_effect(), Some(moves_of(3)));
    lane.handle_input(later, Input::Ended { flow: 1 });
    assert_eq!((lane.poll_effect(), lane.poll_timeout()), (None, None));
}

#[test]
fn a_flow_that_begins_over_a_relay_that_drains_leaves_it_too() {
    let mut world = World::new(Bug::None);
    // Nothing is tried that would have it looked at.
    world.ways = vec![relay(1), relay(2)];
    world.drains_are([node(1)]);
    world.begin(1, relay(1));
    world.run(DRAIN_WITHIN + SECOND);
    assert_eq!((world.over(1), world.moves, world.wrong), (relay(2), 1, None));
}

#[test]
fn a_flow_whose_relay_drains_no_more_stays() {
    let mut world = World::new(Bug::None);
    (0..20).for_each(|flow| world.begin(flow, relay(1)));
    world.run(SECOND);
    world.drains_are([node(1)]);
    world.run(DRAIN_WITHIN / 2);
    world.drains_are([]);
    world.run(SECOND);
    let moves = world.moves;
    assert!((1..20).contains(&moves), "{moves}");
    world.run(60 * SECOND);
    assert_eq!(world.moves, moves);
}

#[test]
fn a_flow_whose_token_has_expired_is_not_tried_until_it_has_another() {
    let mut world = World::new(Bug::None);
    let expires = world.now + 60 * SECOND;
    world.begin_until(1, relay(1), expires);
    world.run(70 * SECOND);
    let trials = world.trials;
    world.repairs(direct());
    world.run(600 * SECOND);
    assert_eq!((world.moves, world.trials - trials), (0, 0), "it could not move");
    world.shows_token(1, world.now + SECOND);
    world.works = [relay(1)].into();
    world.drops_relay(node(1));
    world.run(600 * SECOND);
    assert_eq!((world.moves, world.leaves, world.over(1)), (0, 0, relay(1)));
    world.works = all_ways().into_iter().collect();
    assert_eq!(world.lane.poll_timeout(), None);
    let until = world.now + 60 * SECOND;
    world.shows_token(1, until);
    world.run(SECOND);
    assert_eq!((world.moves, world.over(1)), (1, relay(2)), "it leaves what is no relay at once");
    world.shows_token(1, FOR_EVER);
    world.run(60 * SECOND);
    assert_eq!((world.over(1), world.wrong), (direct(), None));
}

#[test]
fn a_token_that_expires_sooner_than_was_known_is_asked_with_once() {
    let mut lane = LaneMoves::new(7, allowed(all_ways()));
    let mut now = Moment::from_micros(1);
    let began = Input::Began { flow: 1, over: relay(1), asks_until: FOR_EVER };
    lane.handle_input(now, began);
    let mut moves = 0;
    while let Some(at) = lane.poll_timeout() {
        now = at;
        lane.handle_timeout(now);
        while let Some(effect) = lane.poll_effect() {
            let input = match effect {
                Effect::Try(candidate) => Input::Tried { candidate, round_trip: Some(ROUND_TRIP) },
                Effect::Move { flow, .. } => {
                    moves += 1;
                    Input::Stayed { flow, why: Stayed::Token }
                }
                Effect::Leave { .. } => panic!("the relay is there"),
            };
            lane.handle_input(now, input);
        }
    }
    assert_eq!(moves, 1);
    lane.handle_input(now, Input::MayAsk { flow: 1, until: FOR_EVER });
    assert_eq!(lane.poll_effect(), Some(Effect::Move { flow: 1, over: direct() }));
}

#[test]
fn a_move_that_fails_rests_its_path_and_the_flow_is_where_it_was() {
    let mut lane = LaneMoves::new(7, allowed(all_ways()));
    let mut now = Moment::from_micros(1);
    let began = Input::Began { flow: 1, over: relay(1), asks_until: FOR_EVER };
    lane.handle_input(now, began);
    let mut moves = Vec::new();
    while moves.len() < 4 {
        now = lane.poll_timeout().unwrap();
        lane.handle_timeout(now);
        while let Some(effect) = lane.poll_effect() {
            match effect {
                Effect::Try(candidate) => {
                    lane.handle_input(
                        now,
                        Input::Tried { candidate, round_trip: Some(ROUND_TRIP) },
                    );
                }
                Effect::Move { flow, .. } => {
                    moves.push(now);
                    lane.handle_input(now, Input::Stayed { flow, why: Stayed::Path });
                }
                Effect::Leave { .. } => panic!("the relay is there"),
            }
        }
    }
    let pauses: Vec<Duration> = moves.windows(2).map(|two| two[1].since(two[0])).collect();
    assert!(pauses[0] >= FIRST_REST, "{pauses:?}");
    assert!(pauses.windows(2).all(|two| two[1] > two[0]), "longer each time: {pauses:?}");
}

#[test]
fn a_flow_that_the_egress_refuses_is_asked_for_rarely_and_its_path_is_as_good_as_before() {
    let mut lane = LaneMoves::new(7, allowed(all_ways()));
    let start = Moment::from_micros(1);
    for flow in [1, 2] {
        let began = Input::Began { flow, over: relay(1), asks_until: FOR_EVER };
        lane.handle_input(start, began);
    }
    let (mut refused, mut moved) = (Vec::new(), None);
    while refused.len() < 2 {
        let now = lane.poll_timeout().unwrap();
        lane.handle_timeout(now);
        while let Some(effect) = lane.poll_effect() {
            let input = match effect {
                Effect::Try(candidate) => Input::Tried { candidate, round_trip: Some(ROUND_TRIP) },
                Effect::Move { flow: 1, .. } => {
                    refused.push(now);
                    Input::Stayed { flow: 1, why: Stayed::Flow }
                }
                Effect::Move { flow, .. } => {
                    moved = Some(now);
                    Input::Moved { flow }
                }
                Effect::Leave { .. } => panic!("the relay is there"),
            };
            lane.handle_input(now, input);
        }
    }
    assert!(refused[1].since(refused[0]) >= MOVE_EVERY);
    assert!(moved.unwrap().since(start) < 10 * SECOND, "the other flow moved meanwhile");
}

#[test]
fn so_many_paths_are_remembered_and_tried() {
    let address = |last: u16| Candidate::Direct(([192, 0, 2, 1], 1000 + last).into());
    let many: Vec<Candidate> = (0..600).map(address).collect();
    let mut lane = LaneMoves::new(7, allowed(many.clone()));
    let start = Moment::from_micros(1);
    let began = Input::Began { flow: 1, over: relay(1), asks_until: FOR_EVER };
    lane.handle_input(start, began);
    lane.handle_timeout(start + 2 * WORTH_AFTER);
    assert_eq!(std::iter::from_fn(|| lane.poll_effect()).count(), MAX_TRIED);
    let mut prospects = Prospects::default();
    for candidate in &many {
        prospects.failed(start, *candidate, false);
    }
    let resting = many.iter().filter(|it| prospects.rests_until(**it) > start).count();
    assert_eq!(resting, MAX_PROSPECTS);
    let later = start + LONGEST_REST;
    assert!(prospects.begin_trial(later, many[599]), "what rests no more makes room");
}
