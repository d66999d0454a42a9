mod better;
mod outages;
mod slowness;
mod successors;
mod world;

use super::{
    open_path::WARM_PROBE_EVERY,
    rests::{DIRECT_REST, LONGEST_REST, Rests},
    silence::{SUSPECT_FLOOR, SUSPECT_RTTS},
    upkeep::PROVEN_AFTER,
    *,
};
use world::{Condition, World, at, direct, relay};

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

const fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[test]
fn one_more_relay_is_kept_warm_beside_a_relayed_path_and_none_beside_a_direct_one() {
    let mut world = World::new(relay(1), &[relay(1), relay(2), relay(3)]);
    world.run(s(60));
    assert_eq!(world.open.values().copied().collect::<Vec<_>>(), [relay(1), relay(2)]);
    let every = 60 / u32::try_from(WARM_PROBE_EVERY.as_secs()).unwrap_or(1);
    assert!((every..=every + 2).contains(&world.probes), "{} probes", world.probes);
    let mut world = World::new(direct(1), &[direct(1), relay(2)]);
    world.run(s(60));
    assert_eq!((world.open.len(), world.probes), (1, 0));
}

#[test]
fn a_silent_path_is_left_for_the_warm_one_soon() {
    let mut world = World::new(relay(1), &[relay(1), relay(2)]);
    world.run(s(10));
    world.set(relay(1), Condition::Dead);
    world.run(ms(700));
    assert_eq!(world.path(), Some(relay(2)));
    let standing = world.lane.standing();
    assert_eq!((standing.switches, standing.last_switch), (1, Some(SwitchReason::Silent)));
    assert_eq!(standing.recovery, None);
    assert_eq!(world.lane.take_happened().switches, [(SwitchReason::Silent, 1)].into());
}

#[test]
fn a_path_that_is_gone_is_left_at_once() {
    let mut world = World::new(relay(1), &[relay(1), relay(2)]);
    world.run(s(1));
    world.tell(Input::Gone { generation: LanePath::FIRST });
    assert_eq!(world.path(), Some(relay(2)));
    assert_eq!(world.lane.standing().last_switch, Some(SwitchReason::Gone));
}

#[test]
fn a_relay_that_is_not_allowed_any_more_carries_nothing_further() {
    let mut world = World::new(relay(1), &[relay(1)]);
    world.run(s(1));
    world.tell(Input::Candidates(Vec::new()));
    assert_eq!(world.path(), None);
    world.tell(Input::Candidates(vec![relay(2)]));
    world.set(relay(2), Condition::Works);
    world.run(s(1));
    assert_eq!(world.path(), Some(relay(2)));
    assert_eq!(world.lane.standing().last_switch, Some(SwitchReason::NotAllowed));
}

#[test]
fn a_direct_path_stays_when_it_is_not_listed_and_is_left_when_it_is_withdrawn() {
    let mut world = World::new(direct(1), &[direct(1), relay(2)]);
    world.run(s(1));
    world.tell(Input::Withdrawn(direct(1)));
    world.run(s(1));
    assert_eq!(world.path(), Some(direct(1)), "the snapshot names it itself");
    world.tell(Input::Candidates(vec![relay(2)]));
    world.run(s(1));
    assert_eq!(world.path(), Some(direct(1)), "it works, and nobody said otherwise");
    world.tell(Input::Withdrawn(direct(3)));
    world.run(s(1));
    assert_eq!(world.path(), Some(direct(1)), "another one was meant");
    world.tell(Input::Withdrawn(direct(1)));
    assert_eq!(world.path(), None, "not a datagram more");
    world.run(s(1));
    assert_eq!(world.path(), Some(relay(2)));
    assert_eq!(world.lane.standing().last_switch, Some(SwitchReason::NotAllowed));
}

#[test]
fn a_lane_leaves_a_direct_path_that_is_forbidden_and_takes_it_when_it_is_allowed_again() {
    let mut world = World::new(direct(1), &[direct(1), direct(3), relay(2)]);
    world.run(s(1));
    let forbid = |world: &mut World| {
        world.tell(Input::Candidates(vec![relay(2)]));
        world.tell(Input::Direct(DirectPaths::Forbidden));
    };
    forbid(&mut world);
    assert_eq!(world.path(), None, "not a datagram more");
    world.run(ms(100));
    assert_eq!(world.path(), Some(relay(2)));
    assert_eq!(world.lane.standing().last_switch, Some(SwitchReason::NotAllowed));
    forbid(&mut world);
    world.run(s(600));
    let open: Vec<Candidate> = world.open.values().copied().collect();
    assert_eq!((open, world.lane.standing().switches), (vec![relay(2)], 1), "none is looked for");
    assert!(world.now.since(world.last_echo) < ms(100), "it is carried");
    world.tell(Input::Candidates(vec![direct(1), relay(2)]));
    world.run(s(2));
    assert_eq!(world.path(), Some(direct(1)), "it did not fail");
}

