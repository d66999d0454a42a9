//! What is under a flow changes.

use super::{link::Link, *};

#[test]
fn a_slower_link_has_a_short_queue_again_soon() {
    let mut link = Link::new(mbit(50), millis(40));
    link.add();
    link.run(secs(5));
    link.change(|path| path.rate = mbit(5));
    link.run(secs(3));
    let seen = link.run(secs(5));
    assert!(seen.share(mbit(5)) > 0.93, "{}", seen.share(mbit(5)));
    assert!(seen.wait(90) < 2 * queue_aim(mbit(5)), "{:?}", seen.wait(90));
}

#[test]
fn a_faster_link_is_used_soon() {
    for trip in [5, 40, 150] {
        let mut link = Link::new(mbit(5), millis(trip));
        link.add();
        link.run(secs(5));
        link.change(|path| path.rate = mbit(50));
        link.run(millis(30 * trip + 500));
        let seen = link.run(secs(5));
        assert!(seen.share(mbit(50)) > 0.9, "{trip}: {}", seen.share(mbit(50)));
    }
}

#[test]
fn it_goes_on_after_an_outage() {
    let mut link = Link::new(mbit(20), millis(40));
    link.add();
    link.run(secs(5));
    link.change(|path| path.is_down = true);
    link.run(secs(4));
    link.change(|path| path.is_down = false);
    // The timeout has doubled meanwhile.
    link.run(secs(5));
    let seen = link.run(secs(5));
    assert!(seen.share(mbit(20)) > 0.93, "{}", seen.share(mbit(20)));
}

#[test]
fn a_path_that_became_longer_is_noticed_without_a_word() {
    let mut link = Link::new(mbit(20), millis(10));
    link.add();
    link.run(secs(5));
    link.change(|path| path.trip = millis(120));
    link.run(secs(8));
    let seen = link.run(secs(5));
    assert!(seen.share(mbit(20)) > 0.9, "{}", seen.share(mbit(20)));
}

#[test]
fn a_path_that_was_said_to_change_is_measured_anew() {
    let mut link = Link::new(mbit(20), millis(10));
    let flow = link.add();
    link.run(secs(5));
    link.change(|path| path.trip = millis(120));
    link.tell(flow, Input::PathChanged);
    link.run(secs(2));
    let seen = link.run(secs(3));
    assert!(seen.share(mbit(20)) > 0.93, "{}", seen.share(mbit(20)));
}

#[test]
fn a_queue_shorter_than_the_aim_is_enough() {
    let mut link = Link::new(mbit(50), millis(20));
    link.change(|path| path.buffer = millis(2));
    link.add();
    link.run(secs(5));
    let seen = link.run(secs(10));
    assert!(seen.share(mbit(50)) > 0.93, "{}", seen.share(mbit(50)));
}
