//! Relays that the platform has carry some lanes and not others.

use std::collections::BTreeSet;

use quinn::Connection;
use rap_mesh::{
    Carrier, Path,
    client::{ClientSession, OpenError},
};
use rap_proto::{
    Lane, LaneSet, NodeId, RefusalCode,
    wire::{
        HOP_ALPN,
        hop::{Onward, Reply, Request},
    },
};
use tokio::time::timeout;

use crate::{
    carry::{PART, Transfer, until, until_within},
    fabric::{EGRESS, ENTRY, Fabric, ORGANIZATION, PATIENCE, RELAY, RELAY_2, open, stream},
    moves::{MOVED_BY, carrying},
    raw::{LONG, dial_as, read, write},
    reachable::{hide_egress, reachable_at},
    targets::echo,
    tcp::held,
    traffic::{exchange, pattern},
};

fn keys_and_pictures() -> LaneSet {
    BTreeSet::from([Lane::Interactive, Lane::Media]).try_into().unwrap()
}

fn relayed(fabric: &Fabric, relay: NodeId) -> usize {
    fabric.nodes[&relay].endpoint.status().relayed_flows
}

async fn ask(hop: &Connection, request: Request) -> Reply {
    let (mut send, mut recv) = hop.open_bi().await.unwrap();
    write(&mut send, &request).await;
    timeout(PATIENCE, read(&mut recv)).await.unwrap()
}

