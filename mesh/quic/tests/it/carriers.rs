//! Which carrier a lane's flows take: by what was measured, and by what the organization says.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use rap_mesh::{Carrier, CarrierReason, CarrierStatus};
use rap_mesh_core::carriers::FOLLOW_AFTER;
use rap_proto::{
    Lane, RefusalCode,
    bandwidth::{Bandwidth, OrganizationBandwidth},
    carriers::{CarrierRule, CarrierRules, CarrierRuling},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, TcpStream, UdpSocket},
    time::timeout,
};

use crate::{
    carry::{until, until_within},
    fabric::{EGRESS, ENTRY, Fabric, ORGANIZATION, PATIENCE, open, open_refused},
    targets::{echo, serve, serve_on},
    tcp::{held, tcp_only},
    traffic::exchange,
};

/// What the resource sends, in bytes a second: more than TCP passes, less than this machine can.
const SOURCE_RATE: usize = 4_000_000;
/// What TCP passes, as over a path that loses much.
const TCP_RATE: usize = 400_000;
const TICK: Duration = Duration::from_millis(10);

fn known(fabric: &Fabric, lane: Lane) -> CarrierStatus {
    let carriers = fabric.nodes[&ENTRY].endpoint.status().carriers;
    carriers.into_iter().find(|status| status.lane == lane).unwrap()
}

fn say(fabric: &mut Fabric, carriers: CarrierRules) {
    let said = OrganizationBandwidth { carriers, ..OrganizationBandwidth::default() };
    fabric.plan.bandwidth =
        Bandwidth { organizations: [(ORGANIZATION, said)].into(), ..Bandwidth::default() };
    fabric.plan.version += 1;
    fabric.publish();
}

/// Sends from one to the other no faster than this.
async fn trickle(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin, rate: usize) {
    let mut part = vec![0; rate / 100];
    let mut ticks = tokio::time::interval(TICK);
    while let Ok(length @ 1..) = from.read(&mut part).await {
        if to.write_all(&part[..length]).await.is_err() {
            return;
        }
        ticks.tick().await;
    }
}

/// A port that passes datagrams on to `target` as they come, and TCP slowly.
async fn slow_tcp(target: SocketAddr) -> SocketAddr {
    let (listener, socket) = loop {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        if let Ok(socket) = UdpSocket::bind(listener.local_addr().unwrap()).await {
            break (listener, Arc::new(socket));
        }
    };
    tokio::spawn(pass_datagrams(socket, target));
    serve_on(listener, move |stream| async move {
        let Ok(target) = TcpStream::connect(target).await else { return };
        let ((near_read, near_write), (far_read, far_write)) =
            (stream.into_split(), target.into_split());
        // Whichever ends first ends both.
        tokio::select! {
            () = trickle(near_read, far_write, TCP_RATE) => {}
            () = trickle(far_read, near_write, TCP_RATE) => {}
        }
    })
}

async fn pass_datagrams(socket: Arc<UdpSocket>, target: SocketAddr) {
    let mut senders: BTreeMap<SocketAddr, Arc<UdpSocket>> = BTreeMap::new();
    let mut datagram = [0; 2048];
    while let Ok((length, from)) = socket.recv_from(&mut datagram).await {
        if let Entry::Vacant(place) = senders.entry(from) {
            let sender = Arc::new(UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap());
            sender.connect(target).await.unwrap();
            place.insert(sender.clone());
            let back = socket.clone();
            tokio::spawn(async move {
                let mut datagram = [0; 2048];
                while let Ok(length) = sender.recv(&mut datagram).await {
                    let _ = back.send_to(&datagram[..length], from).await;
                }
            });
        }
        let _ = senders[&from].send(&datagram[..length]).await;
    }
}

/// A resource that sends for ever.
async fn source() -> SocketAddr {
    serve(|mut stream| async move {
        let part = vec![1; SOURCE_RATE / 100];
        let mut ticks = tokio::time::interval(TICK);
        while stream.write_all(&part).await.is_ok() {
            ticks.tick().await;
        }
    })
    .await
}