#[test]
fn a_lane_that_has_nothing_but_a_forbidden_direct_path_waits_until_it_is_allowed_again() {
    let mut world = World::new(direct(1), &[direct(1)]);
    world.run(s(1));
    world.tell(Input::Candidates(Vec::new()));
    world.tell(Input::Direct(DirectPaths::Forbidden));
    world.run(s(10));
    assert_eq!((world.path(), world.retired), (None, 1));
    world.tell(Input::Candidates(vec![direct(1)]));
    world.run(s(1));
    assert_eq!(world.path(), Some(direct(1)));
}

#[test]
fn a_direct_path_that_takes_much_longer_than_the_relay_is_not_taken() {
    for (direct_takes, taken) in [(ms(20), true), (ms(21), false), (ms(300), false)] {
        let mut world = World::new(relay(1), &[direct(1), relay(1)]);
        world.round_trips.insert(direct(1), direct_takes);
        world.run(s(30) + LONGEST_REST);
        assert_eq!(world.path() == Some(direct(1)), taken, "{direct_takes:?} beside 10 ms");
        assert_eq!(world.lane.standing().switches, u64::from(taken));
    }
}

#[test]
fn a_slow_direct_path_is_taken_all_the_same_when_nothing_else_works() {
    let mut world = World::new(relay(1), &[direct(1), relay(1)]);
    world.round_trips.insert(direct(1), ms(300));
    world.run(s(10));
    world.set(relay(1), Condition::Dead);
    world.run(s(10));
    assert_eq!(world.path(), Some(direct(1)));
}

#[test]
fn recovery_goes_through_its_steps_in_order_and_asks_others_last() {
    let mut world = World::new(relay(1), &[relay(1), relay(2), relay(3)]);
    world.run(s(1));
    world.conditions.values_mut().for_each(|one| *one = Condition::Dead);
    let mut seen = Vec::new();
    for _ in 0..1_000 {
        world.run(ms(10));
        let step = world.lane.standing().recovery;
        if seen.last() != step.as_ref() {
            seen.extend(step);
        }
        assert!(world.asked == 0 || step >= Some(RecoveryStep::Discovery));
        assert!(world.retired == 0 || step == Some(RecoveryStep::LastSnapshot));
    }
    use RecoveryStep::{Cold, Discovery, LastSnapshot, RetryActive, Warm};
    assert_eq!(seen, [RetryActive, Warm, Cold, Discovery, LastSnapshot]);
    let happened = world.lane.take_happened();
    assert_eq!(happened.steps, seen.into_iter().map(|step| (step, 1)).collect());
    assert_eq!(world.lane.take_happened(), Happened::default(), "it was taken");
    assert_eq!((world.asked, world.retired), (1, 1), "each is said once");
    world.set(relay(3), Condition::Works);
    world.run(s(4));
    assert_eq!(world.path(), Some(relay(3)));
}

#[test]
fn a_path_that_answers_its_probe_is_kept() {
    let mut world = World::new(relay(1), &[relay(1), relay(2)]);
    world.run(s(1));
    // The far end has nothing to say to one datagram.
    world.set(relay(1), Condition::Hollow);
    world.run(ms(40));
    world.sends = false;
    world.run(s(5));
    assert_eq!(world.path(), Some(relay(1)));
    assert!(world.steps.contains(&RecoveryStep::RetryActive), "it was doubted");
    assert!(!world.lane.is_looking(), "a lane at rest costs nothing");
}

#[test]
fn a_path_that_answers_probes_and_carries_nothing_is_left() {
    let mut world = World::new(relay(1), &[relay(1), relay(2)]);
    world.run(s(1));
    world.set(relay(1), Condition::Hollow);
    world.run(s(2));
    assert_eq!(world.path(), Some(relay(2)));
    assert_eq!(world.lane.standing().last_switch, Some(SwitchReason::Hollow));
}

