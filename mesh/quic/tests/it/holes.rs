//! Lanes over a relay that make themselves a direct path to an egress that nobody reaches.

use std::{collections::BTreeSet, net::SocketAddr, time::Duration};

use quinn::{Connection, RecvStream, SendStream};
use rap_mesh::{Carrier, LaneStatus, MeshLimits, Path, SwitchReason};
use rap_mesh_core::holes::{Failure, KNOCK_AT, LISTEN_AFTER, Limits, Step};
use rap_proto::{
    Lane, NodeId, NodeRole, OrganizationId, RefusalCode,
    snapshot::RoleScope,
    wire::{
        HOP_ALPN,
        hop::{KNOCK_BYTES, Reply, Request, knock},
        lane::{
            self, KNOCK_LABEL, Knocker, MAX_ADDRESSES, Mapping, RequestReply, Seen, knock_context,
        },
        lane_alpn,
    },
};
use tokio::{net::UdpSocket, time::timeout};

use crate::{
    carry::until,
    fabric::{EGRESS, ENTRY, Fabric, PATIENCE, RELAY, RELAY_2, open, own, platform},
    limits::echoes,
    raw::{LONG, dial_as, read, write},
    reachable::{bytes_pass, hide_egress, hop, host, reachable_at},
    targets::echo,
    tcp::held,
};

/// Longer than a round of knocks.
const ROUND: Duration = Duration::from_millis(2_000);

fn lanes(fabric: &Fabric) -> Vec<LaneStatus> {
    fabric.nodes[&ENTRY].endpoint.status().lanes
}

