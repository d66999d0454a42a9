//! Direct and relayed paths, and what a relay can see.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use rap_mesh::{Path, client::ClientSession};
use rap_proto::{Lane, NodeRole, RefusalCode};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::UdpSocket,
};

use crate::{
    fabric::{EGRESS, ENTRY, Fabric, RELAY, RELAY_2, open, open_refused},
    targets::echo,
};

/// What every attempt has failed by, one after the other. A client is told after 19 s whatever comes of it.
const SOON: Duration = Duration::from_secs(10);

async fn ping(session: &ClientSession, bytes: &[u8]) {
    let mut channel = open(session, Lane::Interactive).await;
    channel.write_all(bytes).await.unwrap();
    let mut back = vec![0; bytes.len()];
    channel.read_exact(&mut back).await.unwrap();
    assert_eq!(back, bytes);
}

/// Forwards datagrams to `egress` and back, and keeps a copy of all of them.
pub(crate) async fn tap(egress: SocketAddr) -> (SocketAddr, Arc<Mutex<Vec<u8>>>) {
    let outside = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let inside = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = outside.local_addr().unwrap();
    let copy = Arc::new(Mutex::new(Vec::new()));
    let seen = copy.clone();
    tokio::spawn(async move {
        let (mut up, mut down) = (vec![0; 65_536], vec![0; 65_536]);
        let mut relay = None;
        loop {
            tokio::select! {
                Ok((length, from)) = outside.recv_from(&mut up) => {
                    relay = Some(from);
                    seen.lock().unwrap().extend_from_slice(&up[..length]);
                    inside.send_to(&up[..length], egress).await.unwrap();
                }
                Ok((length, _)) = inside.recv_from(&mut down) => {
                    seen.lock().unwrap().extend_from_slice(&down[..length]);
                    outside.send_to(&down[..length], relay.unwrap()).await.unwrap();
                }
            }
        }
    });
    (address, copy)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_relay_forwards_holds_no_plaintext() {
    let mut fabric = Fabric::start(&[RELAY], echo().await);
    fabric.cut_direct_path();
    let (tapped, forwarded) = tap(fabric.address(EGRESS)).await;
    fabric.plan.addresses.insert((RELAY, EGRESS), tapped);
    fabric.publish();
    let session = fabric.session().await;
    let secret = b"a secret that only the two ends may read, ".repeat(200);
    ping(&session, &secret).await;
    let forwarded = forwarded.lock().unwrap();
    assert!(forwarded.len() > 2 * secret.len(), "all of it went through the relay, both ways");
    let needle = &secret[..16];
    assert!(!forwarded.windows(needle.len()).any(|window| window == needle));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_direct_path_costs_little_and_is_remembered() {
    let mut fabric = Fabric::start(&[RELAY], echo().await);
    fabric.cut_direct_path();
    let session = fabric.session().await;
    let start = Instant::now();
    ping(&session, b"first").await;
    assert!(start.elapsed() < SOON, "took {:?}", start.elapsed());
    let lanes = fabric.nodes[&ENTRY].endpoint.status().lanes;
    assert_eq!(lanes[0].path, Path::Relayed { relay: RELAY });
}

#[tokio::test(flavor = "multi_thread")]
async fn when_a_relay_leaves_new_flows_take_another() {
    let mut fabric = Fabric::start(&[RELAY, RELAY_2], echo().await);
    fabric.cut_direct_path();
    let session = fabric.session().await;
    ping(&session, b"first").await;
    let Path::Relayed { relay: first } = fabric.nodes[&ENTRY].endpoint.status().lanes[0].path
    else {
        panic!("the direct path is cut");
    };
    fabric.nodes[&first].endpoint.shut_down(Duration::from_secs(1)).await;
    ping(&session, b"second").await;
    let lanes = fabric.nodes[&ENTRY].endpoint.status().lanes;
    let second = if first == RELAY { RELAY_2 } else { RELAY };
    assert_eq!(lanes[0].path, Path::Relayed { relay: second });
}

#[tokio::test(flavor = "multi_thread")]
async fn without_any_path_a_channel_is_refused_clearly_and_soon() {
    let mut fabric = Fabric::start(&[RELAY], echo().await);
    fabric.cut_direct_path();
    fabric.nodes[&RELAY].endpoint.shut_down(Duration::from_secs(1)).await;
    let session = fabric.session().await;
    let start = Instant::now();
    assert_eq!(open_refused(&session).await.code, RefusalCode::PathUnavailable);
    assert!(start.elapsed() < SOON, "took {:?}", start.elapsed());
    fabric.expect_refusal(ENTRY, RefusalCode::PathUnavailable, true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_carries_nothing_for_nodes_without_the_roles() {
    for unassigned in [RELAY, ENTRY, EGRESS] {
        let mut fabric = Fabric::start(&[RELAY], echo().await);
        fabric.cut_direct_path();
        // Only the relay knows that the role was taken away.
        let roles = fabric.plan.roles.insert(unassigned, Vec::new()).unwrap();
        fabric.publish_to(RELAY);
        fabric.plan.roles.insert(unassigned, roles);
        let session = fabric.session().await;
        assert_eq!(open_refused(&session).await.code, RefusalCode::PathUnavailable);
        fabric.expect_refusal(RELAY, RefusalCode::RoleNotAssigned, false).await;
        assert_eq!(fabric.nodes[&RELAY].endpoint.status().relayed_flows, 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_of_another_organization_is_not_asked() {
    let mut fabric = Fabric::start(&[RELAY], echo().await);
    fabric.cut_direct_path();
    let mut scope = crate::fabric::platform(NodeRole::RelayNode);
    scope.organizations = Some([rap_proto::OrganizationId::from_u128(0xbad)].into());
    fabric.plan.roles.insert(RELAY, vec![scope]);
    fabric.publish();
    let session = fabric.session().await;
    assert_eq!(open_refused(&session).await.code, RefusalCode::PathUnavailable);
    assert!(fabric.nodes.get_mut(&RELAY).unwrap().events.try_recv().is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closed_lane_frees_its_flow_at_the_relay() {
    let mut fabric = Fabric::start(&[RELAY], echo().await);
    fabric.cut_direct_path();
    let session = fabric.session().await;
    ping(&session, b"first").await;
    assert_eq!(fabric.nodes[&RELAY].endpoint.status().relayed_flows, 1);
    session.close().await;
    fabric.nodes[&ENTRY].endpoint.shut_down(Duration::from_secs(2)).await;
    let start = Instant::now();
    while fabric.nodes[&RELAY].endpoint.status().relayed_flows > 0 {
        assert!(start.elapsed() < Duration::from_secs(5), "the flow is still there");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