/// The four ways to ask a relay for a flow of a lane; the path of the last two goes on over `relays`.
fn requests(lane: Lane, relays: &[NodeId]) -> [Request; 4] {
    let (target, from_port, hop_port) = (EGRESS, 9, None);
    let onward = Onward { relays: relays.to_vec(), target, lane, organization: ORGANIZATION };
    [
        Request::SetUpFlow { target, lane, from_port, hop_port },
        Request::SetUpStream { target, lane },
        Request::SetUpFlowOnward { onward: onward.clone(), from_port, hop_port },
        Request::SetUpStreamOnward { onward },
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_refuses_a_lane_of_its_own_accord_however_it_is_asked() {
    let mut fabric = Fabric::start(&[RELAY], echo().await);
    fabric.plan.relayed_lanes = [(RELAY, keys_and_pictures())].into();
    // Whoever asks has heard nothing of it.
    fabric.publish_to(RELAY);
    let identity = Some(fabric.renewed_identity(ENTRY));
    let hop = dial_as(&fabric, identity, RELAY, HOP_ALPN, LONG).await;
    for request in requests(Lane::Bulk, &[]) {
        match ask(&hop, request).await {
            Reply::Refused(refusal) => assert_eq!(refusal.code, RefusalCode::LaneNotRelayed),
            reply => panic!("{reply:?}"),
        }
        fabric.expect_refusal(RELAY, RefusalCode::LaneNotRelayed, false).await;
    }
    for request in requests(Lane::Interactive, &[]) {
        let reply = ask(&hop, request).await;
        let is_ready = matches!(reply, Reply::FlowReady { .. } | Reply::StreamReady { .. });
        assert!(is_ready, "{reply:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_further_on_that_does_not_carry_the_lane_refuses_it() {
    let mut fabric = Fabric::start(&[RELAY, RELAY_2], echo().await);
    fabric.plan.relayed_lanes = [(RELAY_2, keys_and_pictures())].into();
    fabric.publish_to(RELAY_2);
    let identity = Some(fabric.renewed_identity(ENTRY));
    let hop = dial_as(&fabric, identity, RELAY, HOP_ALPN, LONG).await;
    for request in requests(Lane::Bulk, &[RELAY_2]).into_iter().skip(2) {
        match ask(&hop, request).await {
            Reply::RefusedOnward { hop: 1, refusal } => {
                assert_eq!(refusal.code, RefusalCode::LaneNotRelayed);
            }
            reply => panic!("{reply:?}"),
        }
        fabric.expect_refusal(RELAY_2, RefusalCode::LaneNotRelayed, false).await;
    }
}

async fn bulk_refused(session: &ClientSession) -> RefusalCode {
    match timeout(PATIENCE, session.open(stream(Lane::Bulk))).await.unwrap() {
        Err(OpenError::Refused(refusal)) => refusal.code,
        other => panic!("expected a refusal, got {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn where_no_relay_carries_bulk_keys_have_a_path_and_bulk_has_none() {
    for carrier in [Carrier::Quic, Carrier::Tcp] {
        let mut fabric = Fabric::start_on(carrier, &[RELAY], echo().await);
        fabric.cut_direct_path();
        fabric.plan.relayed_lanes = [(RELAY, keys_and_pictures())].into();
        fabric.publish();
        let session = fabric.session().await;
        let sent = pattern(100_000);
        assert!(exchange(&session, Lane::Interactive, sent.clone()).await == sent, "{carrier}");
        assert_eq!(bulk_refused(&session).await, RefusalCode::PathUnavailable, "{carrier}");
        let told = fabric.nodes.get_mut(&RELAY).unwrap().events.try_recv();
        assert!(told.is_err(), "an entry that knows does not ask: {told:?}");
        fabric.plan.relayed_lanes.clear();
        fabric.publish();
        assert!(exchange(&session, Lane::Bulk, sent.clone()).await == sent, "{carrier}");
    }
}

fn way(fabric: &Fabric, which: Lane) -> Path {
    let lanes = fabric.nodes[&ENTRY].endpoint.status().lanes;
    lanes.into_iter().find(|lane| lane.lane == which).expect("the lane lives").path
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bulk_lane_leaves_a_relay_that_is_to_carry_it_no_more_and_keys_stay() {
    let mut fabric = Fabric::start_on(Carrier::Quic, &[RELAY, RELAY_2], echo().await);
    fabric.cut_direct_path();
    let session = fabric.session().await;
    let _held = held(&session, Lane::Interactive).await;
    let mut transfer = Transfer::begin(&session).await;
    transfer.goes_on(PART / 4).await;
    let Path::Relayed { relay: first } = way(&fabric, Lane::Bulk) else { panic!("not relayed") };
    let second = if first == RELAY { RELAY_2 } else { RELAY };
    fabric.plan.relayed_lanes = [(first, keys_and_pictures())].into();
    fabric.publish();
    until("bulk goes over the other", || {
        way(&fabric, Lane::Bulk) == Path::Relayed { relay: second }
    })
    .await;
    until("keys alone have the first", || relayed(&fabric, first) == 1).await;
    transfer.goes_on(PART / 4).await;
    transfer.ends_whole().await;
    assert!(exchange(&session, Lane::Interactive, b"key".to_vec()).await == b"key");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flow_on_tcp_leaves_a_relay_that_is_to_carry_it_no_more() {
    let mut fabric = Fabric::start_on(Carrier::Tcp, &[RELAY, RELAY_2], echo().await);
    fabric.cut_direct_path();
    let session = fabric.session().await;
    let mut transfer = Transfer::begin(&session).await;
    transfer.goes_on(PART / 4).await;
    let (first, second) = carrying(&fabric).await;
    fabric.plan.relayed_lanes = [(first, keys_and_pictures())].into();
    fabric.publish();
    until_within(MOVED_BY, "the other has it", || relayed(&fabric, second) == 1).await;
    until("the first is left", || relayed(&fabric, first) == 0).await;
    transfer.goes_on(PART / 4).await;
    transfer.ends_whole().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_for_bulk_alone_reaches_an_egress_that_only_dials_out_and_is_probed() {
    let mut fabric = Fabric::start_on(Carrier::Quic, &[RELAY], echo().await);
    fabric.plan.relayed_lanes = [(RELAY, BTreeSet::from([Lane::Bulk]).try_into().unwrap())].into();
    hide_egress(&mut fabric);
    reachable_at(&fabric, RELAY).await;
    let entry = fabric.nodes[&ENTRY].endpoint.clone();
    assert!(entry.probe_through(RELAY, EGRESS).await.is_ok());
    let session = fabric.session().await;
    drop(open(&session, Lane::Bulk).await);
}
