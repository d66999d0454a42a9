//! Flows that go on over the other carrier, and lanes that are lost under them.

use std::{
    net::Ipv4Addr,
    sync::Arc,
    time::{Duration, Instant},
};

use rap_mesh::{Carrier, MeshLimits, MeshStatus, client::ClientSession};
use rap_mesh_core::carrier::{MAX_DATA, data_head};
use rap_proto::{
    Lane, NodeId,
    wire::{
        lane::{FlowReply, OpenFlow},
        resume::{FlowId, Resume},
    },
};
use tokio::{
    net::{TcpListener, UdpSocket},
    task::JoinHandle,
    time::timeout,
};

use crate::{
    carry::{PART, Transfer, proxy_on, until, until_within},
    fabric::{EGRESS, ENTRY, Fabric, RELAY, RELAY_2},
    holes::by_hand,
    moves::{MOVED_BY, carrying},
    raw::{read, write},
    resume::{Connections, brittle_on, request},
    targets::{echo, serve},
    tcp::tcp_only,
};

/// After that much silence QUIC gives a lane's connection up.
const LANE_IDLE: Duration = Duration::from_secs(10);
/// What cannot be written in this time waits for somebody who reads.
const FULL: Duration = Duration::from_millis(500);

/// A cluster whose entry has one way to its egress on each carrier. The gate ends the one on TCP,
/// and the task is the one on QUIC.
struct TwoCarriers {
    fabric: Fabric,
    gate: rap_watch::Sender<bool>,
    connections: Arc<Connections>,
    udp: JoinHandle<()>,
}