/// A download that goes on until this is true.
async fn download(fabric: &Fabric, until_so: impl Fn(&CarrierStatus) -> bool) -> CarrierStatus {
    let session = fabric.session().await;
    let mut channel = open(&session, Lane::Bulk).await;
    let mut part = vec![0; 64 * 1024];
    let reading = async {
        while !until_so(&known(fabric, Lane::Bulk)) {
            assert!(channel.read(&mut part).await.unwrap() > 0);
        }
    };
    timeout(PATIENCE, reading).await.expect("the flow is measured");
    known(fabric, Lane::Bulk)
}

#[tokio::test(flavor = "multi_thread")]
async fn bulk_leaves_tcp_where_that_is_measured_to_be_slower() {
    let mut fabric = Fabric::start(&[], source().await);
    let slow = slow_tcp(fabric.address(EGRESS)).await;
    fabric.plan.addresses.insert((ENTRY, EGRESS), slow);
    fabric.plan.version += 1;
    fabric.publish();

    let first = download(&fabric, |status| status.known.tcp.down.is_some()).await;
    assert_eq!(first.last, Some((Carrier::Tcp, CarrierReason::Prior)));
    let tcp = first.known.tcp.down.unwrap();
    assert!(tcp <= 2 * TCP_RATE as u64, "{tcp} bytes a second");

    let second = download(&fabric, |status| status.known.quic.down.is_some()).await;
    assert_eq!(second.last, Some((Carrier::Quic, CarrierReason::Trial)));
    let quic = second.known.quic.down.unwrap();
    assert!(quic > 3 * tcp, "{quic} bytes a second beside {tcp}");

    let third = download(&fabric, |status| status.known.changes == 1).await;
    assert_eq!(third.last, Some((Carrier::Quic, CarrierReason::Measured)));
    assert_eq!((third.known.leading, third.known.trials), (Carrier::Quic, 1));
}

