//! The places that relays have, and how seldom anybody is exchanged.

use super::{super::policy::SWAP_PAUSE, *};

/// Relays far away, and egresses nearby that are better company.
fn far_relays_and_near_others(kind: Kind) -> Bench {
    let mut bench = Bench::new(kind);
    bench.answers = (100..110).map(|number| (node(number), 150_000)).collect();
    bench.answers.extend((200..240).map(|number| (node(number), 100)));
    bench
}

#[test]
fn fewer_places_leave_the_relays_that_have_theirs() {
    let mut bench = far_relays_and_near_others(Kind::Normal);
    let known = directory(1, (100..110).chain(200..240));
    bench.feed(Input::Directory { directory: known, at: bench.calendar() });
    bench.seconds(1_200);
    let fewer = super::told::counts(1, 2, 3);
    bench.feed(Input::Policy(fewer));
    assert_eq!(active_relays(&bench).len(), fewer.counts.relays);
    assert_eq!(bench.book.standing().active, 2);
}

fn active_relays(bench: &Bench) -> Vec<NodeId> {
    bench.book.reached().filter(|peer| *peer < node(200)).collect()
}

#[test]
fn places_are_kept_for_relays_whatever_they_are_worth_as_company() {
    for kind in Kind::ALL.iter().copied() {
        let counts = PeerPolicy::of(kind).counts;
        let mut bench = far_relays_and_near_others(kind);
        let known = directory(1, (100..110).chain(200..240));
        bench.feed(Input::Directory { directory: known, at: bench.calendar() });
        bench.seconds(1_200);
        let relays = active_relays(&bench);
        assert_eq!(relays.len(), counts.relays, "{kind:?}: {relays:?}");
        let status = bench.book.status(bench.now);
        let tried = |node: &NodeId| {
            status.iter().any(|peer| peer.node == *node && peer.forwards == Some(true))
        };
        assert!(relays.iter().all(tried), "{kind:?}");
        let warm = |peer: &&PeerStatus| peer.class == Class::Warm && peer.node < node(200);
        assert!(status.iter().filter(warm).count() >= counts.relays, "{kind:?}");
        assert_eq!(bench.book.standing().active, counts.aim());
        assert!(bench.most_active <= counts.most_active, "{kind:?}: {}", bench.most_active);
    }
}

#[test]
fn relays_come_in_when_all_places_are_taken() {
    let counts = PeerPolicy::of(Kind::Normal).counts;
    let mut bench = far_relays_and_near_others(Kind::Normal);
    bench.feed(Input::Directory { directory: directory(1, 200..240), at: bench.calendar() });
    bench.seconds(600);
    assert_eq!(bench.book.standing().active, counts.aim());
    let known = directory(2, (100..110).chain(200..240));
    bench.feed(Input::Directory { directory: known, at: bench.calendar() });
    bench.seconds(60);
    assert_eq!(active_relays(&bench).len(), counts.relays);
    assert!(bench.most_active <= counts.most_active);
}

#[test]
fn a_relay_that_swallows_keeps_no_place() {
    let mut bench = far_relays_and_near_others(Kind::Normal);
    for number in [100, 101, 102] {
        bench.answers.insert(node(number), 50);
        bench.swallows.insert(node(number));
    }
    let known = directory(1, (100..110).chain(200..240));
    bench.feed(Input::Directory { directory: known, at: bench.calendar() });
    bench.seconds(600);
    let relays = active_relays(&bench);
    assert_eq!(relays.len(), PeerPolicy::of(Kind::Normal).counts.relays);
    assert!(relays.iter().all(|relay| !bench.swallows.contains(relay)), "{relays:?}");
}

#[test]
fn nobody_is_exchanged_soon_after_another() {
    let mut bench = Bench::new(Kind::Normal);
    bench.answers = (100..104).map(|number| (node(number), 150_000)).collect();
    bench.feed(Input::Directory { directory: directory(1, 100..104), at: bench.calendar() });
    bench.seconds(600);
    assert_eq!(bench.book.reached().count(), 4);
    bench.answers.extend((110..118).map(|number| (node(number), 1_000)));
    bench.effects.clear();
    let known = directory(2, (100..104).chain(110..118));
    bench.feed(Input::Directory { directory: known, at: bench.calendar() });
    bench.seconds(900);
    let released: Vec<Moment> = bench
        .effects
        .iter()
        .filter(|(_, effect)| matches!(effect, Effect::Release { .. }))
        .map(|(at, _)| *at)
        .collect();
    assert_eq!(released.len(), 4, "in the end everybody is exchanged");
    let least = SWAP_PAUSE / 2;
    assert!(released.windows(2).all(|pair| pair[1].since(pair[0]) > least), "{released:?}");
}

#[test]
fn when_no_relay_forwards_those_that_failed_are_tried_again_soon() {
    let mut bench = far_relays_and_near_others(Kind::Normal);
    bench.swallows = (100..103).map(node).collect();
    let known = directory(1, (100..103).chain(200..240));
    bench.feed(Input::Directory { directory: known, at: bench.calendar() });
    bench.seconds(3_600);
    assert_eq!(active_relays(&bench), []);
    bench.swallows.clear();
    bench.seconds(120);
    assert!(!active_relays(&bench).is_empty(), "{:?}", bench.status(100));
}
