//! Living lanes that leave relays which carry them: one that drains, and one that is worth less.

use std::collections::BTreeMap;

use rap_mesh::{Carrier, LaneStatus, Path, SwitchReason};
use rap_mesh_core::lane_path::{BETTER_FOR, BETTER_WITHIN, DRAIN_WITHIN};
use rap_proto::{Lane, NodeId};

use crate::{
    carry::{PART, Transfer, until, until_within},
    fabric::{ENTRY, Fabric, PATIENCE, RELAY, RELAY_2, RELAY_3},
    peers::measured,
    targets::echo,
};

/// Round trips that a score tells from each other.
const SHORT_US: u32 = 1_000;
const MIDDLE_US: u32 = 100_000;
const LONG_US: u32 = 400_000;

fn relayed(fabric: &Fabric, relay: NodeId) -> usize {
    fabric.nodes[&relay].endpoint.status().relayed_flows
}

/// The only lane.
fn lane(fabric: &Fabric) -> LaneStatus {
    let lanes = fabric.nodes[&ENTRY].endpoint.status().lanes;
    assert_eq!(lanes.len(), 1, "the same lane");
    lanes.into_iter().next().unwrap()
}

fn relay_in_use(fabric: &Fabric) -> NodeId {
    match lane(fabric).path {
        Path::Relayed { relay } => relay,
        path => panic!("the direct path is cut: {path:?}"),
    }
}

fn switches(fabric: &Fabric) -> BTreeMap<SwitchReason, u64> {
    fabric.nodes[&ENTRY].endpoint.status().counted.switches
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transfer_leaves_a_relay_that_drains_and_the_relay_is_empty() {
    let mut fabric = Fabric::start_on(Carrier::Quic, &[RELAY, RELAY_2], echo().await);
    fabric.cut_direct_path();
    let session = fabric.session().await;
    let mut transfer = Transfer::begin(&session).await;
    until("one is warm", || relayed(&fabric, RELAY) + relayed(&fabric, RELAY_2) == 2).await;
    transfer.goes_on(PART / 8).await;
    let first = relay_in_use(&fabric);
    let second = if first == RELAY { RELAY_2 } else { RELAY };
    fabric.plan.draining = [first].into();
    fabric.publish();
    until_within(DRAIN_WITHIN + PATIENCE, "the other carries it", || {
        relay_in_use(&fabric) == second
    })
    .await;
    until("the first is empty", || relayed(&fabric, first) == 0).await;
    transfer.goes_on(PART / 8).await;
    transfer.ends_whole().await;
    let lane = lane(&fabric);
    assert_eq!((lane.switches, lane.last_switch), (1, Some(SwitchReason::Draining)));
    assert_eq!(switches(&fabric), [(SwitchReason::Draining, 1)].into());
    assert_eq!(relayed(&fabric, second), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_drains_carries_on_while_there_is_no_other() {
    let mut fabric = Fabric::start_on(Carrier::Quic, &[RELAY], echo().await);
    fabric.cut_direct_path();
    let session = fabric.session().await;
    let mut transfer = Transfer::begin(&session).await;
    transfer.goes_on(PART / 16).await;
    fabric.plan.draining = [RELAY].into();
    fabric.publish();
    transfer.goes_on(PART / 8).await;
    assert_eq!((relay_in_use(&fabric), lane(&fabric).switches), (RELAY, 0));
    let roles = fabric.plan.roles[&RELAY].clone();
    fabric.plan.roles.insert(RELAY_2, roles);
    fabric.add_node(RELAY_2, 56);
    until_within(DRAIN_WITHIN + PATIENCE, "another one carries it", || {
        relay_in_use(&fabric) == RELAY_2
    })
    .await;
    until("the first is empty", || relayed(&fabric, RELAY) == 0).await;
    transfer.ends_whole().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transfer_goes_to_a_relay_that_became_much_better_and_the_one_before_is_left() {
    let relays = [RELAY, RELAY_2, RELAY_3];
    let mut fabric = Fabric::start_on(Carrier::Quic, &relays, echo().await);
    fabric.cut_direct_path();
    let know = |best, worst| {
        let known = [(best, SHORT_US), (RELAY_3, MIDDLE_US), (worst, LONG_US)];
        let known = known.map(|(relay, round_trip)| measured(relay, round_trip));
        fabric.nodes[&ENTRY].endpoint.know_peers(known.into());
    };
    know(RELAY, RELAY_2);
    let session = fabric.session().await;
    let mut transfer = Transfer::begin_on(&session, Lane::Interactive).await;
    transfer.goes_on(PART / 16).await;
    until("the third is warm", || relayed(&fabric, RELAY_3) == 1).await;
    assert_eq!((relay_in_use(&fabric), relayed(&fabric, RELAY_2)), (RELAY, 0));
    know(RELAY_2, RELAY);
    let in_turn = BETTER_FOR + BETTER_WITHIN + PATIENCE;
    until_within(in_turn, "the second carries it", || relay_in_use(&fabric) == RELAY_2).await;
    until("the first is left", || relayed(&fabric, RELAY) == 0).await;
    transfer.goes_on(PART / 16).await;
    transfer.ends_whole().await;
    assert_eq!(switches(&fabric), [(SwitchReason::Better, 1)].into());
    assert_eq!((relayed(&fabric, RELAY_2), relayed(&fabric, RELAY_3)), (1, 1));
}