impl TwoCarriers {
    /// `host` is the last number of the address of both, which no other test has.
    async fn start(host: u8) -> Self {
        let mut fabric = Fabric::start(&[], echo().await);
        // Nobody else is at this address, so one port is free on both carriers.
        let udp = UdpSocket::bind((Ipv4Addr::new(127, 0, 0, host), 0)).await.unwrap();
        let listener = TcpListener::bind(udp.local_addr().unwrap()).await.unwrap();
        let (gate, is_open) = rap_watch::channel(true);
        let egress = fabric.address(EGRESS);
        let (address, connections) = brittle_on(listener, egress, u64::MAX, is_open);
        let (_, udp) = proxy_on(udp, egress);
        fabric.plan.addresses.insert((ENTRY, EGRESS), address);
        fabric.publish();
        Self { fabric, gate, connections, udp }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flow_on_quic_goes_on_over_tcp_when_udp_is_blocked() {
    let TwoCarriers { fabric, gate: _gate, udp, .. } = TwoCarriers::start(78).await;
    let entry = fabric.nodes[&ENTRY].endpoint.clone();
    let session = fabric.session().await;
    let mut transfer = Transfer::begin_on(&session, Lane::Interactive).await;
    transfer.goes_on(PART).await;
    let status = entry.status();
    assert_eq!((status.tcp_flows, status.lanes.len()), (0, 1));
    udp.abort();
    let begun = Instant::now();
    until("the flow is on tcp", || entry.status().tcp_flows == 1).await;
    assert!(begun.elapsed() < LANE_IDLE, "its lane says so, and does not wait for its end");
    transfer.goes_on(PART).await;
    transfer.ends_whole().await;
    until("the flow is over", || entry.status().tcp_flows == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flow_on_tcp_goes_on_over_its_lanes_quic_connection() {
    let TwoCarriers { fabric, gate, connections, udp: _udp } = TwoCarriers::start(77).await;
    let entry = fabric.nodes[&ENTRY].endpoint.clone();
    let session = fabric.session().await;
    let mut transfer = Transfer::begin(&session).await;
    transfer.goes_on(PART).await;
    let status = entry.status();
    assert_eq!((status.tcp_flows, status.lanes.len()), (1, 0));
    gate.send_replace(false);
    connections.all_gone().await;
    transfer.goes_on(PART).await;
    assert_eq!(entry.status().lanes.len(), 1);
    transfer.ends_whole().await;
    until("the flow is over", || entry.status().tcp_flows == 0).await;
}

/// It writes, nobody reads: it does not notice by itself that its lane is gone.
#[tokio::test(flavor = "multi_thread")]
async fn what_waits_for_its_resource_alone_hears_that_its_lane_is_lost() {
    // A flow that can go on would be waited for, if there were a place.
    let limits = MeshLimits { detached_flows: 0, ..MeshLimits::default() };
    let deaf = serve(async |_held| std::future::pending().await).await;
    let fabric = Fabric::start_with(limits, Some(Carrier::Quic), &[], deaf);
    let egress = fabric.nodes[&EGRESS].endpoint.clone();
    let opening = request(&fabric, &fabric.claims(), Resume::opening(FlowId::from_random([7; 16])));
    let plain = OpenFlow { resume: None, ..opening.clone() };
    for (request, expected) in
        [(plain, FlowReply::Opened), (opening, FlowReply::Attached { received: 0 })]
    {
        let lane = by_hand(&fabric).await;
        let (mut send, mut recv) = lane.open_bi().await.unwrap();
        write(&mut send, &request).await;
        assert_eq!(read::<FlowReply>(&mut recv).await, expected);
        let part = [&data_head(MAX_DATA)[..], &[0; MAX_DATA]].concat();
        while timeout(FULL, send.write_all(&part)).await.is_ok() {}
        assert_eq!(egress.status().egress_sessions, 1);
        lane.close(0_u32.into(), b"");
        until("the flow is over", || egress.status().egress_sessions == 0).await;
    }
}

/// A cluster whose entry reaches its egress directly on QUIC alone, and over relays on TCP alone.
/// The task is its way on QUIC.
async fn torn(host: u8, relays: &[NodeId]) -> (Fabric, JoinHandle<()>) {
    let mut fabric = Fabric::start(relays, echo().await);
    // Nobody else is at this address, and nobody listens there on TCP.
    let udp = UdpSocket::bind((Ipv4Addr::new(127, 0, 0, host), 0)).await.unwrap();
    let (address, udp) = proxy_on(udp, fabric.address(EGRESS));
    fabric.plan.addresses.insert((ENTRY, EGRESS), address);
    for relay in relays {
        let address = tcp_only(fabric.address(*relay)).await;
        fabric.plan.addresses.insert((ENTRY, *relay), address);
    }
    fabric.publish();
    (fabric, udp)
}

/// A transfer that began on QUIC and runs over a relay on TCP.
async fn fallen(fabric: &Fabric, udp: JoinHandle<()>) -> (ClientSession, Transfer) {
    let session = fabric.session().await;
    let mut transfer = Transfer::begin_on(&session, Lane::Interactive).await;
    transfer.goes_on(PART / 16).await;
    let status = entry(fabric);
    assert_eq!((status.tcp_flows, status.tcp_moves.relayed, status.lanes.len()), (0, 0, 1));
    udp.abort();
    until("the flow is over a relay", || entry(fabric).tcp_moves.relayed == 1).await;
    transfer.goes_on(PART / 16).await;
    (session, transfer)
}

fn entry(fabric: &Fabric) -> MeshStatus {
    fabric.nodes[&ENTRY].endpoint.status()
}

fn relayed(fabric: &Fabric, relay: NodeId) -> usize {
    fabric.nodes[&relay].endpoint.status().relayed_flows
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flow_that_fell_to_tcp_moves_to_a_better_path() {
    let (mut fabric, udp) = torn(79, &[RELAY]).await;
    let (_session, mut transfer) = fallen(&fabric, udp).await;
    assert_eq!((entry(&fabric).tcp_flows, relayed(&fabric, RELAY)), (1, 1));
    fabric.plan.addresses.remove(&(ENTRY, EGRESS));
    fabric.publish_to(ENTRY);
    until_within(MOVED_BY, "the flow moved", || entry(&fabric).tcp_moves.moved == 1).await;
    until("the relay is left", || relayed(&fabric, RELAY) == 0).await;
    let status = entry(&fabric);
    assert_eq!((status.tcp_flows, status.tcp_moves.relayed), (1, 0), "it keeps its place");
    transfer.goes_on(PART / 16).await;
    transfer.ends_whole().await;
    until("the flow is over", || entry(&fabric).tcp_flows == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flow_that_fell_to_tcp_leaves_a_relay_that_is_revoked() {
    let (mut fabric, udp) = torn(80, &[RELAY, RELAY_2]).await;
    let (_session, mut transfer) = fallen(&fabric, udp).await;
    let (first, second) = carrying(&fabric).await;
    // The relay itself does not know, and carries whatever it is asked to.
    fabric.plan.denied_nodes.insert(first);
    fabric.publish_to(ENTRY);
    until("the other relay has it", || relayed(&fabric, second) == 1).await;
    until("the first is left", || relayed(&fabric, first) == 0).await;
    // The relay has it before the egress answered; an attempt that fails gives its place back.
    until("it has one place", || entry(&fabric).tcp_flows == 1).await;
    transfer.goes_on(PART / 16).await;
    transfer.ends_whole().await;
    until("the flow is over", || entry(&fabric).tcp_flows == 0).await;
}
