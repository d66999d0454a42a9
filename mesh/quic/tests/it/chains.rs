//! Paths over several relays: each asks the next, and nobody of them reads anything.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, UdpSocket},
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use quinn::Connection;
use rap_mesh::{Carrier, Chain, MeshEndpoint, Path, ProbeChainError};
use rap_mesh_core::{flows::MAX_WAITING_LEGS, paths::egress_order};
use rap_proto::{
    Lane, NodeId, NodeRole, OrganizationId, RefusalCode,
    wire::{
        HOP_ALPN,
        hop::{FLOW_TTL_MS, Onward, Reply, Request},
    },
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    runtime::Runtime,
    time::timeout,
};

use crate::{
    carry::{PART, Transfer, until},
    fabric::{
        EGRESS, ENTRY, Fabric, ORGANIZATION, PATIENCE, RELAY, RELAY_2, RELAY_3, SESSION,
        client_key, open, own, platform,
    },
    paths,
    raw::{LONG, dial_as, read, write},
    targets::echo,
    tcp::{self, held},
    traffic::{exchange, pattern},
};

const TWO: [NodeId; 2] = [RELAY, RELAY_2];
const THREE: [NodeId; 3] = [RELAY, RELAY_2, RELAY_3];

fn chain(relays: &[NodeId]) -> Chain {
    Chain::new(relays).unwrap()
}

/// Cuts everything but the way from each node to the next.
fn put_in_line(fabric: &mut Fabric, relays: &[NodeId]) {
    let line = [&[ENTRY][..], relays, &[EGRESS]].concat();
    for (place, from) in line.iter().enumerate() {
        for beyond in line.iter().skip(place + 2) {
            fabric.plan.addresses.insert((*from, *beyond), fabric.dead_address());
        }
    }
    fabric.publish();
}

fn relay(fabric: &Fabric, id: NodeId) -> MeshEndpoint {
    fabric.nodes[&id].endpoint.clone()
}

fn paths_of_lanes(fabric: &Fabric) -> Vec<Path> {
    let lanes = fabric.nodes[&ENTRY].endpoint.status().lanes;
    lanes.into_iter().map(|lane| lane.path).collect()
}

