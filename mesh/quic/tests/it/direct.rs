//! Direct paths by the platform's rule: forbidden, allowed again, and audited.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use rap_mesh::{Carrier, Path, client::ClientSession};
use rap_mesh_core::holes::{Failure, Step};
use rap_proto::{
    Lane, RefusalCode,
    observation::Observation,
    paths::{DirectPaths, PathCarrier, PathChange, PathKind, PathRule},
};
use tokio::{net::UdpSocket, time::timeout};

use crate::{
    carry::{PART, Transfer, until},
    fabric::{EGRESS, ENTRY, Fabric, ORGANIZATION, PATIENCE, RELAY, open, open_refused, stream},
    limits::echoes,
    reachable::{bytes_pass, hide_egress, reachable_at},
    targets::echo,
    tcp::held,
};

const ALLOWED: PathRule = PathRule { direct: DirectPaths::Allowed, audited: false };
const FORBIDDEN: PathRule = PathRule { direct: DirectPaths::Forbidden, audited: false };
const WHEN_BETTER: PathRule = PathRule { direct: DirectPaths::WhenBetter, audited: false };

fn say(fabric: &mut Fabric, rule: PathRule) {
    fabric.plan.paths = rule;
    fabric.plan.version += 1;
    fabric.publish();
}

fn relayed(fabric: &Fabric) -> usize {
    fabric.nodes[&RELAY].endpoint.status().relayed_flows
}

