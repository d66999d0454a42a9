//! Flows of askers whose NAT gives each destination a port of its own.

use std::net::{Ipv4Addr, SocketAddr};

use futures_util::future::join_all;
use quinn::{Connection, RecvStream, SendStream, TransportConfig};
use rap_mesh::{Carrier, Chain, MeshLimits, Path};
use rap_mesh_core::holes::Limits;
use rap_proto::{
    Lane, NodeId, RefusalCode,
    wire::{
        HOP_ALPN,
        hop::{KNOCK_BYTES, Onward, Reply, Request, knock},
    },
};
use tokio::{net::UdpSocket, time::timeout};

use crate::{
    carry::until,
    fabric::{EGRESS, ENTRY, Fabric, ORGANIZATION, PATIENCE, RELAY, RELAY_2},
    holes::look,
    nat::behind_a_nat,
    raw::{dial_from_port, read, write},
    reachable::{bytes_pass, hop, host},
    targets::echo,
};

/// No socket of these tests has it.
const OTHER: u16 = 9;
/// A relay that waits for knocks for as long as a busy machine needs, and an egress.
fn patient_fabric(target: SocketAddr) -> Fabric {
    let limits = MeshLimits { knock_wait: 4 * PATIENCE, ..MeshLimits::default() };
    Fabric::start_within(limits, &[RELAY], target)
}

/// A flow to the egress, of an asker that says that its hop connection runs on this port.
fn flow(hop_port: Option<u16>) -> Request {
    Request::SetUpFlow { target: EGRESS, lane: Lane::Bulk, from_port: OTHER, hop_port }
}

fn onward(hop_port: Option<u16>) -> Request {
    let (lane, organization) = (Lane::Bulk, ORGANIZATION);
    let onward = Onward { relays: Vec::new(), target: EGRESS, lane, organization };
    Request::SetUpFlowOnward { onward, from_port: OTHER, hop_port }
}

struct Asked {
    _send: SendStream,
    recv: RecvStream,
}

/// Where a relay waits for a knock.
struct Wanted {
    asked: Asked,
    here: SocketAddr,
    secret: [u8; 16],
}

impl Asked {
    async fn begin(hop: &Connection, request: &Request) -> Self {
        let (mut send, recv) = hop.open_bi().await.unwrap();
        write(&mut send, request).await;
        Self { _send: send, recv }
    }

    async fn reply(&mut self) -> Reply {
        timeout(PATIENCE, read(&mut self.recv)).await.unwrap()
    }
}

impl Wanted {
    async fn begin(hop: &Connection, request: &Request) -> Self {
        let mut asked = Asked::begin(hop, request).await;
        match asked.reply().await {
            Reply::KnockHere { port, secret } => {
                Self { asked, here: (Ipv4Addr::LOCALHOST, port).into(), secret }
            }
            reply => panic!("{reply:?}"),
        }
    }

    async fn answer(mut self) -> Reply {
        self.asked.reply().await
    }
}

async fn received(socket: &UdpSocket) -> (Vec<u8>, SocketAddr) {
    let mut buffer = vec![0; 2048];
    let (length, from) = timeout(PATIENCE, socket.recv_from(&mut buffer)).await.unwrap().unwrap();
    (buffer[..length].to_vec(), from)
}

