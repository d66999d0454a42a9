#![allow(clippy::unwrap_used)]

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use tokio::{net::UdpSocket, time::timeout};

use rap_mesh_core::bounds::{Bound, Limits, Whose};
use rap_proto::{Lane, NodeId};

use super::*;
use crate::{
    hops::NearSocket as _,
    network::Kernel,
    relay::{
        socket::{Awaiting, Promised},
        turns::Turns,
    },
};

async fn host() -> UdpSocket {
    UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap()
}

/// The turns of one flow, at a relay with these bounds.
fn carried(limits: Limits) -> (Arc<Turns>, Carried) {
    let turns = Arc::new(Turns::new(limits, Clock::start()));
    let whose = Whose { asker: NodeId::from_u128(1), organization: None };
    let carried = turns.begin(1, Lane::Interactive, whose).unwrap();
    (turns, carried)
}

/// The turns of a bulk flow at the same relay.
fn below(turns: &Arc<Turns>) -> Carried {
    let whose = Whose { asker: NodeId::from_u128(2), organization: None };
    turns.begin(2, Lane::Bulk, whose).unwrap()
}

/// What forwards between an asker and this socket, and the port that the asker sends to.
fn between(asker: SocketAddr, target: FlowSocket) -> (Forwarding, u16) {
    let asker = FlowSocket::connect(&Kernel, Lane::Interactive, None, asker).unwrap();
    let port = asker.local_port().unwrap();
    (Forwarding::between(asker, target, Clock::start()), port)
}

/// A running flow between two hosts, and the ports of the relay that each speaks with.
async fn flow(asker: &UdpSocket, target: &UdpSocket) -> (Arc<Forwarding>, SocketAddr, SocketAddr) {
    let addresses = [target.local_addr().unwrap()];
    let far = FlowSocket::to_first(&Kernel, Lane::Interactive, &addresses).unwrap();
    let opened = between(asker.local_addr().unwrap(), far);
    let (forwarding, port) = (Arc::new(opened.0), opened.1);
    tokio::spawn(forwarding.clone().run(carried(Limits::RELAY).1));
    let near = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let far = SocketAddr::from((Ipv4Addr::LOCALHOST, forwarding.target.local_port().unwrap()));
    (forwarding, near, far)
}

/// A running flow that may pass on two datagrams at once and one in each second, and the relay's port
/// for its asker.
fn narrow_flow(asker: &UdpSocket, target: &UdpSocket) -> (Arc<Turns>, u16) {
    let far = [target.local_addr().unwrap()];
    let far = FlowSocket::to_first(&Kernel, Lane::Interactive, &far).unwrap();
    let (forwarding, port) = between(asker.local_addr().unwrap(), far);
    let narrow = Bound::new(1, 100_000_000_000);
    let (turns, carried) = carried(Limits { flow: narrow, ..Limits::RELAY });
    tokio::spawn(Arc::new(forwarding).run(carried));
    (turns, port)
}

async fn received(socket: &UdpSocket) -> (Vec<u8>, SocketAddr) {
    let mut buffer = vec![0; 65_536];
    let receiving = socket.recv_from(&mut buffer);
    let (length, from) = timeout(Duration::from_secs(5), receiving).await.unwrap().unwrap();
    (buffer[..length].to_vec(), from)
}

#[tokio::test]
async fn datagrams_go_both_ways_unchanged_and_apart() {
    let (asker, target) = (host().await, host().await);
    let (forwarding, near, far) = flow(&asker, &target).await;
    for number in 0..50_u8 {
        asker.send_to(&vec![number; 100 + usize::from(number)], near).await.unwrap();
    }
    for number in 0..50_u8 {
        let (bytes, from) = received(&target).await;
        assert_eq!((bytes, from), (vec![number; 100 + usize::from(number)], far));
    }
    target.send_to(b"back", far).await.unwrap();
    assert_eq!(received(&asker).await, (b"back".to_vec(), near));
    assert!(forwarding.last_used() > Moment::default());
}

#[tokio::test]
async fn what_comes_from_elsewhere_is_dropped() {
    let (asker, target, stranger) = (host().await, host().await, host().await);
    let (_forwarding, near, far) = flow(&asker, &target).await;
    for port in [near, far] {
        stranger.send_to(b"spoofed", port).await.unwrap();
    }
    asker.send_to(b"true", near).await.unwrap();
    assert_eq!(received(&target).await.0, b"true", "the stranger's came first, but not through");
    target.send_to(b"back", far).await.unwrap();
    assert_eq!(received(&asker).await.0, b"back");
}

