//! Whatever happens, the window keeps to its limits, and each limit is reached.

use proptest::prelude::*;

use super::*;

fn input() -> impl Strategy<Value = (u64, Input)> {
    let acked = (0..1_u64 << 40, 0..1_u64 << 45, 0..1_u64 << 40, any::<bool>()).prop_map(
        |(bytes, sent_at, in_flight, app_limited)| {
            Input::Acked(Acked { bytes, sent_at: at(sent_at), in_flight, app_limited })
        },
    );
    let input = prop_oneof![
        20 => acked,
        3 => any::<u64>().prop_map(|bytes| Input::Lost { bytes }),
        1 => Just(Input::Marked),
        1 => Just(Input::Stalled),
        1 => Just(Input::PathChanged),
        1 => (0..70_000_u64).prop_map(|bytes| Input::Datagram { bytes }),
    ];
    (0..20_000_000_u64, input)
}

proptest! {
    #[test]
    fn a_window_keeps_to_its_limits(inputs in proptest::collection::vec(input(), 1..200)) {
        let mut window = BulkWindow::new(at(0), DATAGRAM);
        let mut now = at(0);
        let mut datagram = DATAGRAM;
        for (after, input) in inputs {
            now = now + Duration::from_micros(after);
            if let Input::Datagram { bytes } = input {
                datagram = bytes.max(1);
            }
            window.handle_input(now, input);
            prop_assert!(window.window() >= LEAST_DATAGRAMS * datagram);
            prop_assert!(window.window() <= MOST_IN_FLIGHT);
        }
    }
}

#[test]
fn the_largest_window_is_reached_and_kept_to() {
    let mut window = BulkWindow::new(at(0), DATAGRAM);
    let (mut now, trip) = (at(1_000_000), millis(500));
    for _ in 0..MOST_IN_FLIGHT / DATAGRAM + 10 {
        let input = acked(&window, now, trip);
        window.handle_input(now, input);
        now = now + Duration::from_micros(1);
    }
    assert_eq!(window.window(), MOST_IN_FLIGHT);
}

#[test]
fn the_smallest_window_is_reached_and_kept_to() {
    let mut window = BulkWindow::new(at(0), DATAGRAM);
    window.handle_input(at(1), Input::Stalled);
    assert_eq!(window.window(), LEAST_DATAGRAMS * DATAGRAM);
}

#[test]
fn the_aim_has_both_its_ends_and_the_root_between() {
    assert_eq!(queue_aim(0), MOST_QUEUE);
    assert_eq!(queue_aim(mbit(10_000)), LEAST_QUEUE);
    assert_eq!(queue_aim(mbit(100)), millis(2));
    assert_eq!(queue_aim(mbit(25)), millis(4));
}

#[test]
fn a_few_losses_are_passed_over_and_many_are_not() {
    for (lost, is_answered) in [(1, false), (3, true)] {
        let mut round = Round::new(at(0));
        let one = |sent_at| Acked { bytes: 1_000, sent_at, in_flight: 0, app_limited: false };
        round.acked(at(1_000), one(at(0)), millis(1));
        for _ in 0..100 {
            round.acked(at(6_000), one(at(5_000)), millis(1));
        }
        round.lost(lost * 1_000);
        assert_eq!(round.end(at(6_000)).unwrap().is_pushed_back, is_answered);
    }
}

#[test]
fn one_late_acknowledgement_does_not_end_the_start() {
    let mut window = BulkWindow::new(at(0), DATAGRAM);
    let (mut now, mut trips) = (at(1_000_000), Vec::new());
    trips.extend([millis(10); 8]);
    trips.extend([millis(90); 3]);
    trips.extend([millis(10); 8]);
    for trip in trips {
        let before = window.window();
        let input = acked(&window, now, trip);
        window.handle_input(now, input);
        assert!(window.window() > before);
        now = now + Duration::from_micros(10);
    }
}

/// A lane that rests sends a packet now and then, which is acknowledged late.
#[test]
fn lone_packets_change_nothing_in_the_start_or_later() {
    let rest = |window: &mut BulkWindow, mut now: Moment| {
        for _ in 0..30 {
            now = now + secs(2);
            let sent_at = at(now.micros() - 26_000);
            let alone = Acked { bytes: 40, sent_at, in_flight: 40, app_limited: true };
            window.handle_input(now, Input::Acked(alone));
        }
    };
    let mut fresh = BulkWindow::new(at(0), DATAGRAM);
    let first = acked(&fresh, at(1_000_000), millis(1));
    fresh.handle_input(at(1_000_000), first);
    let before = fresh.window();
    rest(&mut fresh, at(1_000_000));
    assert_eq!(fresh.window(), before);

    let mut used = BulkWindow::new(at(0), DATAGRAM);
    let mut now = at(1_000_000);
    while matches!(used.phase, Phase::Starting) {
        let input = acked(&used, now, if now < at(1_030_000) { millis(1) } else { millis(10) });
        used.handle_input(now, input);
        now = now + Duration::from_micros(100);
    }
    let before = used.window();
    rest(&mut used, now);
    assert_eq!(used.window(), before);
    assert!(matches!(used.phase, Phase::Steady { .. }));
}