fn relayed_flows(fabric: &Fabric, relay: NodeId) -> usize {
    fabric.nodes[&relay].endpoint.status().relayed_flows
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lane_to_a_hidden_egress_becomes_direct_and_gives_its_relays_back() {
    for relays in [&[RELAY][..], &[RELAY, RELAY_2]] {
        let mut fabric = Fabric::start_on(Carrier::Quic, relays, echo().await);
        hide_egress(&mut fabric);
        for relay in relays {
            reachable_at(&fabric, *relay).await;
        }
        bytes_pass(&fabric).await;
        let address = fabric.address(EGRESS);
        let is_direct = |lane: &LaneStatus| lane.path == Path::Direct { address };
        until("both lanes are direct", || lanes(&fabric).iter().all(is_direct)).await;
        bytes_pass(&fabric).await;
        until("the relays carry nothing", || {
            relays.iter().all(|relay| relayed_flows(&fabric, *relay) == 0)
        })
        .await;
        for lane in lanes(&fabric) {
            let hole = lane.hole;
            assert_eq!((hole.step, hole.failure, hole.rounds), (Step::Open, None, 1));
            assert_eq!((hole.own, hole.far), (Mapping::Steady, Mapping::Steady));
            assert_eq!(lane.switches, 1);
        }
        let counted = fabric.nodes[&ENTRY].endpoint.status().counted;
        let count = u64::try_from(lanes(&fabric).len()).unwrap();
        assert_eq!((counted.holes.found, counted.holes.failed), (count, [].into()));
        assert_eq!(counted.switches, [(SwitchReason::Better, count)].into());
    }
}

/// A relay that both sides asked may have named itself: then its removal has to end that path.
#[tokio::test(flavor = "multi_thread")]
async fn a_direct_path_that_was_found_with_a_relay_is_found_anew_when_that_is_none_any_more() {
    let mut fabric = Fabric::start_on(Carrier::Quic, &[RELAY, RELAY_2], echo().await);
    hide_egress(&mut fabric);
    for relay in [RELAY, RELAY_2] {
        reachable_at(&fabric, relay).await;
    }
    let session = fabric.session().await;
    let mut channel = held(&session, Lane::Interactive).await;
    until("the lane is direct", || is_direct_since(&fabric, 1)).await;
    let other = RoleScope {
        organizations: Some([OrganizationId::from_u128(0xbad)].into()),
        ..platform(NodeRole::RelayNode)
    };
    fabric.plan.roles.insert(RELAY_2, vec![other]);
    fabric.plan.version += 1;
    fabric.publish();
    until("the lane is direct once more", || is_direct_since(&fabric, 2)).await;
    assert_eq!(lanes(&fabric)[0].switches, 3, "to the hole, away from it, and back");
    echoes(&mut channel).await;
}

/// Whether the lane is direct by the hole of that round.
fn is_direct_since(fabric: &Fabric, round: u32) -> bool {
    let lane = lanes(fabric).remove(0);
    let is_direct = matches!(lane.path, Path::Direct { .. });
    is_direct && (lane.hole.step, lane.hole.rounds) == (Step::Open, round)
}

/// The planted bug of the one above: it is what the egress says that makes the lane direct.
#[tokio::test(flavor = "multi_thread")]
async fn a_lane_to_an_egress_that_asks_no_relay_stays_relayed_and_says_why() {
    let mut fabric = Fabric::start_on(Carrier::Quic, &[RELAY], echo().await);
    fabric.cut_direct_path();
    let session = fabric.session().await;
    let _open = open(&session, Lane::Interactive).await;
    until("the first round is over", || lanes(&fabric)[0].hole.failure.is_some()).await;
    let lane = lanes(&fabric).remove(0);
    assert_eq!(lane.hole.failure, Some(Failure::FarUnseen));
    assert_eq!(lane.path, Path::Relayed { relay: RELAY });
}

/// A lane by hand, and the round that it asks for.
pub(crate) async fn by_hand(fabric: &Fabric) -> Connection {
    let entry = Some(fabric.renewed_identity(ENTRY));
    dial_as(fabric, entry, EGRESS, lane_alpn(Lane::Bulk), LONG).await
}

async fn meet(lane: &Connection, round: u32, seen: Seen) -> RequestReply {
    let (mut send, mut recv) = lane.open_bi().await.unwrap();
    write(&mut send, &lane::Request::Meet { round, seen }).await;
    timeout(PATIENCE, read(&mut recv)).await.unwrap()
}

fn at(addresses: Vec<SocketAddr>) -> Seen {
    Seen { addresses, mapping: Mapping::Unknown }
}

/// What came until nothing does any more.
async fn all_received(socket: &UdpSocket) -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    let mut buffer = vec![0; 2048];
    while let Ok(received) = timeout(ROUND, socket.recv(&mut buffer)).await {
        all.push(buffer[..received.unwrap()].to_vec());
    }
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lying_entry_has_few_small_datagrams_sent_and_to_few_addresses() {
    let mut fabric = Fabric::start(&[RELAY], echo().await);
    hide_egress(&mut fabric);
    reachable_at(&fabric, RELAY).await;
    let lane = by_hand(&fabric).await;
    let mut hosts = Vec::new();
    for _ in 0..=MAX_ADDRESSES {
        hosts.push(host().await);
    }
    let named = hosts.iter().map(|host| host.local_addr().unwrap()).collect();
    let reply = meet(&lane, 9, at(named)).await;
    let seen = Seen { addresses: vec![fabric.address(EGRESS)], mapping: Mapping::Steady };
    assert_eq!(reply, RequestReply::Met(seen));
    let mut secret = [0; 16];
    let context = knock_context(Knocker::Egress, 9);
    lane.export_keying_material(&mut secret, KNOCK_LABEL, &context).unwrap();
    let beyond = hosts.pop().unwrap();
    for host in &hosts {
        assert_eq!(all_received(host).await, vec![knock(&secret).to_vec(); KNOCK_AT.len()]);
    }
    assert!(all_received(&beyond).await.is_empty(), "it was one too many");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_entry_has_so_many_rounds_at_once() {
    let mut fabric = Fabric::start(&[RELAY], echo().await);
    hide_egress(&mut fabric);
    reachable_at(&fabric, RELAY).await;
    let lane = by_hand(&fabric).await;
    let victim = host().await;
    for round in 0..=u32::try_from(Limits::MEETINGS.of_one).unwrap() {
        let reply = meet(&lane, round, at(vec![victim.local_addr().unwrap()])).await;
        match reply {
            RequestReply::Met(_) => assert!((round as usize) < Limits::MEETINGS.of_one),
            RequestReply::Refused(refusal) => {
                assert_eq!(round as usize, Limits::MEETINGS.of_one);
                assert_eq!(refusal.code, RefusalCode::LimitReached);
            }
        }
    }
    tokio::time::sleep(KNOCK_AT[KNOCK_AT.len() - 1] + LISTEN_AFTER).await;
    until_met(&lane, &victim).await;
}

/// The places come back by themselves.
async fn until_met(lane: &Connection, victim: &UdpSocket) {
    let asking = async {
        loop {
            let seen = at(vec![victim.local_addr().unwrap()]);
            if matches!(meet(lane, 99, seen).await, RequestReply::Met(_)) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(PATIENCE, asking).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_but_an_entry_of_the_egresss_organizations_is_met() {
    let mut fabric = Fabric::start(&[RELAY], echo().await);
    hide_egress(&mut fabric);
    fabric.plan.roles.insert(ENTRY, vec![own(NodeRole::RelayNode)]);
    fabric.plan.version += 1;
    fabric.publish_to(EGRESS);
    match meet(&by_hand(&fabric).await, 1, at(Vec::new())).await {
        RequestReply::Refused(refusal) => assert_eq!(refusal.code, RefusalCode::RoleNotAssigned),
        reply @ RequestReply::Met(_) => panic!("{reply:?}"),
    }
    fabric.expect_refusal(EGRESS, RefusalCode::RoleNotAssigned, false).await;
}

/// A question that waits for its knock.
pub(crate) struct Look {
    _send: SendStream,
    recv: RecvStream,
    port: u16,
    secret: [u8; 16],
}

pub(crate) async fn look(hop: &Connection) -> Result<Look, RefusalCode> {
    let (mut send, mut recv) = hop.open_bi().await.unwrap();
    write(&mut send, &Request::SeeMe {}).await;
    match timeout(PATIENCE, read(&mut recv)).await.unwrap() {
        Reply::KnockHere { port, secret } => Ok(Look { _send: send, recv, port, secret }),
        Reply::Refused(refusal) => Err(refusal.code),
        reply => panic!("{reply:?}"),
    }
}

impl Look {
    fn here(&self) -> SocketAddr {
        ([127, 0, 0, 1], self.port).into()
    }

    async fn answer(mut self) -> Reply {
        timeout(PATIENCE, read(&mut self.recv)).await.unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_says_where_the_right_knock_came_from_and_answers_no_datagram() {
    let fabric = Fabric::start(&[RELAY], echo().await);
    let hop = hop(&fabric, ENTRY).await;
    let (asker, stranger) = (host().await, host().await);
    let first = look(&hop).await.unwrap();
    let mut wrong = knock(&first.secret);
    wrong[KNOCK_BYTES - 1] ^= 1;
    for nonsense in [&wrong[..], b"hello"] {
        stranger.send_to(nonsense, first.here()).await.unwrap();
    }
    asker.send_to(&knock(&first.secret), first.here()).await.unwrap();
    let address = asker.local_addr().unwrap();
    assert_eq!(first.answer().await, Reply::SeenAt { address });
    let unheard = look(&hop).await.unwrap();
    match unheard.answer().await {
        Reply::Refused(refusal) => assert_eq!(refusal.code, RefusalCode::PathUnavailable),
        reply => panic!("{reply:?}"),
    }
    for silent in [asker, stranger] {
        assert!(silent.into_std().unwrap().recv_from(&mut [0; 64]).is_err());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_asker_has_so_many_looks_at_once_and_whoever_is_neither_entry_nor_egress_none() {
    let limits = MeshLimits { knock_wait: 4 * PATIENCE, ..MeshLimits::default() };
    let mut fabric = Fabric::start_within(limits, &[RELAY, RELAY_2], echo().await);
    let asking = hop(&fabric, ENTRY).await;
    let mut looks = Vec::new();
    for _ in 0..Limits::LOOKS.of_one {
        looks.push(look(&asking).await.unwrap());
    }
    let ports: BTreeSet<u16> = looks.iter().map(|look| look.port).collect();
    assert_eq!(ports.len(), looks.len(), "each look has a port of its own");
    assert_eq!(look(&asking).await.err(), Some(RefusalCode::LimitReached));
    let other = Some(fabric.renewed_identity(RELAY_2));
    let other = dial_as(&fabric, other, RELAY, HOP_ALPN, LONG).await;
    assert_eq!(look(&other).await.err(), Some(RefusalCode::RoleNotAssigned));
    fabric.expect_refusal(RELAY, RefusalCode::RoleNotAssigned, false).await;
}
