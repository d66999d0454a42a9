//! Which peer takes the place of another.

use super::{super::answers::MISSES_TO_DEMOTE, *};

#[test]
fn an_active_peer_that_stops_answering_is_replaced_by_a_warm_one() {
    let mut bench = Bench::knows(Kind::Normal, 100..112);
    bench.seconds(300);
    let lost = bench.book.reached().next().unwrap();
    bench.answers.remove(&lost);
    bench.effects.clear();
    bench.seconds(60);
    assert!(bench.count(|effect| *effect == Effect::Release { node: lost }) == 1);
    assert_eq!(bench.book.standing().active, PeerPolicy::of(Kind::Normal).counts.aim());
    assert!(bench.book.reached().all(|node| node != lost));
    assert_eq!(bench.steps(), [], "the others were there all the time");
    let beats = bench.count(|effect| *effect == Effect::Heartbeat { node: lost });
    assert_eq!(beats, MISSES_TO_DEMOTE as usize);
}

#[test]
fn a_full_peer_is_left_alone_and_is_no_failure() {
    let mut bench = Bench::knows(Kind::Normal, 100..103);
    bench.seconds(60);
    bench.full.insert(node(101));
    bench.effects.clear();
    bench.seconds(120);
    let full = bench.status(101);
    assert_eq!((full.class, full.measured.failures), (Class::Cold, 0));
    assert_eq!(full.measured.load, Some(1_000));
    let asked = bench.count(|effect| {
        matches!(effect, Effect::Heartbeat { node: n } | Effect::Probe { node: n } if *n == node(101))
    });
    assert!(asked <= 4, "asked {asked} times in two minutes");
}

#[test]
fn a_better_peer_takes_a_place_slowly_and_proves_itself_first() {
    let mut bench = Bench::knows(Kind::Normal, 100..104);
    for number in 100..104 {
        bench.answers.insert(node(number), 150_000);
    }
    bench.seconds(600);
    let before: Vec<NodeId> = bench.book.reached().collect();
    assert_eq!(before.len(), 4);
    bench.answers.insert(node(110), 1_000);
    let at = bench.calendar();
    bench.effects.clear();
    bench.feed(Input::Directory { directory: directory(2, (100..104).chain([110])), at });
    bench.seconds(10);
    assert!(bench.book.reached().eq(before.iter().copied()), "not at first sight");
    bench.seconds(290);
    assert!(bench.book.reached().any(|peer| peer == node(110)));
    assert_eq!(bench.book.reached().count(), 4);
    let releases = bench.count(|effect| matches!(effect, Effect::Release { .. }));
    assert_eq!(releases, 1, "one came, one went");
}

#[test]
fn peers_of_nearly_equal_worth_do_not_take_turns() {
    let mut bench = Bench::knows(Kind::Normal, 100..112);
    bench.seconds(300);
    bench.effects.clear();
    for round in 0..120_u32 {
        for number in 100..112_u128 {
            let wobble = u32::try_from(number).unwrap() * 7_919 % 10_000 + round * 613 % 10_000;
            bench.answers.insert(node(number), 8_000 + wobble);
        }
        bench.seconds(60);
    }
    let releases = bench.count(|effect| matches!(effect, Effect::Release { .. }));
    assert_eq!(releases, 0);
}

#[test]
fn a_flapping_peer_is_asked_ever_more_seldom() {
    let mut bench = Bench::knows(Kind::Normal, 100..105);
    bench.seconds(60);
    bench.effects.clear();
    for _ in 0..360 {
        bench.answers.insert(node(101), 10_000);
        bench.seconds(10);
        bench.answers.remove(&node(101));
        bench.seconds(10);
    }
    let releases = bench.count(|effect| *effect == Effect::Release { node: node(101) });
    assert!(releases <= 20, "{releases} times in two hours");
}
