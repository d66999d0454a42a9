//! One flow on a link.

use proptest::prelude::*;

use super::{
    link::{Link, Seen, Sender},
    *,
};

/// Of the link's rate that has to be used.
const LEAST_SHARE: f64 = 0.93;

/// Whether the link is used and its queue no longer than is aimed at, but for what a burst of the
/// pacer and a timer cost: a few datagrams.
fn check(rate: u64, trip: Duration, seen: &Seen) -> Result<(), String> {
    let datagram = Duration::from_micros(DATAGRAM * 1_000_000 / rate);
    let most = queue_aim(rate) + 4 * datagram;
    let (share, wait) = (seen.share(rate), seen.mean_wait());
    if share < LEAST_SHARE {
        return Err(format!("{rate} B/s, {trip:?}: only {share:.3} of the link"));
    }
    if wait > most {
        return Err(format!("{rate} B/s, {trip:?}: a queue of {wait:?}, at most {most:?}"));
    }
    Ok(())
}

/// Once it has found its rate, for longer than it takes to look at the base.
fn settled(rate: u64, trip: Duration, sender: Box<dyn Sender>) -> Seen {
    let mut link = Link::new(rate, trip);
    link.add_sender(sender, None);
    link.run(secs(6));
    link.run(secs(15))
}

fn ours() -> Box<dyn Sender> {
    Box::new(BulkWindow::new(at(0), DATAGRAM))
}

#[test]
fn a_link_is_used_with_a_short_queue() {
    for rate in [1, 10, 100] {
        for trip in [1, 20, 200] {
            let (rate, trip) = (mbit(rate), millis(trip));
            let seen = settled(rate, trip, ours());
            check(rate, trip, &seen).unwrap();
        }
    }
}

/// A window that is wrong by a factor.
struct Wrong {
    window: BulkWindow,
    percent: u64,
}

impl Sender for Wrong {
    fn input(&mut self, now: Moment, input: Input) {
        self.window.handle_input(now, input);
    }

    fn window(&self) -> u64 {
        self.window.window() * self.percent / 100
    }
}

#[test]
fn a_wrong_factor_is_found() {
    let (rate, trip) = (mbit(50), millis(20));
    for percent in [70, 150] {
        let wrong = Wrong { window: BulkWindow::new(at(0), DATAGRAM), percent };
        let seen = settled(rate, trip, Box::new(wrong));
        assert!(check(rate, trip, &seen).is_err(), "{percent}");
    }
    check(rate, trip, &settled(rate, trip, ours())).unwrap();
}

#[test]
fn a_sender_with_little_to_send_keeps_its_window_small() {
    let mut link = Link::new(mbit(100), millis(20));
    let sender = Box::new(BulkWindow::new(at(0), DATAGRAM));
    let flow = link.add_sender(sender, Some(mbit(5)));
    let seen = link.run(secs(25));
    assert!(seen.share(mbit(5)) > 0.97, "{seen:?}");
    // Twice what is in flight, and what was there before the first acknowledgement.
    assert!(link.window(flow) <= 4 * held(mbit(5), millis(20)) + 4 * DATAGRAM);
}

#[test]
fn it_finds_the_rate_of_a_long_path_within_three_seconds() {
    let mut link = Link::new(mbit(100), millis(200));
    link.add();
    link.run(secs(3));
    let seen = link.run(secs(2));
    assert!(seen.share(mbit(100)) > 0.9, "{}", seen.share(mbit(100)));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn any_link_is_used_with_a_short_queue(rate in 125_000_u64..6_000_000, trip in 1_000_u64..200_000) {
        let trip = Duration::from_micros(trip);
        check(rate, trip, &settled(rate, trip, ours())).map_err(TestCaseError::fail)?;
    }
}