/// A resource that counts for ever, byte by byte, as fast as the source.
async fn numbers() -> SocketAddr {
    serve(|mut stream| async move {
        let mut ticks = tokio::time::interval(TICK);
        let mut next = 0_u8;
        let mut part = vec![0; SOURCE_RATE / 100];
        loop {
            for byte in &mut part {
                (*byte, next) = (next, next.wrapping_add(1));
            }
            if stream.write_all(&part).await.is_err() {
                return;
            }
            ticks.tick().await;
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_download_that_runs_goes_over_to_the_carrier_that_is_measured_to_be_better() {
    let mut fabric = Fabric::start(&[], numbers().await);
    let slow = slow_tcp(fabric.address(EGRESS)).await;
    fabric.plan.addresses.insert((ENTRY, EGRESS), slow);
    fabric.plan.version += 1;
    fabric.publish();

    let session = fabric.session().await;
    let mut channel = open(&session, Lane::Bulk).await;
    let came = Arc::new(AtomicUsize::new(0));
    let counted = came.clone();
    let running = tokio::spawn(async move {
        let (mut part, mut next) = (vec![0; 64 * 1024], 0_u8);
        loop {
            let length = channel.read(&mut part).await.unwrap();
            for byte in &part[..length] {
                assert_eq!(*byte, next, "nothing is lost or comes twice");
                next = next.wrapping_add(1);
            }
            counted.fetch_add(length, Ordering::Relaxed);
        }
    });
    until("tcp is measured", || known(&fabric, Lane::Bulk).known.tcp.down.is_some()).await;
    download(&fabric, |status| status.known.quic.down.is_some()).await;
    let followed = || known(&fabric, Lane::Bulk).known.followed == 1;
    until_within(2 * FOLLOW_AFTER + PATIENCE, "the flow goes over", followed).await;
    let begun = came.load(Ordering::Relaxed);
    // TCP would need half a minute for it.
    until("it is as fast as quic", || came.load(Ordering::Relaxed) > begun + 30 * TCP_RATE).await;
    assert!(!running.is_finished(), "it goes on");
    let known = known(&fabric, Lane::Bulk).known;
    assert_eq!((known.leading, known.followed), (Carrier::Quic, 1), "it was told once");
    running.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_organization_says_of_a_lane_is_kept_to() {
    let mut fabric = Fabric::start(&[], echo().await);
    let session = fabric.session().await;
    let (interactive, bulk) = (Some(CarrierRule::TcpOnly), Some(CarrierRule::QuicOnly));
    say(&mut fabric, CarrierRules { interactive, media: None, bulk });
    let keys = held(&session, Lane::Interactive).await;
    let status = fabric.nodes[&ENTRY].endpoint.status();
    assert_eq!((status.tcp_flows, status.lanes.len()), (1, 0));
    assert_eq!(known(&fabric, Lane::Interactive).last, Some((Carrier::Tcp, CarrierReason::Policy)));
    let _file = held(&session, Lane::Bulk).await;
    let status = fabric.nodes[&ENTRY].endpoint.status();
    assert_eq!((status.tcp_flows, status.lanes.len()), (1, 1));
    let last = known(&fabric, Lane::Bulk);
    let by_rule = Some((Carrier::Quic, CarrierReason::Policy));
    assert_eq!((last.last, last.ruling), (by_rule, CarrierRuling::QuicOnly));

    drop(keys);
    until("the flow is over", || fabric.nodes[&ENTRY].endpoint.status().tcp_flows == 0).await;
    say(
        &mut fabric,
        CarrierRules { interactive: Some(CarrierRule::Quic), media: None, bulk: None },
    );
    let _keys = held(&session, Lane::Interactive).await;
    let last = known(&fabric, Lane::Interactive).last;
    assert_eq!(last, Some((Carrier::Quic, CarrierReason::Policy)));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_platform_says_holds_for_an_organization_that_says_nothing_or_another_thing() {
    let mut fabric = Fabric::start(&[], echo().await);
    let keys = |rule| CarrierRules { interactive: Some(rule), ..CarrierRules::default() };
    let platform = |fabric: &mut Fabric, rule| {
        fabric.plan.bandwidth.carriers = keys(rule);
        fabric.plan.version += 1;
        fabric.publish();
    };
    let session = fabric.session().await;
    platform(&mut fabric, CarrierRule::QuicOnly);
    assert_eq!(exchange(&session, Lane::Interactive, b"keys".to_vec()).await, b"keys");
    let by_rule = Some((Carrier::Quic, CarrierReason::Policy));
    let last = known(&fabric, Lane::Interactive);
    assert_eq!((last.last, last.ruling), (by_rule, CarrierRuling::QuicOnly));

    say(&mut fabric, keys(CarrierRule::TcpOnly));
    platform(&mut fabric, CarrierRule::QuicOnly);
    let refused = open_refused(&session).await;
    assert_eq!(refused.code, RefusalCode::PathUnavailable, "each forbids the other's carrier");
    assert_eq!(known(&fabric, Lane::Interactive).ruling, CarrierRuling::Neither);

    platform(&mut fabric, CarrierRule::Quic);
    assert_eq!(exchange(&session, Lane::Interactive, b"keys".to_vec()).await, b"keys");
    let by_rule = Some((Carrier::Tcp, CarrierReason::Policy));
    assert_eq!(known(&fabric, Lane::Interactive).last, by_rule, "a preference gives way");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_carrier_that_is_not_allowed_is_not_used_where_nothing_else_works() {
    let mut fabric = Fabric::start(&[], echo().await);
    let no_udp = tcp_only(fabric.address(EGRESS)).await;
    fabric.plan.addresses.insert((ENTRY, EGRESS), no_udp);
    say(
        &mut fabric,
        CarrierRules { interactive: Some(CarrierRule::QuicOnly), ..Default::default() },
    );
    let session = fabric.session().await;
    assert_eq!(open_refused(&session).await.code, RefusalCode::PathUnavailable);
    say(&mut fabric, CarrierRules { interactive: Some(CarrierRule::Quic), ..Default::default() });
    assert_eq!(exchange(&session, Lane::Interactive, b"keys".to_vec()).await, b"keys");
    let last = known(&fabric, Lane::Interactive).last;
    assert_eq!(last, Some((Carrier::Tcp, CarrierReason::Failed)), "the rule prefers, and no more");
}
