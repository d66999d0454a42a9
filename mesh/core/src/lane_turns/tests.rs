#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::*;
use crate::shape::LANE_FLOOR;

fn at(micros: u64) -> Moment {
    Moment::from_micros(micros)
}

fn joined(lanes: &[Lane]) -> (LaneTurns, Vec<MemberId>) {
    let mut turns = LaneTurns::default();
    let members = lanes.iter().map(|lane| turns.join(*lane).unwrap()).collect();
    (turns, members)
}

fn granted(turns: &mut LaneTurns) -> Vec<(MemberId, usize)> {
    let effects = std::iter::from_fn(|| turns.poll_effect());
    effects.map(|effect| (effect.member, effect.bytes)).collect()
}

#[test]
fn where_nobody_is_before_it_a_turn_is_long_and_there_at_once() {
    let (mut turns, members) = joined(&[Lane::Bulk, Lane::Bulk, Lane::Media]);
    for member in &members {
        assert_eq!(turns.ask(at(0), *member), Answer::Now(LONG_TURN), "lanes that go on as well");
    }
    assert_eq!((turns.poll_timeout(), turns.waits()), (None, 0));
}

#[test]
fn bulk_gives_way_to_media_and_both_to_keys() {
    let (mut turns, members) = joined(&[Lane::Bulk, Lane::Media, Lane::Interactive]);
    let [bulk, media, keys] = members[..] else { unreachable!() };
    assert_eq!(turns.ask(at(0), keys), Answer::Now(LONG_TURN));
    assert_eq!(turns.ask(at(0), bulk), Answer::Later);
    assert_eq!(turns.ask(at(0), media), Answer::Later);
    turns.end(at(1), keys, 100);
    assert_eq!(granted(&mut turns), [(media, LONG_TURN)], "bulk asked first");
    turns.end(at(2), media, 100);
    assert_eq!(granted(&mut turns), [(bulk, LONG_TURN)]);
    assert_eq!(turns.waits(), 2);
}

#[test]
fn so_many_bytes_ahead_a_lower_lane_has_one_short_turn() {
    let (mut turns, members) = joined(&[Lane::Interactive, Lane::Bulk, Lane::Bulk]);
    let [keys, bulk, other] = members[..] else { unreachable!() };
    turns.ask(at(0), keys);
    for waits in [bulk, other] {
        assert_eq!(turns.ask(at(0), waits), Answer::Later);
    }
    let mut keys_passed = 0;
    while granted(&mut turns).is_empty() {
        // The next turn begins before the last one has ended, as of two flows.
        let another = turns.join(Lane::Interactive).unwrap();
        turns.ask(at(0), another);
        turns.end(at(0), keys, 1_000);
        keys_passed += 1_000;
        turns.ask(at(0), keys);
        turns.leave(at(0), another);
    }
    assert_eq!(keys_passed, 23_000, "fifteen parts of sixteen, of a packet's floor");
    turns.end(at(0), bulk, 1_500);
    assert!(granted(&mut turns).is_empty(), "the floor is paid");
}

#[test]
fn whoever_has_more_goes_on_and_nobody_below_comes_between() {
    let (mut turns, members) = joined(&[Lane::Interactive, Lane::Media, Lane::Bulk]);
    let [keys, media, bulk] = members[..] else { unreachable!() };
    turns.ask(at(0), keys);
    turns.ask(at(0), media);
    turns.ask(at(0), bulk);
    for _ in 0..10 {
        assert_eq!(turns.again(at(1), keys, 100), Answer::Now(LONG_TURN));
        assert!(granted(&mut turns).is_empty());
    }
    turns.end(at(2), keys, 100);
    assert_eq!(granted(&mut turns), [(media, LONG_TURN)]);
    // The other way round there is no going on.
    turns.ask(at(3), keys);
    assert_eq!(turns.again(at(3), media, 100), Answer::Later);
}