#[tokio::test]
async fn a_flow_survives_a_target_that_is_away_for_a_while() {
    let (asker, target) = (host().await, host().await);
    let (_forwarding, near, _) = flow(&asker, &target).await;
    let address = target.local_addr().unwrap();
    drop(target);
    for _ in 0..3 {
        asker.send_to(b"lost", near).await.unwrap();
        tokio::task::yield_now().await;
    }
    let target = UdpSocket::bind(address).await.unwrap();
    let arrives = async {
        loop {
            asker.send_to(b"again", near).await.unwrap();
            let again = timeout(Duration::from_millis(50), received(&target)).await;
            if again.is_ok_and(|(bytes, _)| bytes == b"again") {
                return;
            }
        }
    };
    timeout(Duration::from_secs(5), arrives).await.unwrap();
}

#[tokio::test]
async fn a_target_without_a_route_is_passed_over() {
    let (asker, target) = (host().await, host().await);
    let unroutable: SocketAddr = "255.255.255.255:9".parse().unwrap();
    let addresses = [unroutable, target.local_addr().unwrap()];
    let far = FlowSocket::to_first(&Kernel, Lane::Interactive, &addresses).unwrap();
    let (forwarding, port) = between(asker.local_addr().unwrap(), far);
    tokio::spawn(Arc::new(forwarding).run(carried(Limits::RELAY).1));
    asker.send_to(b"through", (Ipv4Addr::LOCALHOST, port)).await.unwrap();
    assert_eq!(received(&target).await.0, b"through");
    assert!(FlowSocket::to_first(&Kernel, Lane::Interactive, &[unroutable]).is_err());
}

#[tokio::test]
async fn a_socket_that_waits_for_its_peer_hears_nobody_else_and_keeps_its_port() {
    let (asker, hop, target, stranger) = (host().await, host().await, host().await, host().await);
    let promised =
        Promised::bind(&Kernel, Lane::Interactive, None, hop.local_addr().unwrap()).unwrap();
    let far = SocketAddr::from((Ipv4Addr::LOCALHOST, promised.port()));
    stranger.send_to(b"spoofed", far).await.unwrap();
    let socket = promised.connect(target.local_addr().unwrap()).unwrap();
    let from = asker.local_addr().unwrap();
    let (forwarding, port) = between(from, socket);
    tokio::spawn(Arc::new(forwarding).run(carried(Limits::RELAY).1));
    let near = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    hop.send_to(b"late", far).await.unwrap();
    target.send_to(b"true", far).await.unwrap();
    assert_eq!(received(&asker).await, (b"true".to_vec(), near), "nobody else's came through");
    asker.send_to(b"back", near).await.unwrap();
    assert_eq!(received(&target).await, (b"back".to_vec(), far));
}

/// What came before the knock, and the knock itself as often as it comes, are no part of the flow.
#[tokio::test]
async fn a_socket_that_waits_for_a_knock_passes_on_nothing_of_what_came_before_it() {
    let (asker, target, stranger) = (host().await, host().await, host().await);
    let waiting =
        Awaiting::bind(&Kernel, Lane::Interactive, None, asker.local_addr().unwrap()).unwrap();
    let far = SocketAddr::from((Ipv4Addr::LOCALHOST, waiting.local_port().unwrap()));
    let knock = rap_proto::wire::hop::knock(&[7; 16]);
    stranger.send_to(b"before", far).await.unwrap();
    // Right, and from an address that is not the node's.
    let liar = UdpSocket::bind((Ipv4Addr::new(127, 0, 0, 2), 0)).await.unwrap();
    liar.send_to(&knock, far).await.unwrap();
    target.send_to(&knock, far).await.unwrap();
    // They are in the socket's queue when the knock is heard.
    stranger.send_to(b"spoofed", far).await.unwrap();
    target.send_to(&knock, far).await.unwrap();
    let socket = waiting.knocked(knock, Ipv4Addr::LOCALHOST.into()).await.unwrap();
    let near = asker.local_addr().unwrap();
    let (forwarding, port) = between(near, socket);
    tokio::spawn(Arc::new(forwarding).run(carried(Limits::RELAY).1));
    target.send_to(b"of the flow", far).await.unwrap();
    assert_eq!(received(&asker).await.0, b"of the flow");
    asker.send_to(b"back", (Ipv4Addr::LOCALHOST, port)).await.unwrap();
    assert_eq!(received(&target).await, (b"back".to_vec(), far));
}

/// The kernel lets a stranger's datagrams through until it is told who the peer is.
#[tokio::test]
async fn what_came_before_the_peer_was_known_reaches_nobody_and_is_counted() {
    let (asker, hop, target) = (host().await, host().await, host().await);
    let promised = Promised::bind(&Kernel, Lane::Interactive, None, hop.local_addr().unwrap());
    let promised = promised.unwrap();
    let far = SocketAddr::from((Ipv4Addr::LOCALHOST, promised.port()));
    for _ in 0..3 {
        hop.send_to(b"spoofed", far).await.unwrap();
    }
    let socket = promised.connect(target.local_addr().unwrap()).unwrap();
    let (forwarding, _) = between(asker.local_addr().unwrap(), socket);
    let (turns, carried) = carried(Limits::RELAY);
    tokio::spawn(Arc::new(forwarding).run(carried));
    target.send_to(b"true", far).await.unwrap();
    assert_eq!(received(&asker).await.0, b"true");
    assert_eq!(turns.status().strangers, 3);
}