async fn bytes_pass_over(carrier: Carrier, relays: &[NodeId]) {
    let mut fabric = Fabric::start_on(carrier, relays, echo().await);
    put_in_line(&mut fabric, relays);
    let session = fabric.session().await;
    let held = held(&session, Lane::Bulk).await;
    for id in relays {
        let status = relay(&fabric, *id).status();
        assert!(status.relayed_flows > 0, "{id} carries nothing on {carrier}");
    }
    let sent = pattern(4_000_000);
    assert!(exchange(&session, Lane::Bulk, sent.clone()).await == sent, "{carrier}: other bytes");
    if carrier == Carrier::Quic {
        assert_eq!(paths_of_lanes(&fabric), [Path::Chained { chain: chain(relays) }]);
    }
    drop(held);
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_pass_over_two_relays_on_quic() {
    bytes_pass_over(Carrier::Quic, &TWO).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_pass_over_two_relays_on_tcp() {
    bytes_pass_over(Carrier::Tcp, &TWO).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_pass_over_three_relays_on_quic() {
    bytes_pass_over(Carrier::Quic, &THREE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_pass_over_three_relays_on_tcp() {
    bytes_pass_over(Carrier::Tcp, &THREE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn where_one_relay_is_enough_no_second_one_is_asked() {
    let mut fabric = Fabric::start_on(Carrier::Quic, &TWO, echo().await);
    fabric.cut_direct_path();
    let session = fabric.session().await;
    let _held = held(&session, Lane::Interactive).await;
    assert!(matches!(paths_of_lanes(&fabric)[..], [Path::Relayed { .. }]));
}

/// Behind three relays there are eight chains to each egress: to try them all at one that is gone
/// takes longer than a client waits.
#[tokio::test(flavor = "multi_thread")]
async fn chains_to_egresses_that_are_gone_keep_nobody_from_the_one_that_answers() {
    let mut fabric = Fabric::start(&THREE, echo().await);
    let is_asked_sooner = |id: &NodeId| egress_order(SESSION, [*id, EGRESS])[0] == *id;
    let gone: Vec<NodeId> =
        (0x60..).map(NodeId::from_u128).filter(is_asked_sooner).take(2).collect();
    let dead = fabric.dead_address();
    for (id, seed) in gone.iter().zip(70..) {
        fabric.plan.roles.insert(*id, vec![own(NodeRole::StreamWorker)]);
        for from in [ENTRY, RELAY, RELAY_2, RELAY_3] {
            fabric.plan.addresses.insert((from, *id), dead);
        }
        fabric.add_node(*id, seed);
    }
    let mut claims = fabric.claims();
    claims.egresses.extend(gone.iter().map(|id| (*id, fabric.plan.version)));
    let token = fabric.token(&claims);
    let session = fabric.connect_with(token, client_key()).await.unwrap();
    assert_eq!(exchange(&session, Lane::Interactive, b"here".to_vec()).await, b"here");
}

/// The runtimes of nodes that die with them.
fn mortal() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transfer_survives_the_death_of_the_relay_in_the_middle() {
    let mut fabric = Fabric::start_on(Carrier::Quic, &THREE, echo().await);
    let mut runtimes = vec![(RELAY_2, mortal()), (RELAY_3, mortal())];
    for ((id, runtime), seed) in runtimes.iter().zip(55..) {
        fabric.move_node(*id, seed, runtime);
    }
    // The entry reaches the first alone, and the egress is reached from the other two.
    let dead = fabric.dead_address();
    for cut in [(ENTRY, RELAY_2), (ENTRY, RELAY_3), (ENTRY, EGRESS), (RELAY, EGRESS)] {
        fabric.plan.addresses.insert(cut, dead);
    }
    fabric.publish();
    let session = fabric.session().await;
    let mut transfer = Transfer::begin(&session).await;
    transfer.goes_on(1).await;
    let [Path::Chained { chain: over }] = paths_of_lanes(&fabric)[..] else {
        panic!("{:?}", paths_of_lanes(&fabric))
    };
    let (used, other) =
        if over.relays().contains(&RELAY_2) { (RELAY_2, RELAY_3) } else { (RELAY_3, RELAY_2) };
    let warm = relay(&fabric, other);
    until("another chain is warm", || warm.status().relayed_flows > 0).await;
    transfer.goes_on(PART).await;
    let place = runtimes.iter().position(|(id, _)| *id == used).unwrap();
    runtimes.swap_remove(place).1.shutdown_background();
    transfer.goes_on(PART).await;
    transfer.ends_whole().await;
    let [Path::Chained { chain: over }] = paths_of_lanes(&fabric)[..] else {
        panic!("{:?}", paths_of_lanes(&fabric))
    };
    assert!(over.relays().contains(&other) && !over.relays().contains(&used), "{over}");
    for (_, runtime) in runtimes {
        runtime.shutdown_background();
    }
}

/// There is no hop connection that would tell: the bytes end, and the flow goes on over the other.
#[tokio::test(flavor = "multi_thread")]
async fn a_flow_on_tcp_survives_the_death_of_the_relay_in_the_middle() {
    let mut fabric = Fabric::start_on(Carrier::Tcp, &THREE, echo().await);
    let mut runtimes = BTreeMap::from([(RELAY_2, mortal()), (RELAY_3, mortal())]);
    for ((id, runtime), seed) in runtimes.iter().zip(55..) {
        fabric.move_node(*id, seed, runtime);
    }
    let dead = fabric.dead_address();
    // No two of three lead past the one that dies: each chain is one of two.
    for cut in [
        (ENTRY, RELAY_2),
        (ENTRY, RELAY_3),
        (ENTRY, EGRESS),
        (RELAY, EGRESS),
        (RELAY_2, RELAY_3),
        (RELAY_3, RELAY_2),
    ] {
        fabric.plan.addresses.insert(cut, dead);
    }
    fabric.publish();
    let session = fabric.session().await;
    let mut transfer = Transfer::begin(&session).await;
    transfer.goes_on(PART).await;
    let carries = |id: NodeId| carried(&fabric, id) > 0;
    until("one of them carries it", || carries(RELAY_2) != carries(RELAY_3)).await;
    let (used, other) = if carries(RELAY_2) { (RELAY_2, RELAY_3) } else { (RELAY_3, RELAY_2) };
    runtimes.remove(&used).unwrap().shutdown_background();
    transfer.goes_on(PART).await;
    assert!(carries(RELAY) && carries(other));
    transfer.ends_whole().await;
    for (_, runtime) in runtimes {
        runtime.shutdown_background();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_last_of_two_relays_passes_on_holds_no_plaintext() {
    for carrier in [Carrier::Quic, Carrier::Tcp] {
        let mut fabric = Fabric::start_on(carrier, &TWO, echo().await);
        let egress = fabric.address(EGRESS);
        let (tapped, seen) = match carrier {
            Carrier::Quic => paths::tap(egress).await,
            Carrier::Tcp => tcp::tap(egress).await,
        };
        fabric.plan.addresses.insert((RELAY_2, EGRESS), tapped);
        put_in_line(&mut fabric, &TWO);
        let session = fabric.session().await;
        let mut channel = open(&session, Lane::Bulk).await;
        let secret = b"a secret that only the two ends may read, ".repeat(200);
        channel.write_all(&secret).await.unwrap();
        channel.flush().await.unwrap();
        let mut back = vec![0; secret.len()];
        timeout(PATIENCE, channel.read_exact(&mut back)).await.unwrap().unwrap();
        assert_eq!(back, secret);
        let seen = seen.lock().unwrap();
        assert!(seen.len() > 2 * secret.len(), "all of it went through both, both ways");
        let needle = &secret[..16];
        assert!(!seen.windows(needle.len()).any(|window| window == needle), "{carrier}");
    }
}

async fn probe(fabric: &Fabric, relays: &[NodeId]) -> Result<Duration, ProbeChainError> {
    let entry = relay(fabric, ENTRY);
    let probing = entry.probe_chain(chain(relays), EGRESS, ORGANIZATION);
    timeout(PATIENCE, probing).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_probe_over_relays_arrives_and_leaves_nothing_behind() {
    let fabric = Fabric::start(&THREE, echo().await);
    for relays in [&TWO[..], &THREE] {
        assert!(probe(&fabric, relays).await.unwrap() > Duration::ZERO);
        for id in relays {
            let relay = relay(&fabric, *id);
            until("the flow is given back", || relay.status().relayed_flows == 0).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_further_on_that_may_not_carry_it_is_named() {
    let mut others = platform(NodeRole::RelayNode);
    others.organizations = Some([OrganizationId::from_u128(0xbad)].into());
    for (relay, roles) in [
        (RELAY, Vec::new()),
        (RELAY_2, Vec::new()),
        (RELAY_2, vec![others]),
        (RELAY_3, vec![platform(NodeRole::EntryNode)]),
    ] {
        let mut fabric = Fabric::start(&THREE, echo().await);
        // Only the relay itself knows that the role was taken away.
        let before = fabric.plan.roles.insert(relay, roles).unwrap();
        fabric.publish_to(relay);
        fabric.plan.roles.insert(relay, before);
        let code = RefusalCode::RoleNotAssigned;
        let refused = Err(ProbeChainError::Refused { relay, code });
        assert_eq!(probe(&fabric, &THREE).await, refused);
        fabric.expect_refusal(relay, code, false).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_further_on_that_does_not_answer_is_named() {
    for gone in [RELAY, RELAY_2, RELAY_3] {
        let fabric = Fabric::start(&THREE, echo().await);
        relay(&fabric, gone).shut_down(Duration::from_secs(1)).await;
        let refused = ProbeChainError::Refused { relay: gone, code: RefusalCode::PathUnavailable };
        assert_eq!(probe(&fabric, &THREE).await, Err(refused));
    }
}

/// A hop connection by hand.
async fn hop(fabric: &Fabric, from: NodeId, to: NodeId) -> Connection {
    let identity = Some(fabric.renewed_identity(from));
    dial_as(fabric, identity, to, HOP_ALPN, LONG).await
}

async fn ask(hop: &Connection, request: &Request) -> Reply {
    let (mut send, mut recv) = hop.open_bi().await.unwrap();
    write(&mut send, request).await;
    timeout(PATIENCE, read(&mut recv)).await.unwrap()
}

fn onward(relays: &[NodeId]) -> Onward {
    let (lane, organization) = (Lane::Bulk, ORGANIZATION);
    Onward { relays: relays.to_vec(), target: EGRESS, lane, organization }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_path_that_comes_back_or_goes_on_too_long_is_refused_on_both_carriers() {
    let mut fabric = Fabric::start(&THREE, echo().await);
    let far = NodeId::from_u128(0xff);
    let entry = hop(&fabric, ENTRY, RELAY).await;
    let second = hop(&fabric, RELAY_2, RELAY).await;
    let cases: &[(&Connection, &[NodeId])] = &[
        (&entry, &[RELAY]),
        (&entry, &[RELAY_2, RELAY]),
        (&entry, &[RELAY_2, RELAY_2]),
        (&entry, &[RELAY_2, EGRESS]),
        (&entry, &[RELAY_2, RELAY_3, far]),
        (&second, &[RELAY_3, far]),
        (&second, &[RELAY_2]),
    ];
    for (hop, relays) in cases {
        for request in [
            Request::SetUpFlowOnward { onward: onward(relays), from_port: 9, hop_port: None },
            Request::SetUpStreamOnward { onward: onward(relays) },
        ] {
            match ask(hop, &request).await {
                Reply::Refused(refusal) => assert_eq!(refusal.code, RefusalCode::Malformed),
                reply => panic!("{relays:?} got {reply:?}"),
            }
            fabric.expect_refusal(RELAY, RefusalCode::Malformed, false).await;
        }
    }
    let portless =
        Request::SetUpFlowOnward { onward: onward(&[RELAY_2]), from_port: 0, hop_port: None };
    assert!(matches!(ask(&entry, &portless).await, Reply::Refused(_)));
    assert_eq!(relay(&fabric, RELAY).status().relayed_flows, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn each_leg_ends_with_the_one_before_it_and_with_the_one_behind_it() {
    let fabric = Fabric::start(&THREE, echo().await);
    let hop = hop(&fabric, ENTRY, RELAY).await;
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let from_port = socket.local_addr().unwrap().port();
    let request =
        Request::SetUpFlowOnward { onward: onward(&[RELAY_2, RELAY_3]), from_port, hop_port: None };
    let flows = |count: usize| THREE.iter().all(|id| carried(&fabric, *id) == count);
    let flow = flow_of(ask(&hop, &request).await);
    assert!(flows(1), "each carries its leg");
    assert_eq!(ask(&hop, &Request::CloseFlow { flow }).await, Reply::Done);
    until("all legs are closed", || flows(0)).await;
    let flow = flow_of(ask(&hop, &request).await);
    assert!(flows(1));
    relay(&fabric, RELAY_3).shut_down(Duration::from_secs(1)).await;
    until("the legs in front are over", || flows(0)).await;
    match ask(&hop, &Request::RefreshFlow { flow }).await {
        Reply::Refused(refusal) => assert_eq!(refusal.code, RefusalCode::PathUnavailable),
        reply => panic!("the flow is still there: {reply:?}"),
    }
}

/// It says that it leaves: nobody has to wait until the flows that it asked for are too old.
#[tokio::test(flavor = "multi_thread")]
async fn the_legs_behind_a_relay_that_leaves_end_with_it() {
    let fabric = Fabric::start(&THREE, echo().await);
    let hop = hop(&fabric, ENTRY, RELAY).await;
    let request = Request::SetUpFlowOnward {
        onward: onward(&[RELAY_2, RELAY_3]),
        from_port: 9,
        hop_port: None,
    };
    flow_of(ask(&hop, &request).await);
    assert!(THREE.iter().all(|id| carried(&fabric, *id) == 1));
    let before = Instant::now();
    relay(&fabric, RELAY).shut_down(Duration::from_secs(1)).await;
    for id in [RELAY_2, RELAY_3] {
        until("the leg ends", || carried(&fabric, id) == 0).await;
    }
    assert!(before.elapsed() < Duration::from_millis(FLOW_TTL_MS / 3), "not by its age");
}

fn carried(fabric: &Fabric, id: NodeId) -> usize {
    fabric.nodes[&id].endpoint.status().relayed_flows
}

fn flow_of(reply: Reply) -> u64 {
    match reply {
        Reply::FlowReady { flow, port } if port > 0 => flow,
        other => panic!("expected a flow, got {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn so_many_legs_wait_for_the_next_relay_and_their_places_come_back() {
    let mut fabric = Fabric::start(&TWO, echo().await);
    fabric.plan.addresses.insert((RELAY, RELAY_2), fabric.dead_address());
    fabric.publish();
    let hop = hop(&fabric, ENTRY, RELAY).await;
    let request = Request::SetUpStreamOnward { onward: onward(&[RELAY_2]) };
    let replies = join_all((0..MAX_WAITING_LEGS + 8).map(|_| ask(&hop, &request))).await;
    let mut full = 0;
    for reply in replies {
        match reply {
            Reply::Refused(refusal) if refusal.code == RefusalCode::LimitReached => full += 1,
            Reply::RefusedOnward { hop: 1, .. } => {}
            other => panic!("{other:?}"),
        }
    }
    // On a slow machine the first ones are over before the last ones ask.
    assert!((1..=8).contains(&full), "{full}");
    let alone = ask(&hop, &request).await;
    assert!(matches!(alone, Reply::RefusedOnward { hop: 1, .. }), "{alone:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leg_ends_when_its_relay_is_no_relay_for_the_organization_any_more() {
    let mut fabric = Fabric::start(&THREE, echo().await);
    let hop = hop(&fabric, ENTRY, RELAY).await;
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let from_port = socket.local_addr().unwrap().port();
    let request =
        Request::SetUpFlowOnward { onward: onward(&[RELAY_2]), from_port, hop_port: None };
    flow_of(ask(&hop, &request).await);
    assert_eq!((carried(&fabric, RELAY), carried(&fabric, RELAY_2)), (1, 1));
    let mut others = platform(NodeRole::RelayNode);
    others.organizations = Some([OrganizationId::from_u128(0xbad)].into());
    fabric.plan.roles.insert(RELAY, vec![others]);
    fabric.plan.version += 1;
    fabric.publish_to(RELAY);
    assert_eq!(carried(&fabric, RELAY), 0, "at once");
    until("the leg behind it ends with it", || carried(&fabric, RELAY_2) == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_of_a_later_release_closes_its_stream_and_nothing_else() {
    let fabric = Fabric::start(&[RELAY], echo().await);
    let hop = hop(&fabric, ENTRY, RELAY).await;
    let (mut send, mut recv) = hop.open_bi().await.unwrap();
    write(&mut send, &BTreeMap::from([("set_up_by_a_later_release", 1)])).await;
    let answer = timeout(PATIENCE, recv.read_to_end(1024)).await.unwrap();
    assert!(answer.is_err() || answer.is_ok_and(|bytes| bytes.is_empty()), "without a word");
    let heartbeat = ask(&hop, &Request::RefreshFlow { flow: 0 }).await;
    assert!(matches!(heartbeat, Reply::Refused(_)), "the connection goes on");
}