#[test]
fn a_floor_is_of_all_bytes_before_it_however_many_a_turn_has() {
    for bytes in [1_200, SHORT_TURN, LONG_TURN] {
        let (mut turns, members) = joined(&[Lane::Interactive, Lane::Bulk]);
        let [keys, bulk] = members[..] else { unreachable!() };
        turns.ask(at(0), keys);
        turns.ask(at(0), bulk);
        let (mut ahead, mut floor) = (0, 0);
        while ahead < 100 * LONG_TURN {
            assert_eq!(turns.again(at(0), keys, bytes), Answer::Now(LONG_TURN));
            ahead += bytes;
            for (member, room) in granted(&mut turns) {
                floor += room;
                assert_eq!(turns.again(at(0), member, room), Answer::Later);
            }
        }
        let due = (ahead + floor) / usize::try_from(LANE_FLOOR).unwrap();
        assert!(floor.abs_diff(due) <= due / 10, "{bytes}: {floor} of {ahead}, not {due}");
    }
}

#[test]
fn what_a_lane_had_while_nobody_was_before_it_takes_nothing_from_its_floor() {
    let (mut turns, members) = joined(&[Lane::Interactive, Lane::Bulk]);
    let [keys, bulk] = members[..] else { unreachable!() };
    turns.ask(at(0), keys);
    turns.end(at(0), keys, 100);
    assert_eq!(turns.ask(at(0), bulk), Answer::Now(LONG_TURN));
    turns.end(at(0), bulk, LONG_TURN);
    turns.ask(at(0), keys);
    assert_eq!(turns.ask(at(0), bulk), Answer::Later);
    turns.again(at(0), keys, 23_000);
    assert_eq!(granted(&mut turns), [(bulk, SHORT_TURN)]);
}

#[test]
fn whoever_is_stuck_in_its_turn_stops_a_lane_for_so_long_and_no_longer() {
    let (mut turns, members) = joined(&[Lane::Interactive, Lane::Bulk, Lane::Bulk]);
    turns.ask(at(0), members[0]);
    assert_eq!(turns.ask(at(5_000), members[1]), Answer::Later);
    assert_eq!(turns.ask(at(6_000), members[2]), Answer::Later);
    assert_eq!(turns.poll_timeout(), Some(at(25_000)));
    turns.handle_timeout(at(24_999));
    assert!(granted(&mut turns).is_empty());
    turns.handle_timeout(at(25_000));
    assert_eq!(granted(&mut turns), [(members[1], SHORT_TURN)], "one of them");
    // That one is stuck, too.
    assert_eq!(turns.poll_timeout(), Some(at(45_000)));
    turns.handle_timeout(at(45_000));
    assert_eq!(granted(&mut turns), [(members[2], SHORT_TURN)]);
}

#[test]
fn with_a_rate_turns_are_given_as_it_allows_and_keys_do_not_wait_for_what_bulk_took() {
    let (mut turns, members) = joined(&[Lane::Bulk, Lane::Bulk, Lane::Interactive]);
    turns.apply(at(0), Some("8mbit".parse().unwrap()));
    assert_eq!(turns.ask(at(0), members[0]), Answer::Now(SHORT_TURN));
    assert_eq!(turns.ask(at(0), members[1]), Answer::Later);
    assert_eq!(turns.ask(at(0), members[2]), Answer::Now(SHORT_TURN));
    turns.end(at(0), members[2], 100);
    turns.end(at(0), members[0], 13_900);
    assert_eq!(turns.poll_timeout(), Some(at(10_001)), "14,000 passed, 4,000 were there");
    turns.handle_timeout(at(10_000));
    assert!(granted(&mut turns).is_empty());
    turns.handle_timeout(at(10_001));
    assert_eq!(granted(&mut turns), [(members[1], SHORT_TURN)]);
}