async fn transfer(session: &ClientSession, through: bool) -> Transfer {
    if !through {
        return Transfer::begin_with(open(session, Lane::Bulk).await);
    }
    let opening = session.open_lasting(stream(Lane::Bulk));
    Transfer::begin_with(timeout(PATIENCE, opening).await.unwrap().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn transfers_leave_direct_paths_that_are_forbidden_and_come_back_and_lose_nothing() {
    for (carrier, through) in [(Carrier::Quic, false), (Carrier::Tcp, false), (Carrier::Tcp, true)]
    {
        let mut fabric = Fabric::start_on(carrier, &[RELAY], echo().await);
        fabric.through = through;
        let session = fabric.session().await;
        let mut transfer = transfer(&session, through).await;
        transfer.goes_on(PART).await;
        assert_eq!(relayed(&fabric), 0, "it is direct");
        say(&mut fabric, FORBIDDEN);
        until("the relay has it", || relayed(&fabric) == 1).await;
        transfer.goes_on(PART).await;
        say(&mut fabric, ALLOWED);
        let comes_back = carrier == Carrier::Quic;
        until("it is direct again", || !comes_back || relayed(&fabric) == 0).await;
        let _another = held(&session, Lane::Bulk).await;
        assert_eq!(relayed(&fabric), usize::from(!comes_back), "what is new is direct");
        transfer.goes_on(PART).await;
        transfer.ends_whole().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn new_flows_take_no_direct_path_where_that_is_forbidden_and_none_without_a_relay() {
    for carrier in [Carrier::Quic, Carrier::Tcp] {
        let mut fabric = Fabric::start_on(carrier, &[RELAY], echo().await);
        say(&mut fabric, FORBIDDEN);
        let session = fabric.session().await;
        let mut channel = held(&session, Lane::Interactive).await;
        assert_eq!(relayed(&fabric), 1);
        echoes(&mut channel).await;
        let mut fabric = Fabric::start_on(carrier, &[], echo().await);
        say(&mut fabric, FORBIDDEN);
        let session = fabric.session().await;
        assert_eq!(open_refused(&session).await.code, RefusalCode::PathUnavailable);
        say(&mut fabric, ALLOWED);
        let mut channel = held(&session, Lane::Interactive).await;
        echoes(&mut channel).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_hole_is_made_or_kept_where_direct_paths_are_forbidden() {
    let mut fabric = Fabric::start_on(Carrier::Quic, &[RELAY], echo().await);
    hide_egress(&mut fabric);
    reachable_at(&fabric, RELAY).await;
    say(&mut fabric, FORBIDDEN);
    let session = fabric.session().await;
    let mut channel = held(&session, Lane::Interactive).await;
    let lane = |fabric: &Fabric| fabric.nodes[&ENTRY].endpoint.status().lanes.remove(0);
    until("none is looked for", || lane(&fabric).hole.step == Step::Forbidden).await;
    assert_eq!(
        (lane(&fabric).path, lane(&fabric).hole.rounds),
        (Path::Relayed { relay: RELAY }, 0)
    );
    say(&mut fabric, ALLOWED);
    until("the hole is there", || lane(&fabric).hole.step == Step::Open).await;
    echoes(&mut channel).await;
    say(&mut fabric, FORBIDDEN);
    until("the lane is back", || lane(&fabric).path == Path::Relayed { relay: RELAY }).await;
    assert_eq!(lane(&fabric).hole.step, Step::Forbidden);
    echoes(&mut channel).await;
    bytes_pass(&fabric).await;
}

/// A port from which datagrams get to `target`, and back, after so long.
async fn far(target: SocketAddr, each_way: Duration) -> SocketAddr {
    let outside = Arc::new(UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap());
    let address = outside.local_addr().unwrap();
    tokio::spawn(async move {
        let mut insides: BTreeMap<SocketAddr, Arc<UdpSocket>> = BTreeMap::new();
        let mut datagram = [0; 2048];
        while let Ok((length, from)) = outside.recv_from(&mut datagram).await {
            if let Entry::Vacant(place) = insides.entry(from) {
                let inside = Arc::new(UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap());
                place.insert(inside.clone());
                tokio::spawn(pass_back(inside, outside.clone(), from, each_way));
            }
            later(each_way, &insides[&from], target, &datagram[..length]);
        }
    });
    address
}

async fn pass_back(
    inside: Arc<UdpSocket>,
    outside: Arc<UdpSocket>,
    to: SocketAddr,
    each_way: Duration,
) {
    let mut datagram = [0; 2048];
    while let Ok((length, _)) = inside.recv_from(&mut datagram).await {
        later(each_way, &outside, to, &datagram[..length]);
    }
}

fn later(after: Duration, socket: &Arc<UdpSocket>, to: SocketAddr, datagram: &[u8]) {
    let (socket, datagram) = (socket.clone(), datagram.to_vec());
    tokio::spawn(async move {
        tokio::time::sleep(after).await;
        let _ = socket.send_to(&datagram, to).await;
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lane_takes_a_direct_path_that_is_a_little_longer_only_where_it_need_not_be_better() {
    let mut fabric = Fabric::start_on(Carrier::Quic, &[RELAY], echo().await);
    let egress = fabric.address(EGRESS);
    let [of_relay, of_entry] = [60, 75].map(|millis| far(egress, Duration::from_millis(millis)));
    fabric.plan.addresses.insert((RELAY, EGRESS), of_relay.await);
    fabric.cut_direct_path();
    let session = fabric.session().await;
    let mut channel = held(&session, Lane::Interactive).await;
    let lane = |fabric: &Fabric| fabric.nodes[&ENTRY].endpoint.status().lanes.remove(0);
    let relayed = Path::Relayed { relay: RELAY };
    assert_eq!(lane(&fabric).path, relayed);
    let direct = of_entry.await;
    fabric.plan.addresses.insert((ENTRY, EGRESS), direct);
    say(&mut fabric, WHEN_BETTER);
    let is_told = |fabric: &Fabric| lane(fabric).hole.failure == Some(Failure::NotBetter);
    until("the direct path was compared", || is_told(&fabric)).await;
    assert_eq!(lane(&fabric).path, relayed);
    echoes(&mut channel).await;
    say(&mut fabric, ALLOWED);
    let direct = Path::Direct { address: direct };
    until("the direct path is taken", || lane(&fabric).path == direct).await;
    assert!(!is_told(&fabric), "it is there");
    echoes(&mut channel).await;
}

/// The next change that the entry tells of.
async fn told(fabric: &mut Fabric) -> PathChange {
    loop {
        if let Observation::PathChanged { change } = fabric.observed(ENTRY).await {
            return change;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_tells_which_lanes_take_and_leave_direct_paths_where_that_is_asked_for() {
    for (carrier, named) in [(Carrier::Quic, PathCarrier::Quic), (Carrier::Tcp, PathCarrier::Tcp)] {
        let mut fabric = Fabric::start_on(carrier, &[RELAY], echo().await);
        let session = fabric.session().await;
        let quiet = open(&session, Lane::Interactive).await;
        say(&mut fabric, PathRule { audited: true, ..ALLOWED });
        let mut channel = held(&session, Lane::Bulk).await;
        let change = |from, to| PathChange {
            egress: EGRESS,
            organization: ORGANIZATION,
            lane: Lane::Bulk,
            carrier: named,
            from,
            to,
            left_out: 0,
        };
        let (direct, relay) = (Some(PathKind::Direct), Some(PathKind::Relayed));
        assert_eq!(told(&mut fabric).await, change(None, direct), "of the other it was not asked");
        drop(quiet);
        let is_over = |fabric: &Fabric| fabric.nodes[&ENTRY].endpoint.status().tcp_flows <= 1;
        until("the other flow is over", || is_over(&fabric)).await;
        say(&mut fabric, PathRule { audited: true, ..FORBIDDEN });
        let left = loop {
            let left = told(&mut fabric).await;
            if left.lane == Lane::Bulk {
                break left;
            }
        };
        assert_eq!(left, change(direct, relay));
        echoes(&mut channel).await;
        say(&mut fabric, ALLOWED);
        // A flow on TCP stays for a while where it went.
        let another = match carrier {
            Carrier::Quic => {
                until("it is direct again", || relayed(&fabric) == 0).await;
                None
            }
            Carrier::Tcp => Some(held(&session, Lane::Bulk).await),
        };
        drop((channel, another));
        session.close().await;
        loop {
            match fabric.observed(ENTRY).await {
                // The other lane, which lasts without a flow, may have left its path later than bulk.
                Observation::PathChanged { change } if change.lane != Lane::Bulk => {
                    assert_eq!((change.from, change.to), (direct, relay));
                }
                Observation::PathChanged { change } => panic!("nobody asks any more: {change:?}"),
                Observation::SessionEnded { .. } => break,
                _ => {}
            }
        }
    }
}