#[tokio::test]
async fn what_is_beyond_a_bound_is_dropped_and_counted_and_the_flow_goes_on() {
    let (asker, target) = (host().await, host().await);
    let (turns, port) = narrow_flow(&asker, &target);
    for number in 0..50_u8 {
        asker.send_to(&[number], (Ipv4Addr::LOCALHOST, port)).await.unwrap();
    }
    for number in 0..2_u8 {
        assert_eq!(received(&target).await.0, [number]);
    }
    let all = async {
        loop {
            let status = turns.status();
            if status.datagrams + status.dropped_datagrams == 50 {
                return status;
            }
            tokio::task::yield_now().await;
        }
    };
    let status = timeout(Duration::from_secs(5), all).await.unwrap();
    assert!(status.dropped_datagrams > 40, "{status:?}");
    assert_eq!(status.dropped_bytes, status.dropped_datagrams);
    let again = async {
        loop {
            asker.send_to(&[50], (Ipv4Addr::LOCALHOST, port)).await.unwrap();
            let next = timeout(Duration::from_millis(50), received(&target)).await;
            if next.is_ok_and(|(bytes, _)| bytes == [50]) {
                return;
            }
        }
    };
    timeout(Duration::from_secs(5), again).await.unwrap();
}

/// Datagrams of a loopback are not put together when each was sent for itself.
#[tokio::test]
async fn a_floors_turn_is_of_its_bytes_and_not_of_one_datagram() {
    let (asker, target) = (host().await, host().await);
    let addresses = [target.local_addr().unwrap()];
    let far = FlowSocket::to_first(&Kernel, Lane::Bulk, &addresses).unwrap();
    let (forwarding, port) = between(asker.local_addr().unwrap(), far);
    let (turns, keys) = carried(Limits::RELAY);
    let waker = turns.clone();
    let waking = tokio::spawn(async move { waker.wake().await });
    // It sends to a dead link.
    let _stuck = keys.up.next_turn().await;
    for _ in 0..50 {
        asker.send_to(&[7; 1_200], (Ipv4Addr::LOCALHOST, port)).await.unwrap();
    }
    tokio::spawn(Arc::new(forwarding).run(below(&turns)));
    for _ in 0..50 {
        received(&target).await;
    }
    let waits = turns.status().waits;
    assert!((1..=2).contains(&waits), "it waited {waits} times for one turn, and for the next");
    waking.abort();
}

#[tokio::test]
async fn a_lane_below_comes_when_a_busy_flow_has_no_more() {
    const MANY: u64 = 250;
    let (asker, target) = (host().await, host().await);
    let addresses = [target.local_addr().unwrap()];
    let far = FlowSocket::to_first(&Kernel, Lane::Interactive, &addresses).unwrap();
    let (forwarding, port) = between(asker.local_addr().unwrap(), far);
    let (turns, keys) = carried(Limits::RELAY);
    for _ in 0..MANY {
        asker.send_to(&[7], (Ipv4Addr::LOCALHOST, port)).await.unwrap();
    }
    tokio::spawn(Arc::new(forwarding).run(keys));
    while turns.status().datagrams == 0 {
        tokio::task::yield_now().await;
    }
    assert!(turns.status().datagrams < MANY, "others have a look in between");
    let bulk = below(&turns);
    let turn = timeout(Duration::from_secs(5), bulk.up.next_turn()).await.unwrap();
    assert_eq!(turns.status().datagrams, MANY);
    drop(turn);
}

#[tokio::test]
async fn a_datagram_of_no_bytes_is_forwarded_and_counted_and_has_its_bound() {
    let (asker, target) = (host().await, host().await);
    let (turns, port) = narrow_flow(&asker, &target);
    for _ in 0..50 {
        asker.send_to(&[], (Ipv4Addr::LOCALHOST, port)).await.unwrap();
    }
    for _ in 0..2 {
        assert!(received(&target).await.0.is_empty());
    }
    let all = async {
        loop {
            let status = turns.status();
            if status.datagrams + status.dropped_datagrams == 50 {
                return status;
            }
            tokio::task::yield_now().await;
        }
    };
    let status = timeout(Duration::from_secs(5), all).await.unwrap();
    assert!(status.dropped_datagrams > 40 && status.bytes == 0, "{status:?}");
}