#[test]
fn turns_from_before_a_rate_owe_it_nothing() {
    let (mut turns, members) = joined(&[Lane::Bulk; 8]);
    for member in &members {
        assert_eq!(turns.ask(at(0), *member), Answer::Now(LONG_TURN));
    }
    turns.apply(at(1), BitRate::new(10_000_000));
    for member in &members {
        turns.end(at(2), *member, LONG_TURN);
    }
    let keys = turns.join(Lane::Interactive).unwrap();
    assert!(matches!(turns.ask(at(3), keys), Answer::Now(_)));
}

#[test]
fn a_rate_that_goes_lets_everybody_go_on() {
    let (mut turns, members) = joined(&[Lane::Bulk, Lane::Bulk]);
    turns.apply(at(0), Some("8kbit".parse().unwrap()));
    turns.ask(at(0), members[0]);
    assert_eq!(turns.ask(at(0), members[1]), Answer::Later);
    turns.apply(at(1), None);
    assert_eq!(granted(&mut turns), [(members[1], LONG_TURN)]);
    turns.end(at(2), members[0], 10_000_000);
    assert_eq!(turns.ask(at(2), members[0]), Answer::Now(LONG_TURN));
}

#[test]
fn who_leaves_or_gives_up_waits_no_more_and_holds_nobody_up() {
    let (mut turns, members) = joined(&[Lane::Interactive, Lane::Media, Lane::Bulk]);
    let [keys, media, bulk] = members[..] else { unreachable!() };
    turns.ask(at(0), keys);
    turns.ask(at(0), media);
    turns.ask(at(0), bulk);
    turns.end(at(0), media, 0);
    turns.leave(at(0), keys);
    assert_eq!(granted(&mut turns), [(bulk, LONG_TURN)], "media had given up");
    turns.leave(at(0), bulk);
    assert_eq!((granted(&mut turns), turns.poll_timeout()), (Vec::new(), None));
}

#[test]
fn there_are_so_many_members_and_no_more() {
    let (mut turns, members) = joined(&[Lane::Bulk; MAX_MEMBERS]);
    assert_eq!(turns.join(Lane::Interactive), Err(Full));
    turns.leave(at(0), members[0]);
    turns.join(Lane::Interactive).unwrap();
}

const RATE: u64 = 80_000_000;
const LANES: [Lane; 5] =
    [Lane::Interactive, Lane::Media, Lane::Bulk, Lane::Interactive, Lane::Bulk];

/// What each lane passed in a second of members that always have more, each of these sizes.
fn shares(wanted: [bool; 3], bytes: usize) -> [u64; 3] {
    let (mut turns, members) = joined(&LANES);
    turns.apply(at(0), BitRate::new(RATE));
    let (mut now, mut passed, mut forwards) = (at(0), [0; 3], VecDeque::new());
    let lane_of = |id: MemberId| LANES[members.iter().position(|it| *it == id).unwrap()];
    let wanting = members.iter().filter(|id| wanted[index(lane_of(**id))]);
    for id in wanting {
        if turns.ask(now, *id) != Answer::Later {
            forwards.push_back(*id);
        }
    }
    while now < at(1_000_000) {
        forwards.extend(std::iter::from_fn(|| turns.poll_effect()).map(|effect| effect.member));
        let Some(id) = forwards.pop_front() else {
            now = turns.poll_timeout().unwrap().max(now);
            turns.handle_timeout(now);
            continue;
        };
        passed[index(lane_of(id))] += bytes as u64;
        if turns.again(now, id, bytes) != Answer::Later {
            forwards.push_back(id);
        }
    }
    passed
}

#[test]
fn each_lane_has_its_floor_and_the_highest_has_the_rest() {
    let floor = LANE_FLOOR as u64;
    for bytes in [1_200, 14_000, SHORT_TURN] {
        let [keys, media, bulk] = shares([true; 3], bytes);
        let all = keys + media + bulk;
        let near = |part: u64, whole: u64| part.abs_diff(whole) <= whole / 10 + 2 * bytes as u64;
        assert!(near(bulk, all / floor), "{bytes}: {keys} {media} {bulk}");
        assert!(near(media, (keys + media) / floor), "{bytes}: {keys} {media} {bulk}");
        assert!(near(all, RATE / 8), "{bytes}: {all}");
        let [_, media, bulk] = shares([false, true, true], bytes);
        assert!(near(bulk, (media + bulk) / floor), "{bytes}: {media} {bulk}");
        let alone = shares([false, false, true], bytes);
        assert!(near(alone[2], RATE / 8), "{bytes}: {alone:?}");
    }
}