fn flows(fabric: &Fabric, relay: NodeId) -> usize {
    fabric.nodes[&relay].endpoint.status().relayed_flows
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_sees_another_port_forwards_to_wherever_the_right_knock_came_from() {
    let mut fabric = patient_fabric(echo().await);
    let egress = host().await;
    fabric.plan.addresses.insert((RELAY, EGRESS), egress.local_addr().unwrap());
    fabric.publish();
    let hop = hop(&fabric, ENTRY).await;
    for request in [flow(Some(OTHER)), onward(Some(OTHER))] {
        let wanted = Wanted::begin(&hop, &request).await;
        let (here, right) = (wanted.here, knock(&wanted.secret));
        let (asker, stranger) = (host().await, host().await);
        let elsewhere = UdpSocket::bind((Ipv4Addr::new(127, 0, 0, 2), 0)).await.unwrap();
        let mut wrong = right;
        wrong[KNOCK_BYTES - 1] ^= 1;
        stranger.send_to(&wrong, here).await.unwrap();
        elsewhere.send_to(&right, here).await.unwrap();
        asker.send_to(&right, here).await.unwrap();
        // It was sent again before the relay said that it had heard it.
        asker.send_to(&right, here).await.unwrap();
        let reply = wanted.answer().await;
        let Reply::FlowReady { port, .. } = reply else { panic!("{reply:?}") };
        assert_eq!(port, here.port(), "the NAT has let this one in");
        asker.send_to(b"up", here).await.unwrap();
        let (bytes, relay) = received(&egress).await;
        assert_eq!(bytes, b"up", "and nothing before it");
        stranger.send_to(b"spoofed", here).await.unwrap();
        egress.send_to(b"down", relay).await.unwrap();
        assert_eq!(received(&asker).await, (b"down".to_vec(), here));
        for silent in [stranger, elsewhere] {
            assert!(silent.into_std().unwrap().recv_from(&mut [0; 64]).is_err());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_wants_no_knock_where_the_ports_are_the_same_or_not_said() {
    let fabric = Fabric::start(&[RELAY], echo().await);
    let identity = Some(fabric.renewed_identity(ENTRY));
    let dialling = dial_from_port(&fabric, identity, RELAY, HOP_ALPN, TransportConfig::default());
    let (hop, port) = dialling.await;
    for said in [Some(port), None] {
        for request in [flow(said), onward(said)] {
            let reply = Asked::begin(&hop, &request).await.reply().await;
            assert!(matches!(reply, Reply::FlowReady { .. }), "{reply:?}");
        }
    }
}

/// As many flows of one asker as may wait for its knocks.
async fn waiting(hop: &Connection) -> Vec<Wanted> {
    let begins = (0..Limits::KNOCKED_FLOWS.of_one).map(async |number| {
        let request = if number % 2 == 0 { flow(Some(OTHER)) } else { onward(Some(OTHER)) };
        Wanted::begin(hop, &request).await
    });
    join_all(begins).await
}

#[tokio::test(flavor = "multi_thread")]
async fn so_many_flows_of_one_asker_wait_for_its_knocks() {
    let fabric = patient_fabric(echo().await);
    let hop = hop(&fabric, ENTRY).await;
    let _waiting = waiting(&hop).await;
    let reply = Asked::begin(&hop, &flow(Some(OTHER))).await.reply().await;
    assert_eq!(refused(&reply), RefusalCode::LimitReached);
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_does_not_knock_aright_is_refused_in_time_and_its_places_come_back() {
    let fabric = Fabric::start(&[RELAY], echo().await);
    let hop = hop(&fabric, ENTRY).await;
    let waiting = waiting(&hop).await;
    let stranger = host().await;
    let elsewhere = UdpSocket::bind((Ipv4Addr::new(127, 0, 0, 2), 0)).await.unwrap();
    let (wrong, foreign) = (&waiting[0], &waiting[1]);
    stranger.send_to(&knock(&[0; 16]), wrong.here).await.unwrap();
    elsewhere.send_to(&knock(&foreign.secret), foreign.here).await.unwrap();
    for wanted in waiting {
        assert_eq!(refused(&wanted.answer().await), RefusalCode::PathUnavailable);
    }
    assert_eq!(flows(&fabric, RELAY), 0);
    Wanted::begin(&hop, &flow(Some(OTHER))).await;
}

fn refused(reply: &Reply) -> RefusalCode {
    match reply {
        Reply::Refused(refusal) => refusal.code,
        reply => panic!("{reply:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn looks_and_flows_that_knock_have_places_of_their_own() {
    let fabric = patient_fabric(echo().await);
    let hop = hop(&fabric, ENTRY).await;
    let _looking =
        join_all((0..Limits::LOOKS.of_one).map(async |_| look(&hop).await.unwrap())).await;
    let flows = 0..Limits::KNOCKED_FLOWS.of_one;
    join_all(flows.map(async |_| Wanted::begin(&hop, &flow(Some(OTHER))).await)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lanes_of_an_entry_behind_a_nat_that_changes_ports_are_relayed_on_quic() {
    let mut fabric = Fabric::start_on(Carrier::Quic, &[RELAY], echo().await);
    fabric.cut_direct_path();
    behind_a_nat(&mut fabric, (ENTRY, RELAY), 55).await;
    bytes_pass(&fabric).await;
    let status = fabric.nodes[&ENTRY].endpoint.status();
    assert!(!status.lanes.is_empty());
    for lane in status.lanes {
        assert_eq!(lane.path, Path::Relayed { relay: RELAY });
    }
    let probed = fabric.nodes[&ENTRY].endpoint.probe_through(RELAY, EGRESS).await;
    assert!(probed.is_ok(), "{probed:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_path_over_two_relays_leads_through_nats_that_change_ports() {
    let mut fabric = Fabric::start(&[RELAY, RELAY_2], echo().await);
    behind_a_nat(&mut fabric, (ENTRY, RELAY), 55).await;
    behind_a_nat(&mut fabric, (RELAY, RELAY_2), 56).await;
    let chain = Chain::new(&[RELAY, RELAY_2]).unwrap();
    let entry = &fabric.nodes[&ENTRY].endpoint;
    let probed = entry.probe_chain(chain, EGRESS, ORGANIZATION).await;
    assert!(probed.is_ok(), "{probed:?}");
    until("the legs are closed", || flows(&fabric, RELAY) + flows(&fabric, RELAY_2) == 0).await;
}
