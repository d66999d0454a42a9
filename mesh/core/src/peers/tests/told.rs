//! What the platform says of counts and weights, while a node runs.

use rap_proto::mesh::{ChannelClass, Mesh, MeshRule, Part, PeerCounts};

use super::*;

const HOUR: u64 = 3_600;

pub(super) fn counts(least: u16, most: u16, warm: u16) -> PeerPolicy {
    let counts = PeerCounts { least, most, warm };
    let rule = MeshRule { peers: [(Kind::Normal, counts)].into(), ..MeshRule::default() };
    PeerPolicy::told(Kind::Normal, &Mesh::from(&rule))
}

fn only(part: Part) -> PeerPolicy {
    let weights = [(ChannelClass::Interactive, [(part, 1)].into())].into();
    let rule = MeshRule { weights, ..MeshRule::default() };
    PeerPolicy::told(Kind::Normal, &Mesh::from(&rule))
}

fn released(bench: &Bench) -> usize {
    bench.count(|effect| matches!(effect, Effect::Release { .. }))
}

/// Says it with every snapshot.
fn say_for(bench: &mut Bench, policy: PeerPolicy, seconds: u64) {
    for _ in 0..seconds / 30 {
        bench.feed(Input::Policy(policy));
        bench.seconds(30);
    }
}

#[test]
fn other_counts_are_taken_up_without_letting_go_of_more_than_are_too_many() {
    let mut bench = Bench::knows(Kind::Normal, 100..180);
    bench.seconds(HOUR);
    let before = bench.book.reached().collect::<BTreeSet<_>>();
    bench.effects.clear();
    bench.most_active = 0;

    say_for(&mut bench, counts(6, 10, 12), HOUR);
    let standing = bench.book.standing();
    assert_eq!((standing.active, standing.warm), (8, 12));
    assert!(bench.book.reached().collect::<BTreeSet<_>>().is_superset(&before));
    assert_eq!((released(&bench), bench.most_active), (0, 8));

    bench.feed(Input::Policy(counts(1, 2, 1)));
    let standing = bench.book.standing();
    assert_eq!((standing.active, standing.warm), (2, 1), "who is too many goes at once");
    assert_eq!(released(&bench), 6);
    say_for(&mut bench, counts(1, 2, 1), HOUR);
    assert_eq!((bench.book.standing().active, released(&bench)), (1, 7));

    say_for(&mut bench, PeerPolicy::of(Kind::Normal), HOUR);
    let standing = bench.book.standing();
    assert_eq!((standing.active, standing.warm), (4, 8), "as in the beginning");
    bench.effects.clear();
    say_for(&mut bench, PeerPolicy::of(Kind::Normal), 4 * HOUR);
    assert_eq!(released(&bench), 0, "nobody who came is sent away again");
    assert_eq!(bench.steps(), [], "it was never alone");
}

#[test]
fn a_lack_under_the_new_counts_is_looked_at_before_the_next_review_would_come() {
    let mut bench = Bench::knows(Kind::Normal, 100..180);
    bench.seconds(HOUR);
    let before = bench.book.standing().active;
    bench.feed(Input::Policy(counts(10, 20, 8)));
    bench.seconds(1);
    assert!(bench.book.standing().active > before, "{:?}", bench.book.standing());
}

#[test]
fn relays_have_no_more_places_than_there_are() {
    assert_eq!(PeerPolicy::of(Kind::Normal).counts.relays, 2);
    for (policy, places) in [(counts(1, 2, 3), 1), (counts(9, 12, 1), 1), (counts(9, 12, 64), 2)] {
        assert_eq!(policy.counts.relays, places);
    }
}

#[test]
fn other_weights_make_another_peer_the_better_one_and_send_nobody_away_at_once() {
    let mut bench = Bench::knows(Kind::Normal, 100..102);
    bench.seconds(60);
    let (fast_and_busy, slow_and_idle) = (node(100), node(101));
    for (node, rtt_us, load) in [(fast_and_busy, 1_000, 900), (slow_and_idle, 100_000, 0)] {
        let said = Some(Said { load, bandwidth_kbps: 1_000_000 });
        let at = bench.calendar();
        bench.feed(Input::Answered {
            node,
            rtt_us,
            said,
            packets: None,
            certificate_until: LATER,
            at,
        });
    }
    bench.effects.clear();
    for (part, best) in [(Part::Latency, fast_and_busy), (Part::NodeLoad, slow_and_idle)] {
        bench.feed(Input::Policy(only(part)));
        assert_eq!(bench.book.status(bench.now)[0].node, best, "{part}");
    }
    assert_eq!((released(&bench), bench.book.standing().active), (0, 2));
}