#[derive(Debug, Clone)]
enum Step {
    /// Of a turn that it has, so many bytes passed.
    Ask(usize, usize),
    End(usize, usize),
    Pass(u64),
    Rate(Option<u64>),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (0..LANES.len(), 0..100_000_usize).prop_map(|(of, bytes)| Step::Ask(of, bytes)),
        4 => (0..LANES.len(), 0..100_000_usize).prop_map(|(of, bytes)| Step::End(of, bytes)),
        2 => (0..30_000_u64).prop_map(Step::Pass),
        1 => proptest::option::of(100_000..1_000_000_000_u64).prop_map(Step::Rate),
    ];
    proptest::collection::vec(step, 0..200)
}

proptest! {
    /// Whoever goes although somebody is before it has a short turn, and one for which there is a
    /// reason. Nobody is forgotten: who waits has a timer, and it comes to its turn.
    #[test]
    fn lanes_are_strict_but_for_their_floors_and_nobody_waits_for_ever(steps in steps()) {
        let (mut turns, members) = joined(&LANES);
        let (mut now, mut waits, mut forwards) = (0, [false; 5], [false; 5]);
        for step in steps {
            let due = turns.ahead.due();
            let mut begun = Vec::new();
            match step {
                Step::Ask(of, passed) => {
                    (waits[of], forwards[of]) = (true, false);
                    if let Answer::Now(bytes) = turns.again(at(now), members[of], passed) {
                        begun.push((members[of], bytes));
                    }
                }
                Step::End(of, bytes) => {
                    (waits[of], forwards[of]) = (false, false);
                    turns.end(at(now), members[of], bytes);
                }
                Step::Pass(micros) => {
                    now += micros;
                    turns.handle_timeout(at(now));
                }
                Step::Rate(rate) => turns.apply(at(now), rate.and_then(BitRate::new)),
            }
            begun.extend(granted(&mut turns));
            let place = |member| members.iter().position(|it| *it == member).unwrap();
            for (member, _) in &begun {
                let of = place(*member);
                prop_assert!(waits[of], "nobody has a turn who did not ask");
                (waits[of], forwards[of]) = (false, true);
            }
            for (member, bytes) in begun {
                let of = place(member);
                let is_before = |other: usize| index(LANES[other]) < index(LANES[of]);
                let blocked = (0..5).any(|other| is_before(other) && forwards[other]);
                if blocked {
                    prop_assert_eq!(bytes, SHORT_TURN);
                }
                let skipped = (0..5).any(|other| is_before(other) && waits[other]);
                // What ended in this step may have made a floor due.
                let floor = due.is_due(LANES[of]) || turns.ahead.due().is_due(LANES[of]);
                prop_assert!(!skipped || floor || blocked, "it passed somebody who waits");
            }
            if waits.contains(&true) {
                prop_assert!(turns.poll_timeout().is_some_and(|due| due > at(now)));
            } else {
                prop_assert_eq!(turns.poll_timeout(), None);
            }
        }
        // Whoever has a turn by now holds it, and the others come to theirs nevertheless.
        let mut now = at(now);
        for _ in 0..100 {
            let mut begun = granted(&mut turns);
            if begun.is_empty() {
                let Some(due) = turns.poll_timeout() else { break };
                now = due;
                turns.handle_timeout(now);
                begun = granted(&mut turns);
            }
            for (member, _) in begun {
                let of = members.iter().position(|it| *it == member).unwrap();
                waits[of] = false;
                turns.end(now, member, 1_000);
            }
        }
        prop_assert_eq!(waits, [false; 5]);
    }
}
