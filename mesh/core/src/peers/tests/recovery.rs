//! The way back of a node that no peer answers, and that of one which knows nobody yet.

use super::{
    super::recovery::{GREATEST_PAUSE, MAX_COLD_TRIES},
    *,
};

#[test]
fn the_first_peers_are_found_step_by_step_and_at_once() {
    let mut bench = Bench::knows(Kind::Normal, 100..120);
    assert_eq!(
        bench.steps(),
        [Some(Step::Active), Some(Step::Warm), Some(Step::Cold), None],
        "nobody is known yet, and the first who is asked answers"
    );
    bench.seconds(60);
    assert_eq!(bench.steps().len(), 4, "that was all");
}

#[test]
fn the_way_back_goes_through_all_five_steps_in_order() {
    let mut bench = Bench::knows(Kind::Normal, 100..116);
    bench.seconds(600);
    bench.answers.clear();
    bench.effects.clear();
    bench.seconds(300);
    let steps = bench.steps();
    let round = [Step::Active, Step::Warm, Step::Cold, Step::Discovery, Step::Snapshot].map(Some);
    assert!(steps.len() >= 10, "{steps:?}");
    assert!(steps.chunks(5).all(|some| *some == round[..some.len()]), "{steps:?}");
    assert_eq!(bench.book.standing().availability, Availability::Degraded);
    let discoveries = bench.count(|effect| *effect == Effect::Discover);
    assert!(discoveries >= 2);
    // Whoever comes back is found within one round.
    bench.answers.insert(node(103), 5_000);
    bench.run(GREATEST_PAUSE * 2 + Duration::from_secs(60));
    assert_eq!(bench.book.reached().collect::<Vec<_>>(), [node(103)]);
    assert_eq!(bench.steps().last(), Some(&None));
    assert_eq!(bench.book.standing().availability, Availability::Available);
}

#[test]
fn round_after_round_everybody_is_tried() {
    let mut bench = Bench::new(Kind::Normal);
    let at = bench.calendar();
    bench.feed(Input::Directory { directory: directory(1, 100..160), at });
    bench.seconds(900);
    let asked: BTreeSet<NodeId> = bench
        .effects
        .iter()
        .filter_map(|(_, effect)| match effect {
            Effect::Heartbeat { node } => Some(*node),
            _ => None,
        })
        .collect();
    assert_eq!(asked.len(), 60);
}

#[test]
fn who_slept_for_days_finds_its_peers_though_their_certificates_are_over() {
    let mut bench = Bench::knows(Kind::Normal, 100..104);
    bench.seconds(60);
    let until = bench.calendar() + Duration::from_secs(60);
    for number in 100..104 {
        let (node, at) = (node(number), bench.calendar());
        bench.feed(Input::Answered {
            node,
            rtt_us: 1,
            said: None,
            packets: None,
            certificate_until: until,
            at,
        });
    }
    let answers = std::mem::take(&mut bench.answers);
    bench.seconds(86_400);
    assert_eq!(bench.book.reached().count(), 0);
    bench.answers = answers;
    bench.seconds(180);
    assert_eq!(bench.book.reached().count(), 4);
}

#[test]
fn a_newer_directory_is_tried_at_once_by_whoever_waits_for_one() {
    let mut bench = Bench::new(Kind::Normal);
    let at = bench.calendar();
    bench.feed(Input::Directory { directory: directory(1, 100..104), at });
    while bench.steps().last() != Some(&Some(Step::Discovery)) {
        bench.seconds(1);
    }
    bench.answers.insert(node(150), 1_000);
    bench.feed(Input::Directory { directory: directory(2, 150..151), at });
    assert_eq!(bench.book.reached().collect::<Vec<_>>(), [node(150)]);
}

#[test]
fn without_leave_to_go_on_a_cut_off_node_is_unavailable() {
    let mut bench = Bench::new(Kind::Normal);
    let at = bench.calendar();
    let stop = Directory { stale_policy: StalePolicy::Stop, ..directory(1, 100..104) };
    bench.feed(Input::Directory { directory: stop, at });
    while bench.steps().last() != Some(&Some(Step::Snapshot)) {
        bench.seconds(1);
    }
    assert_eq!(bench.book.standing().availability, Availability::Unavailable);
}

#[test]
fn one_round_asks_no_more_cold_peers_than_it_may() {
    let mut bench = Bench::new(Kind::Normal);
    let at = bench.calendar();
    bench.feed(Input::Directory { directory: directory(1, 100..190), at });
    while bench.steps().last() != Some(&Some(Step::Discovery)) {
        bench.seconds(1);
    }
    let asked = bench.count(|effect| matches!(effect, Effect::Heartbeat { .. }));
    assert_eq!(asked, MAX_COLD_TRIES);
}
