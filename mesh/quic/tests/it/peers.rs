//! What an agent's peer book asks over real connections, and what follows for the order of relays.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use quinn::{Endpoint, ServerConfig, crypto::rustls::QuicServerConfig};
use rap_mesh::{AskPeerError, Carrier, Path};
use rap_mesh_core::{
    peers::Said,
    score::{Candidate, Identity, Measured},
};
use rap_pki::tls::{self, ClientAuth};
use rap_proto::{
    Lane, LaneSet, NodeId, NodeRole, Preference, RefusalCode, Timestamp,
    bandwidth::Bandwidth,
    refusal::Refusal,
    wire::{
        HOP_ALPN,
        hop::{Reply, Request},
    },
};
use tokio::{io::AsyncWriteExt as _, time::timeout};

use crate::{
    carry::until,
    fabric::{CLUSTER, EGRESS, ENTRY, Fabric, PATIENCE, RELAY, RELAY_2, now, open, platform},
    raw::{read, write},
    targets::{echo, serve},
    tcp::{pass_on, tcp_only},
};

pub(crate) fn measured(relay: NodeId, rtt_us: u32) -> (NodeId, Candidate<'static>) {
    let candidate = Candidate {
        node: relay,
        cluster: CLUSTER,
        identity: Identity::Proven,
        certificate_until: Some(now() + Duration::from_secs(3_600)),
        roles: vec![platform(NodeRole::RelayNode)].into(),
        authority_epoch: 1,
        region: None,
        preference: Preference::Neutral,
        relayed_lanes: LaneSet::ALL,
        measured: Measured { rtt_us: Some(rtt_us), ..Measured::default() },
    };
    (relay, candidate)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_answers_until_it_is_gone() {
    let fabric = Fabric::start(&[RELAY], echo().await);
    let entry = &fabric.nodes[&ENTRY].endpoint;
    for node in [RELAY, EGRESS] {
        let answer = entry.ask_peer(node).await.unwrap();
        assert!(answer.certificate_until > now());
        assert!(answer.rtt > Duration::ZERO);
    }
    entry.release_peer(RELAY);
    entry.ask_peer(RELAY).await.unwrap();
    fabric.nodes[&RELAY].endpoint.shut_down(Duration::from_secs(1)).await;
    assert_eq!(entry.ask_peer(RELAY).await, Err(AskPeerError::NoAnswer));
    let stranger = NodeId::from_u128(0xffff);
    assert_eq!(entry.ask_peer(stranger).await, Err(AskPeerError::NoAnswer));
}

/// What a relay says of itself to the entry.
async fn said(fabric: &Fabric) -> Option<Said> {
    fabric.nodes[&ENTRY].endpoint.ask_peer(RELAY).await.unwrap().said
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_says_what_it_may_pass_and_how_much_of_it_is_taken() {
    let mut fabric = Fabric::start_on(Carrier::Tcp, &[RELAY], echo().await);
    fabric.cut_direct_path();
    let idle = said(&fabric).await.unwrap();
    assert_eq!(idle, Said { load: 0, bandwidth_kbps: 40_000_000 }, "no less than to one asker");
    fabric.plan.bandwidth = Bandwidth { node: "8mbit".parse().ok(), ..Bandwidth::default() };
    fabric.publish_to(RELAY);
    assert_eq!(said(&fabric).await, Some(Said { load: 0, bandwidth_kbps: 8_000 }));
    let session = fabric.session_on(Carrier::Tcp).await;
    let (mut writer, _reader) = open(&session, Lane::Bulk).await.split();
    let endless =
        tokio::spawn(async move { while writer.write_all(&[7; 65_536]).await.is_ok() {} });
    let busy = async {
        // A few samples of a second each.
        while said(&fabric).await.is_some_and(|said| said.load < 400) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(PATIENCE, busy).await.expect("it says that it is busy");
    endless.abort();
}

/// A relay of an earlier release: it closes the stream of a request that it does not know. How many of those
/// came is counted.
fn older_relay(fabric: &Fabric) -> (Endpoint, SocketAddr, Arc<AtomicUsize>) {
    let identity = fabric.renewed_identity(RELAY);
    let roots = tls::roots(&[fabric.authority()]).unwrap();
    let config = tls::server(&identity, ClientAuth::Optional(roots), &[HOP_ALPN]).unwrap();
    let crypto = QuicServerConfig::try_from(config).unwrap();
    let config = ServerConfig::with_crypto(Arc::new(crypto));
    let relay = Endpoint::server(config, ([127, 0, 0, 1], 0).into()).unwrap();
    let address = relay.local_addr().unwrap();
    let (serving, unknown) = (relay.clone(), Arc::new(AtomicUsize::new(0)));
    let counted = unknown.clone();
    tokio::spawn(async move {
        while let Some(incoming) = serving.accept().await {
            let (connection, counted) = (incoming.await.unwrap(), counted.clone());
            tokio::spawn(async move {
                while let Ok((mut send, mut recv)) = connection.accept_bi().await {
                    let Request::RefreshFlow { flow: 0 } = read(&mut recv).await else {
                        counted.fetch_add(1, Ordering::Relaxed);
                        continue;
                    };
                    let sentence = "there is no such flow".to_owned();
                    let refusal = Refusal::new(RefusalCode::PathUnavailable, sentence);
                    write(&mut send, &Reply::Refused(refusal)).await;
                    send.finish().unwrap();
                }
            });
        }
    });
    (relay, address, unknown)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_of_an_earlier_release_is_there_and_says_nothing_of_itself() {
    let mut fabric = Fabric::start(&[RELAY], echo().await);
    let (_relay, address, unknown) = older_relay(&fabric);
    fabric.plan.addresses.insert((ENTRY, RELAY), address);
    fabric.publish();
    for _ in 0..3 {
        assert_eq!(said(&fabric).await, None);
    }
    assert_eq!(unknown.load(Ordering::Relaxed), 1, "what it does not know is asked once");
    fabric.nodes[&ENTRY].endpoint.release_peer(RELAY);
    assert_eq!(said(&fabric).await, None);
    assert_eq!(unknown.load(Ordering::Relaxed), 2, "it may be of another release by now");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_answers_and_forwards_nowhere_fails_the_probe_through_it() {
    let mut fabric = Fabric::start(&[RELAY, RELAY_2], echo().await);
    let nowhere = fabric.dead_address();
    fabric.plan.addresses.insert((RELAY_2, EGRESS), nowhere);
    fabric.publish();
    let entry = &fabric.nodes[&ENTRY].endpoint;
    assert!(entry.probe_through(RELAY, EGRESS).await.unwrap() > Duration::ZERO);
    entry.ask_peer(RELAY_2).await.unwrap();
    let outcome = entry.probe_through(RELAY_2, EGRESS).await;
    assert_eq!(outcome, Err(AskPeerError::NoAnswer));
}

#[tokio::test(flavor = "multi_thread")]
async fn letting_a_peer_go_leaves_the_flows_that_were_set_up_over_it() {
    let mut fabric = Fabric::start(&[RELAY], echo().await);
    fabric.cut_direct_path();
    let session = fabric.session().await;
    let channel = open(&session, Lane::Interactive).await;
    let entry = &fabric.nodes[&ENTRY].endpoint;
    entry.release_peer(RELAY);
    open(&session, Lane::Interactive).await;
    let lanes = entry.status().lanes;
    assert_eq!(lanes.len(), 1, "the lane was not given up");
    assert_eq!(lanes[0].path, Path::Relayed { relay: RELAY });
    drop(channel);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lane_goes_through_the_relay_that_measured_best() {
    for (best, worst) in [(RELAY, RELAY_2), (RELAY_2, RELAY)] {
        let mut fabric = Fabric::start(&[RELAY, RELAY_2], echo().await);
        fabric.cut_direct_path();
        let known = BTreeMap::from([measured(best, 1_000), measured(worst, 400_000)]);
        fabric.nodes[&ENTRY].endpoint.know_peers(known);
        let session = fabric.session().await;
        open(&session, Lane::Interactive).await;
        let lanes = fabric.nodes[&ENTRY].endpoint.status().lanes;
        assert_eq!(lanes[0].path, Path::Relayed { relay: best });
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flow_on_tcp_goes_through_the_relay_that_measured_best() {
    for (best, worst) in [(RELAY, RELAY_2), (RELAY_2, RELAY)] {
        let mut fabric = Fabric::start_on(Carrier::Tcp, &[RELAY, RELAY_2], echo().await);
        fabric.cut_direct_path();
        let known = BTreeMap::from([measured(best, 1_000), measured(worst, 400_000)]);
        fabric.nodes[&ENTRY].endpoint.know_peers(known);
        let session = fabric.session().await;
        let channel = open(&session, Lane::Bulk).await;
        let flows = |relay| fabric.nodes[&relay].endpoint.status().relayed_flows;
        // One that was begun beside it is given back.
        until("one relay has it", || flows(best) + flows(worst) == 1).await;
        assert_eq!((flows(best), flows(worst)), (1, 0));
        drop(channel);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_whose_certificate_is_over_leads_nowhere() {
    let mut fabric = Fabric::start(&[RELAY, RELAY_2], echo().await);
    fabric.cut_direct_path();
    let (node, mut ended) = measured(RELAY, 1_000);
    ended.certificate_until = Some(Timestamp::from_unix_millis(1));
    let known = BTreeMap::from([(node, ended), measured(RELAY_2, 400_000)]);
    fabric.nodes[&ENTRY].endpoint.know_peers(known);
    let session = fabric.session().await;
    open(&session, Lane::Interactive).await;
    let lanes = fabric.nodes[&ENTRY].endpoint.status().lanes;
    assert_eq!(lanes[0].path, Path::Relayed { relay: RELAY_2 });
}

/// A port of `node` that passes on no datagram is all that the entry knows of it.
async fn entry_without_udp(fabric: &mut Fabric, node: NodeId) {
    let only_tcp = tcp_only(fabric.address(node)).await;
    fabric.plan.addresses.insert((ENTRY, node), only_tcp);
    fabric.publish();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_is_heard_of_where_udp_is_blocked() {
    let mut fabric = Fabric::start(&[RELAY], echo().await);
    entry_without_udp(&mut fabric, RELAY).await;
    let entry = &fabric.nodes[&ENTRY].endpoint;
    for _ in 0..2 {
        let begun = Instant::now();
        let answer = entry.ask_peer(RELAY).await.unwrap();
        let whole = begun.elapsed();
        assert!(answer.certificate_until > now());
        assert!(answer.said.is_some());
        assert!(answer.rtt > Duration::ZERO && answer.rtt < whole / 2, "{:?}", answer.rtt);
    }
    fabric.nodes[&RELAY].endpoint.shut_down(Duration::from_secs(1)).await;
    assert_eq!(entry.ask_peer(RELAY).await, Err(AskPeerError::NoAnswer));
}

#[tokio::test(flavor = "multi_thread")]
async fn heartbeats_on_tcp_share_one_connection() {
    let mut fabric = Fabric::start(&[RELAY], echo().await);
    let (relay, came) = (fabric.address(RELAY), Arc::new(AtomicUsize::new(0)));
    let counted = came.clone();
    let only_tcp = serve(move |stream| {
        counted.fetch_add(1, Ordering::Relaxed);
        pass_on(stream, relay)
    })
    .await;
    fabric.plan.addresses.insert((ENTRY, RELAY), only_tcp);
    fabric.publish();
    let entry = &fabric.nodes[&ENTRY].endpoint;
    for _ in 0..3 {
        entry.ask_peer(RELAY).await.unwrap();
    }
    assert_eq!(came.load(Ordering::Relaxed), 1);
    entry.release_peer(RELAY);
    entry.ask_peer(RELAY).await.unwrap();
    assert_eq!(came.load(Ordering::Relaxed), 2, "the first was let go");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kept_connection_that_the_peer_ended_is_made_again() {
    let mut fabric = Fabric::start(&[RELAY], echo().await);
    entry_without_udp(&mut fabric, RELAY).await;
    let trusted = fabric.plan.clone();
    fabric.nodes[&ENTRY].endpoint.ask_peer(RELAY).await.unwrap();
    fabric.plan.denied_nodes.insert(ENTRY);
    fabric.publish_to(RELAY);
    assert_eq!(fabric.nodes[&ENTRY].endpoint.ask_peer(RELAY).await, Err(AskPeerError::NoAnswer));
    fabric.plan = trusted;
    fabric.publish_to(RELAY);
    fabric.nodes[&ENTRY].endpoint.ask_peer(RELAY).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_is_probed_through_where_udp_is_blocked() {
    let mut fabric = Fabric::start(&[RELAY, RELAY_2], echo().await);
    let nowhere = fabric.dead_address();
    fabric.plan.addresses.insert((RELAY_2, EGRESS), nowhere);
    for relay in [RELAY, RELAY_2] {
        entry_without_udp(&mut fabric, relay).await;
    }
    let entry = &fabric.nodes[&ENTRY].endpoint;
    assert!(entry.probe_through(RELAY, EGRESS).await.unwrap() > Duration::ZERO);
    entry.ask_peer(RELAY_2).await.unwrap();
    let outcome = entry.probe_through(RELAY_2, EGRESS).await;
    assert_eq!(outcome, Err(AskPeerError::NoAnswer));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_packets_of_a_hop_are_handed_over_once() {
    let mut fabric = Fabric::start(&[RELAY, RELAY_2], echo().await);
    entry_without_udp(&mut fabric, RELAY_2).await;
    let entry = &fabric.nodes[&ENTRY].endpoint;
    let first = entry.ask_peer(RELAY).await.unwrap().packets.unwrap();
    assert!(first.sent > first.lost, "{first:?}");
    for _ in 0..20 {
        let next = entry.ask_peer(RELAY).await.unwrap().packets.unwrap();
        assert!((1..20).contains(&next.sent), "one question and its answer: {next:?}");
    }
    assert_eq!(entry.ask_peer(RELAY_2).await.unwrap().packets, None, "on TCP nobody counts them");
}
