//! What probes through relays find.

use super::*;
use crate::score::parts::MOST_FAILURES;

#[test]
fn a_relay_that_answers_and_does_not_forward_is_found_by_probing_through_it() {
    let mut bench = Bench::new(Kind::Normal);
    bench.answers = (100..104).chain(200..204).map(|number| (node(number), 10_000)).collect();
    // It also claims to be the nearest.
    bench.answers.insert(node(102), 100);
    bench.swallows.insert(node(102));
    let known = directory(1, (100..104).chain(200..204));
    bench.feed(Input::Directory { directory: known, at: bench.calendar() });
    bench.seconds(300);
    let liar = bench.status(102);
    assert_eq!(liar.forwards, Some(false));
    assert_ne!(liar.class, Class::Active);
    assert_eq!(liar.measured.failures, MOST_FAILURES);
    assert_eq!(liar.measured.rtt_us, None, "what it claimed counts for nothing");
    assert_eq!(liar.measured.load, Some(crate::score::GREATEST), "nor that it is idle");
    assert_eq!(liar.measured.bandwidth_kbps, Some(0));
    assert!([100, 101, 103].into_iter().any(|number| bench.status(number).forwards == Some(true)));
    let worst = bench.book.status(bench.now).last().unwrap().node;
    assert_eq!(worst, node(102));
    // It forwards again: it is measured anew, and is a peer like the others.
    bench.swallows.clear();
    bench.seconds(2_000);
    assert_eq!(bench.status(102).forwards, Some(true));
}

#[test]
fn what_a_relay_claims_counts_for_paths_once_it_was_tried() {
    let mut bench = Bench::new(Kind::Normal);
    bench.answers = [(node(100), 100), (node(200), 10_000)].into();
    let known = directory(1, [100, 101, 200]);
    bench.feed(Input::Directory { directory: known, at: bench.calendar() });
    let claimed = |bench: &Bench| {
        let all: Vec<_> = bench.book.path_candidates().collect();
        all.iter().find(|it| it.node == node(100)).unwrap().measured.rtt_us
    };
    assert_eq!((claimed(&bench), bench.status(100).measured.rtt_us), (None, Some(100)));
    bench.seconds(30);
    assert_eq!(claimed(&bench), Some(100));
    assert_eq!(bench.status(100).forwards, Some(true));
}

#[test]
fn a_target_that_is_gone_is_not_the_relays_fault() {
    let mut bench = Bench::new(Kind::Normal);
    bench.answers = (100..104).map(|number| (node(number), 10_000)).collect();
    let known = directory(1, (100..104).chain([200]));
    bench.feed(Input::Directory { directory: known, at: bench.calendar() });
    bench.seconds(600);
    assert!(bench.count(|effect| matches!(effect, Effect::ProbeThrough { .. })) > 4);
    for number in 100..104 {
        assert_eq!(bench.status(number).forwards, None);
    }
}

#[test]
fn only_an_entry_probes_through_relays() {
    let mut bench = Bench::new(Kind::Normal);
    bench.answers = (100..104).chain(200..204).map(|number| (node(number), 10_000)).collect();
    let mut known = directory(1, (100..104).chain(200..204));
    known.own_roles = everybody(NodeRole::StreamWorker);
    bench.feed(Input::Directory { directory: known, at: bench.calendar() });
    bench.seconds(600);
    assert_eq!(bench.count(|effect| matches!(effect, Effect::ProbeThrough { .. })), 0);
}
