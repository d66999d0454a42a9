use futures_util::FutureExt as _;
use rap_mesh_core::many_relays::{self, known_by_rtt, relay};
use rap_proto::{Lane, OrganizationId};

use super::*;

const ORGANIZATION: OrganizationId = OrganizationId::from_u128(2);
const RELAYS: u128 = 40;
const NOW: Timestamp = Timestamp::from_unix_millis(2_000);
const KEY: LaneKey =
    LaneKey { egress: NodeId::from_u128(900), organization: ORGANIZATION, lane: Lane::Interactive };

fn view() -> Arc<View> {
    Arc::new(many_relays::view(RELAYS))
}

fn known(rtt_us: impl Fn(u128) -> u32) -> BTreeMap<NodeId, Candidate<'static>> {
    let one = |number| (relay(number), known_by_rtt(relay(number), rtt_us(number)));
    (0..RELAYS).map(one).collect()
}

/// The lane rests on the first `listed` of the relays.
fn look(orders: &RelayOrders, view: &Arc<View>, listener: &mut Listener, listed: usize) {
    orders.begin_look(listener);
    let ways = orders.ways(view, Use::Running, KEY, NOW);
    heed(orders, listener, &ways, listed);
}

fn heed(orders: &RelayOrders, listener: &Listener, ways: &[Way], listed: usize) {
    let listed: Vec<_> = ways.iter().map(|way| way.path).take(listed).collect();
    let question = (ORGANIZATION, ChannelClass::Interactive);
    orders.heed(listener, Interest::of(question, ways, &listed, &[]));
}

fn is_told(listener: &Listener) -> bool {
    listener.concerned().now_or_never().is_some()
}

#[test]
fn a_lane_is_woken_by_what_is_measured_of_relays_that_it_lists_and_of_no_other() {
    let (orders, view) = (RelayOrders::default(), view());
    orders.know(known(|_| 20_000), NOW);
    let mut lane = orders.listen();
    look(&orders, &view, &mut lane, 8);
    let ways = orders.ways(&view, Use::Running, KEY, NOW);
    let number = |place: usize| {
        let node = ways[place].path.relays()[0];
        (0..RELAYS).find(|number| relay(*number) == node).expect("one of them")
    };
    let (first, other) = (number(0), number(20));
    orders.know(known(|it| if it == other { 24_000 } else { 20_000 }), NOW);
    assert!(!is_told(&lane), "what it does not list is its own affair");
    orders.know(known(|it| if it == first { 24_000 } else { 20_000 }), NOW);
    assert!(is_told(&lane));
    orders.know(known(|it| if it == first { 24_000 } else { 20_000 }), NOW);
    assert!(!is_told(&lane), "nothing else is known");
    orders.leave(&lane);
    orders.know(known(|_| 90_000), NOW);
    assert!(!is_told(&lane), "it is gone");
}

#[test]
fn what_is_measured_while_a_lane_looks_is_told_to_it() {
    let (orders, view) = (RelayOrders::default(), view());
    orders.know(known(|_| 20_000), NOW);
    let mut lane = orders.listen();
    orders.begin_look(&mut lane);
    let ways = orders.ways(&view, Use::Running, KEY, NOW);
    orders.know(known(|_| 90_000), NOW);
    assert!(!is_told(&lane), "it rests on nothing yet");
    heed(&orders, &lane, &ways, 8);
    assert!(is_told(&lane));
    look(&orders, &view, &mut lane, 8);
    assert!(!is_told(&lane));
}

/// Whoever has one lock here and waits for another would stop everybody.
#[test]
fn ways_are_given_while_measurements_are_compared_and_while_lanes_are_told() {
    let (orders, view) = (RelayOrders::default(), view());
    orders.know(known(|_| 20_000), NOW);
    let mut lane = orders.listen();
    look(&orders, &view, &mut lane, 8);
    let (learning, listeners) = (locked(&orders.learning), locked(&orders.listeners));
    let asked = std::thread::scope(|threads| {
        let (says, said) = std::sync::mpsc::channel();
        let (orders, view) = (&orders, &view);
        threads.spawn(move || says.send(orders.ways(view, Use::New, KEY, NOW).len()));
        let asked = said.recv_timeout(std::time::Duration::from_secs(5));
        drop((learning, listeners));
        asked
    });
    assert!(asked.is_ok_and(|ways| ways > 0));
}