#[test]
fn nobody_is_suspected_before_some_round_trips_are_over() {
    let mut world = World::new(relay(1), &[relay(1), relay(2)]);
    world.round_trip = ms(300);
    world.run(s(20));
    world.steps.clear();
    world.set(relay(1), Condition::Dead);
    // What is under way still arrives.
    world.run(world.round_trip + world.round_trip * SUSPECT_RTTS - ms(1));
    assert!(world.round_trip * SUSPECT_RTTS > SUSPECT_FLOOR && world.steps.is_empty());
    world.run(s(2));
    assert_eq!(world.path(), Some(relay(2)));
}

#[test]
fn a_node_that_stood_still_suspects_nobody_for_it() {
    let mut world = World::new(relay(1), &[relay(1), relay(2)]);
    world.run(s(1));
    world.set(relay(1), Condition::Dead);
    world.run(ms(100));
    world.stand_still(s(5));
    assert_eq!(world.lane.standing().recovery, None);
    world.run(s(1));
    assert_eq!(world.path(), Some(relay(2)), "but what is dead is found dead");
}

#[test]
fn a_direct_path_that_works_takes_over_and_the_relay_stays_until_it_has_proven_itself() {
    let mut world = World::new(relay(1), &[relay(1)]);
    world.run(s(1));
    world.set(direct(1), Condition::Works);
    world.tell(Input::Candidates(vec![direct(1), relay(1)]));
    world.run(s(1));
    assert_eq!(world.path(), Some(direct(1)), "three answers took less than a second");
    assert_eq!(world.open.len(), 2, "the relay stays warm");
    world.run(PROVEN_AFTER);
    assert_eq!(world.open.values().copied().collect::<Vec<_>>(), [direct(1)]);
    assert_eq!(world.lane.standing().last_switch, Some(SwitchReason::Better));
    world.set(direct(1), Condition::Dead);
    world.run(s(1));
    assert_eq!(world.path(), Some(relay(1)), "and back");
}

#[test]
fn a_direct_path_that_only_seems_to_work_is_left_and_tried_ever_more_seldom() {
    let mut world = World::new(relay(1), &[direct(1), relay(1)]);
    world.set(direct(1), Condition::Hollow);
    world.run(s(30));
    assert_eq!(world.lane.standing().last_switch, Some(SwitchReason::Unproven));
    assert_eq!(world.path(), Some(relay(1)));
    world.run(s(3_600));
    let switches = world.lane.standing().switches;
    assert!(switches <= 40, "{switches} switches in an hour");
}

#[test]
fn a_direct_lane_heeds_relays_from_when_probes_alone_speak_for_its_path() {
    let mut world = World::new(direct(1), &[direct(1), relay(1), relay(2)]);
    world.run(s(1));
    assert!(!world.lane.heeds_relays(), "it works");
    world.set(direct(1), Condition::Hollow);
    while world.lane.standing().recovery.is_none() {
        world.run(ms(1));
    }
    while world.lane.standing().recovery.is_some() {
        world.run(ms(1));
    }
    assert_eq!(world.path(), Some(direct(1)), "a probe was answered");
    assert!(world.lane.heeds_relays() && world.lane.is_in_doubt());
    // The relay that was the first is none any more by when the lane needs one.
    world.set(relay(1), Condition::Dead);
    world.tell(Input::Candidates(vec![direct(1), relay(2), relay(1)]));
    while world.path() == Some(direct(1)) {
        let relays = world.open.values().filter(|one| one.is_relayed()).count();
        assert!(relays > 0 || world.lane.heeds_relays(), "it looks until it opens one");
        world.run(ms(1));
    }
    world.run(s(1));
    assert_eq!(world.path(), Some(relay(2)));
}

#[test]
fn a_direct_lane_that_hears_again_or_rests_heeds_no_relays() {
    let mut world = World::new(direct(1), &[direct(1), relay(1)]);
    world.run(s(1));
    world.set(direct(1), Condition::Hollow);
    while world.lane.standing().recovery.is_none() {
        world.run(ms(1));
    }
    world.sends = false;
    world.run(s(5));
    assert_eq!(world.path(), Some(direct(1)));
    assert!(!world.lane.heeds_relays(), "it sends nothing");
    world.set(direct(1), Condition::Works);
    world.sends = true;
    world.run(s(1));
    assert!(!world.lane.heeds_relays());
}

#[test]
fn a_direct_path_that_was_just_overtaken_rests_first() {
    let mut world = World::new(relay(1), &[direct(1), relay(1)]);
    world.run(DIRECT_REST - ms(1));
    assert!(!world.open.values().any(|path| *path == direct(1)));
    world.run(s(2));
    assert_eq!(world.path(), Some(direct(1)));
}

