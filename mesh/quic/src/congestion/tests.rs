#![allow(clippy::unwrap_used)]

use std::time::Duration;

use rap_mesh_core::bulk_window::{INITIAL_DATAGRAMS, LEAST_DATAGRAMS};

use super::*;

const MTU: u16 = 1_200;
const INITIAL: u64 = INITIAL_DATAGRAMS * MTU as u64;
const LEAST: u64 = LEAST_DATAGRAMS * MTU as u64;

fn built(steering: &Steering, now: Instant) -> Steered {
    let controller = Arc::new(steering.clone()).build(now, MTU);
    *controller.into_any().downcast().unwrap()
}

fn stock_window(now: Instant) -> u64 {
    Arc::new(CubicConfig::default()).build(now, MTU).window()
}

/// Nothing came back for long, of what was sent at this time.
fn stall(controller: &mut Steered, sent: Instant, now: Instant) {
    controller.on_congestion_event(now, sent, true, 10_000);
}

/// So many datagrams were sent at this time, each acknowledged by itself.
fn acknowledge(controller: &mut Steered, count: u64, sent: Instant, now: Instant) {
    for _ in 0..count {
        let bulk = controller.follow(now).unwrap();
        bulk.acked(sent, MTU.into());
        let in_flight = bulk.window.window() - u64::from(MTU);
        controller.on_end_acks(now, in_flight, false, None);
    }
}

#[test]
fn only_a_bulk_lane_has_the_meshs_own_window() {
    let now = Instant::now();
    for lane in [Lane::Interactive, Lane::Media] {
        assert_eq!(built(&Steering::of(lane), now).window(), stock_window(now));
    }
    assert_eq!(built(&Steering::default(), now).window(), stock_window(now));
    assert_eq!(built(&Steering::of(Lane::Bulk), now).window(), INITIAL);
}

#[test]
fn an_accepted_connection_becomes_a_bulk_lane() {
    let now = Instant::now();
    let steering = Steering::default();
    let mut controller = built(&steering, now);
    steering.serve(Lane::Bulk);
    controller.on_sent(now, MTU.into(), 1);
    assert_eq!(controller.window(), INITIAL);
    // And so does the one that quinn makes for a further path.
    assert_eq!(built(&steering, now).window(), INITIAL);
}

#[test]
fn acknowledgements_and_stalls_reach_the_window() {
    let now = Instant::now();
    let mut controller = built(&Steering::of(Lane::Bulk), now);
    let later = now + Duration::from_millis(20);
    acknowledge(&mut controller, 20, now, later);
    assert_eq!(controller.window(), INITIAL + 20 * u64::from(MTU));
    stall(&mut controller, now, later);
    assert_eq!(controller.window(), LEAST);
    controller.on_mtu_update(2 * MTU);
    assert_eq!(controller.window(), 2 * LEAST);
}

#[test]
fn a_path_that_changed_is_measured_anew() {
    let now = Instant::now();
    let steering = Steering::of(Lane::Bulk);
    let mut controller = built(&steering, now);
    let (before, changed) = (now + Duration::from_millis(10), now + Duration::from_millis(20));
    acknowledge(&mut controller, 20, now, before);
    steering.path_changed();
    controller.on_sent(changed, MTU.into(), 30);
    assert_eq!(controller.window(), INITIAL);
    // What was sent over the path before says nothing of this one.
    let later = now + Duration::from_millis(40);
    acknowledge(&mut controller, 5, before, later);
    stall(&mut controller, before, later);
    assert_eq!(controller.window(), INITIAL);
    acknowledge(&mut controller, 5, changed, later);
    assert_eq!(controller.window(), INITIAL + 5 * u64::from(MTU));
}

#[test]
fn a_peer_that_comes_from_another_port_is_measured_anew() {
    let now = Instant::now();
    let mut controller = built(&Steering::of(Lane::Bulk), now);
    acknowledge(&mut controller, 20, now, now + Duration::from_millis(10));
    let mut copy: Steered = *controller.clone_box().into_any().downcast().unwrap();
    copy.on_sent(now + Duration::from_millis(20), MTU.into(), 30);
    assert_eq!(copy.window(), INITIAL);
}