#[test]
fn what_comes_late_concerns_nobody() {
    let mut world = World::new(relay(1), &[relay(1), relay(2)]);
    world.run(s(1));
    assert!(world.lane.has_open(LanePath::FIRST));
    world.tell(Input::Gone { generation: LanePath::FIRST });
    assert!(!world.lane.has_open(LanePath::FIRST));
    let before = world.lane.standing();
    for generation in [LanePath::FIRST, 99] {
        world.tell(Input::Gone { generation });
        world.tell(Input::Opened { generation });
        world.tell(Input::Refused { generation });
        world.tell(Input::Doubted { generation });
        world.tell(Input::Answered { generation, probe: 1 });
    }
    assert_eq!(world.lane.standing(), before);
}

#[test]
fn a_lost_hop_brings_doubt_and_no_switch_while_the_flow_works() {
    let mut world = World::new(relay(1), &[relay(1), relay(2)]);
    world.run(s(1));
    world.tell(Input::Doubted { generation: LanePath::FIRST });
    assert_eq!(world.lane.standing().recovery, Some(RecoveryStep::RetryActive));
    world.run(ms(50));
    let stands = Standing { switches: 0, last_switch: None, recovery: None, not_better: false };
    assert_eq!(world.lane.standing(), stands);
}

#[test]
fn paths_and_candidates_are_bounded() {
    let all: Vec<Candidate> = (0..40).map(relay).collect();
    let mut world = World::new(relay(0), &all);
    assert_eq!(world.lane.candidates.len(), MAX_CANDIDATES);
    world.conditions.values_mut().for_each(|one| *one = Condition::Dead);
    world.run(s(60));
    assert_eq!(world.most_open, 1 + recovery::MAX_TRIED);
    assert!(world.most_open <= MAX_OPEN);
}

#[test]
fn rests_grow_to_a_limit_and_are_forgotten() {
    let mut rests = Rests::default();
    let (now, one) = (at(1_000), relay(1));
    assert!(rests.is_over(now, one, false));
    rests.failed(now, one);
    assert_eq!(rests.over_at(one, false), Some(now + rests::RELAY_REST));
    for _ in 0..40 {
        rests.failed(now, one);
    }
    assert_eq!(rests.over_at(one, false), Some(now + LONGEST_REST));
    assert_eq!(rests.over_at(one, true), Some(now + rests::RECOVERY_REST));
    rests.end_all();
    assert!(rests.is_over(now, one, false));
    rests.forget(one);
    rests.failed(now, one);
    assert_eq!(rests.over_at(one, false), Some(now + rests::RELAY_REST));
}

fn chain(numbers: &[u128]) -> Candidate {
    let relays: Vec<_> =
        numbers.iter().map(|number| rap_proto::NodeId::from_u128(100 + number)).collect();
    Candidate::Chain(crate::paths::Chain::new(&relays).expect("two or three, none twice"))
}

#[test]
fn a_lane_whose_relays_all_fail_goes_on_over_a_chain() {
    let mut world = World::new(relay(1), &[relay(1), relay(2), chain(&[3, 4])]);
    world.run(s(10));
    world.set(relay(1), Condition::Dead);
    world.set(relay(2), Condition::Dead);
    world.run(s(10));
    assert_eq!(world.path(), Some(chain(&[3, 4])));
    world.set(chain(&[3, 4]), Condition::Dead);
    world.set(relay(2), Condition::Works);
    world.run(s(10));
    assert_eq!(world.path(), Some(relay(2)), "and leaves it as it leaves a relay");
}

#[test]
fn a_lane_on_a_chain_goes_back_to_a_single_relay_that_works_and_stays_there() {
    let candidates = [relay(1), chain(&[2, 3]), chain(&[3, 2])];
    let mut world = World::new(chain(&[2, 3]), &candidates);
    world.set(relay(1), Condition::Dead);
    world.run(s(30));
    assert_eq!(world.path(), Some(chain(&[2, 3])));
    let open: Vec<_> = world.open.values().copied().collect();
    assert!(open.contains(&chain(&[3, 2])), "another chain is kept ready: {open:?}");
    assert!(world.most_open <= 4, "{}", world.most_open);
    world.set(relay(1), Condition::Works);
    world.run(s(120));
    assert_eq!(world.path(), Some(relay(1)));
    let standing = world.lane.standing();
    assert_eq!((standing.switches, standing.last_switch), (1, Some(SwitchReason::Better)));
    world.run(s(120));
    assert_eq!(world.lane.standing().switches, 1, "no chain takes it back");
}
