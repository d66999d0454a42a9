//! Egresses that nobody reaches from outside, and that keep themselves reachable at relays.

use std::{
    collections::BTreeSet,
    net::{Ipv4Addr, SocketAddr},
};

use futures_util::{FutureExt as _, future::join_all};
use quinn::{Connection, RecvStream, SendStream};
use rap_mesh::Carrier;
use rap_mesh_core::{
    carrier::Part,
    ended::Close,
    reachable::{self, MAX_CALLS_OF_ONE},
};
use rap_proto::{
    Lane, NodeId, NodeRole, OrganizationId, RefusalCode,
    snapshot::RoleScope,
    wire::{
        CHANNEL_ALPN, CLIENT_ALPN, HOP_ALPN, frame_length,
        hop::{Call, KNOCK_BYTES, Reply, Request, knock},
        lane::FlowReply,
        lane_alpn,
        resume::{FlowId, Resume},
        unframe,
    },
};
use tokio::{net::UdpSocket, task::JoinSet, time::timeout};

use crate::{
    carry::{until, until_so},
    fabric::{EGRESS, ENTRY, Fabric, PATIENCE, RELAY, RELAY_2, open_refused, own},
    raw::{LONG, dial_as, dial_with, read, write},
    resume::request,
    targets::echo,
    tcp::{Raw, bring, tcp_only, ticket},
    traffic::{exchange, pattern},
};

/// Nothing gets to the egress from outside: what anybody is told of its address is of no use.
pub(crate) fn hide_egress(fabric: &mut Fabric) {
    fabric.plan.egresses_dial_out = true;
    let dead = fabric.dead_address();
    for from in [ENTRY, RELAY, RELAY_2] {
        fabric.plan.addresses.insert((from, EGRESS), dead);
    }
    fabric.publish();
}

fn reachable_nodes(fabric: &Fabric, relay: NodeId) -> usize {
    fabric.nodes[&relay].endpoint.status().reachable_nodes
}

pub(crate) async fn reachable_at(fabric: &Fabric, relay: NodeId) {
    until("the egress is reachable", || reachable_nodes(fabric, relay) == 1).await;
}

pub(crate) async fn bytes_pass(fabric: &Fabric) {
    let session = fabric.session().await;
    for lane in [Lane::Interactive, Lane::Bulk] {
        let sent = pattern(1_000_000);
        assert!(exchange(&session, lane, sent.clone()).await == sent, "{lane}: other bytes");
    }
}

async fn bytes_reach_a_hidden_egress(carrier: Carrier) {
    let mut fabric = Fabric::start_on(carrier, &[RELAY], echo().await);
    hide_egress(&mut fabric);
    reachable_at(&fabric, RELAY).await;
    // The relay counts the line before its answer arrives.
    let lines = || fabric.nodes[&EGRESS].endpoint.status().reachable_at;
    until("the egress knows of its line", || lines() == 1).await;
    bytes_pass(&fabric).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_reach_an_egress_that_only_dials_out_on_quic() {
    bytes_reach_a_hidden_egress(Carrier::Quic).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_reach_an_egress_that_only_dials_out_on_tcp() {
    bytes_reach_a_hidden_egress(Carrier::Tcp).await;
}

/// The planted bug of the two above: without its line nothing leads to the egress.
#[tokio::test(flavor = "multi_thread")]
async fn an_egress_that_keeps_no_line_is_not_reached() {
    for carrier in [Carrier::Quic, Carrier::Tcp] {
        let mut fabric = Fabric::start_on(carrier, &[RELAY], echo().await);
        hide_egress(&mut fabric);
        reachable_at(&fabric, RELAY).await;
        fabric.plan.egresses_dial_out = false;
        fabric.publish();
        until("the line is gone", || reachable_nodes(&fabric, RELAY) == 0).await;
        let session = fabric.session().await;
        let refused = open_refused(&session).await;
        assert_eq!(refused.code, RefusalCode::PathUnavailable);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_relay_of_a_chain_finds_an_egress_that_only_dials_out() {
    for carrier in [Carrier::Quic, Carrier::Tcp] {
        let mut fabric = Fabric::start_on(carrier, &[RELAY, RELAY_2], echo().await);
        let dead = fabric.dead_address();
        for cut in [(ENTRY, RELAY_2), (EGRESS, RELAY)] {
            fabric.plan.addresses.insert(cut, dead);
        }
        hide_egress(&mut fabric);
        reachable_at(&fabric, RELAY_2).await;
        assert_eq!(reachable_nodes(&fabric, RELAY), 0);
        bytes_pass(&fabric).await;
    }
}

/// Where no datagram gets from the egress to the relay, the line is one on TCP.
#[tokio::test(flavor = "multi_thread")]
async fn where_udp_is_blocked_the_line_and_the_streams_are_on_tcp() {
    let mut fabric = Fabric::start_on(Carrier::Tcp, &[RELAY], echo().await);
    let only_tcp = tcp_only(fabric.address(RELAY)).await;
    fabric.plan.addresses.insert((EGRESS, RELAY), only_tcp);
    hide_egress(&mut fabric);
    reachable_at(&fabric, RELAY).await;
    bytes_pass(&fabric).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_line_is_made_again() {
    let mut fabric = Fabric::start_on(Carrier::Quic, &[RELAY], echo().await);
    let mortal = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    fabric.move_node(RELAY, 55, &mortal);
    hide_egress(&mut fabric);
    reachable_at(&fabric, RELAY).await;
    mortal.shutdown_background();
    let again = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    fabric.move_node(RELAY, 56, &again);
    reachable_at(&fabric, RELAY).await;
    bytes_pass(&fabric).await;
    again.shutdown_background();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_line_ends_with_the_role_that_it_is_for() {
    let mut fabric = Fabric::start(&[RELAY], echo().await);
    hide_egress(&mut fabric);
    reachable_at(&fabric, RELAY).await;
    fabric.plan.roles.insert(EGRESS, Vec::new());
    fabric.plan.version += 1;
    fabric.publish_to(RELAY);
    until("the relay ends it", || reachable_nodes(&fabric, RELAY) == 0).await;
}

/// Whom a relay lets come through gets a lane, and nothing else that the node's port offers.
#[tokio::test(flavor = "multi_thread")]
async fn a_relay_gets_nothing_but_lanes_through_a_connection_back() {
    let mut fabric = Fabric::start(&[RELAY], echo().await);
    hide_egress(&mut fabric);
    reachable_at(&fabric, RELAY).await;
    let nothing = Some(RefusalCode::Malformed);
    for (alpn, refused) in [
        (HOP_ALPN, nothing),
        (CLIENT_ALPN, nothing),
        (CHANNEL_ALPN, nothing),
        (lane_alpn(Lane::Bulk), None),
    ] {
        let ticket = ticket(&fabric).await;
        let stream = bring(&fabric, &ticket).await;
        let mut raw = Raw::secure(&fabric, stream, EGRESS, alpn, Some(ENTRY)).await.unwrap();
        match refused {
            Some(code) => {
                let (_, end) = raw.hear().await;
                assert_eq!(end, Some(Part::Reset(Close::Refused(code).code())));
            }
            None => {
                let opening = Resume::opening(FlowId::from_random([7; 16]));
                raw.say(&request(&fabric, &fabric.claims(), opening)).await;
                assert_eq!(raw.frame::<FlowReply>().await, FlowReply::Attached { received: 0 });
            }
        }
    }
}

/// A line by hand.
struct Line {
    hop: Connection,
    // Open for as long as the line.
    _send: SendStream,
    recv: RecvStream,
}

impl Line {
    async fn call(&mut self) -> Call {
        timeout(PATIENCE, read(&mut self.recv)).await.unwrap()
    }

    async fn knock_wanted(&mut self) -> (u16, [u8; 16]) {
        loop {
            match self.call().await {
                Call::Knock { port, secret } => return (port, secret),
                Call::Heard { .. } => {}
                call @ Call::ConnectBack { .. } => panic!("{call:?}"),
            }
        }
    }

    /// What was called for; see [`counted`].
    async fn called(mut self, fabric: &Fabric) -> (usize, usize) {
        // The newer line ends the older.
        let _newer = line(fabric).await;
        let calls = timeout(PATIENCE, self.recv.read_to_end(1 << 20)).await.unwrap().unwrap();
        counted(&calls)
    }

    async fn ends(&mut self) {
        let ended =
            async { while self.recv.read(&mut [0; 64]).await.is_ok_and(|it| it.is_some()) {} };
        timeout(PATIENCE, ended).await.unwrap();
    }
}

pub(crate) async fn hop(fabric: &Fabric, from: NodeId) -> Connection {
    let identity = Some(fabric.renewed_identity(from));
    dial_as(fabric, identity, RELAY, HOP_ALPN, LONG).await
}

async fn ask(hop: &Connection, request: &Request) -> Reply {
    let (mut send, mut recv) = hop.open_bi().await.unwrap();
    write(&mut send, request).await;
    timeout(PATIENCE, read(&mut recv)).await.unwrap()
}

async fn line(fabric: &Fabric) -> Line {
    let hop = hop(fabric, EGRESS).await;
    let (mut send, mut recv) = hop.open_bi().await.unwrap();
    write(&mut send, &Request::KeepReachable {}).await;
    assert_eq!(timeout(PATIENCE, read::<Reply>(&mut recv)).await.unwrap(), Reply::Done);
    Line { hop, _send: send, recv }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_newest_line_of_a_node_counts_and_the_one_before_ends() {
    let fabric = Fabric::start(&[RELAY], echo().await);
    let mut older = line(&fabric).await;
    let newer = line(&fabric).await;
    older.ends().await;
    assert_eq!(reachable_nodes(&fabric, RELAY), 1);
    newer.hop.close(0_u32.into(), b"");
    until("nobody is left", || reachable_nodes(&fabric, RELAY) == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_egresses_of_the_relays_organizations_keep_themselves_reachable() {
    let mut fabric = Fabric::start(&[RELAY], echo().await);
    let keep = Request::KeepReachable {};
    let foreign = Some([OrganizationId::from_u128(0xbad)].into());
    let roles = vec![RoleScope { role: NodeRole::StreamWorker, organizations: foreign }];
    fabric.plan.roles.insert(EGRESS, roles);
    fabric.plan.roles.insert(RELAY, vec![own(NodeRole::RelayNode)]);
    fabric.plan.version += 1;
    fabric.publish_to(RELAY);
    for node in [EGRESS, ENTRY] {
        match ask(&hop(&fabric, node).await, &keep).await {
            Reply::Refused(refusal) => assert_eq!(refusal.code, RefusalCode::RoleNotAssigned),
            reply => panic!("{reply:?}"),
        }
        fabric.expect_refusal(RELAY, RefusalCode::RoleNotAssigned, false).await;
    }
    assert_eq!(reachable_nodes(&fabric, RELAY), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_egress_that_does_not_do_as_it_is_called_for_is_reached_at_its_address() {
    for carrier in [Carrier::Quic, Carrier::Tcp] {
        let mut fabric = Fabric::start_on(carrier, &[RELAY], echo().await);
        fabric.cut_direct_path();
        let _silent = line(&fabric).await;
        bytes_pass(&fabric).await;
    }
}

pub(crate) async fn host() -> UdpSocket {
    UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap()
}

async fn received(socket: &UdpSocket) -> (Vec<u8>, SocketAddr) {
    let mut buffer = vec![0; 2048];
    let receiving = socket.recv_from(&mut buffer);
    let (length, from) = timeout(PATIENCE, receiving).await.unwrap().unwrap();
    (buffer[..length].to_vec(), from)
}

/// As behind a NAT that gives each destination a port of its own: the knock comes from elsewhere than
/// the line.
#[tokio::test(flavor = "multi_thread")]
async fn a_flow_leads_to_wherever_the_right_knock_came_from_and_a_wrong_one_changes_nothing() {
    let fabric = Fabric::start(&[RELAY], echo().await);
    let mut line = line(&fabric).await;
    let (asker, egress, stranger) = (host().await, host().await, host().await);
    let hop = hop(&fabric, ENTRY).await;
    let from_port = asker.local_addr().unwrap().port();
    let request =
        Request::SetUpFlow { target: EGRESS, lane: Lane::Bulk, from_port, hop_port: None };
    let asking = tokio::spawn(async move { (ask(&hop, &request).await, hop) });
    let (port, secret) = line.knock_wanted().await;
    let far = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let right = knock(&secret);
    let mut wrong = right;
    wrong[KNOCK_BYTES - 1] ^= 1;
    let longer = [&right[..], &[0]].concat();
    for nonsense in [&wrong[..], &longer, &right[..KNOCK_BYTES - 1], b"hello"] {
        stranger.send_to(nonsense, far).await.unwrap();
    }
    egress.send_to(&right, far).await.unwrap();
    // A knock that was repeated before it was heard, and one of somebody who saw it.
    egress.send_to(&right, far).await.unwrap();
    stranger.send_to(&right, far).await.unwrap();
    let (reply, _hop) = asking.await.unwrap();
    let Reply::FlowReady { port, .. } = reply else { panic!("{reply:?}") };
    assert_eq!(line.call().await, Call::Heard { port: far.port() });
    let near = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    asker.send_to(b"down", near).await.unwrap();
    assert_eq!(received(&egress).await, (b"down".to_vec(), far));
    stranger.send_to(b"spoofed", far).await.unwrap();
    egress.send_to(b"up", far).await.unwrap();
    assert_eq!(received(&asker).await, (b"up".to_vec(), near), "and nothing before it");
    let heard = stranger.into_std().unwrap().recv_from(&mut [0; 64]);
    assert!(heard.is_err(), "nobody answers a stranger");
}

#[tokio::test(flavor = "multi_thread")]
async fn so_many_calls_wait_for_one_node_and_further_flows_go_to_its_address() {
    let fabric = Fabric::start(&[RELAY], echo().await);
    let line = line(&fabric).await;
    let mut asking = JoinSet::new();
    // More than one connection may ask for at once.
    for hop in [hop(&fabric, ENTRY).await, hop(&fabric, ENTRY).await] {
        for _ in 0..MAX_CALLS_OF_ONE / 2 + 4 {
            let hop = hop.clone();
            asking.spawn(async move {
                let request = Request::SetUpFlow {
                    target: EGRESS,
                    lane: Lane::Bulk,
                    from_port: 9,
                    hop_port: None,
                };
                ask(&hop, &request).await
            });
        }
    }
    while let Some(reply) = asking.join_next().await {
        let reply = reply.unwrap();
        assert!(matches!(reply, Reply::FlowReady { .. }), "{reply:?}");
    }
    let (knocks, most) = line.called(&fabric).await;
    // A slow machine may call for more, one after another, and never for more at once.
    assert!(knocks >= MAX_CALLS_OF_ONE && most <= MAX_CALLS_OF_ONE, "{most} of {knocks}");
}

/// What waits at the relay leaves room on the connection for what keeps the flows there alive.
#[tokio::test(flavor = "multi_thread")]
async fn so_many_requests_of_one_node_wait_at_a_relay() {
    const MAX_WAITING: usize = 48;
    let fabric = Fabric::start(&[RELAY], echo().await);
    let line = line(&fabric).await;
    let entry = &fabric.nodes[&ENTRY].endpoint;
    let probes = (0..MAX_WAITING + 12).map(|_| entry.probe_through(RELAY, EGRESS));
    // Those that find no place in time are given up.
    join_all(probes).await;
    let (knocks, most) = line.called(&fabric).await;
    assert!(knocks > 0 && most <= MAX_WAITING, "{most} of {knocks}");
}

/// How many knocks were called for, and how many of these calls waited at once.
fn counted(mut rest: &[u8]) -> (usize, usize) {
    let (mut knocks, mut waiting, mut most) = (0, 0_usize, 0);
    while let Some((head, frames)) = rest.split_first_chunk() {
        let (body, frames) = frames.split_at(frame_length(*head).unwrap());
        match unframe(body).unwrap() {
            Call::Knock { .. } => (knocks, waiting) = (knocks + 1, waiting + 1),
            // It is over before its place is given back.
            Call::Heard { .. } => waiting -= 1,
            call @ Call::ConnectBack { .. } => panic!("{call:?}"),
        }
        most = most.max(waiting);
        rest = frames;
    }
    (knocks, most)
}

/// The calls fill what the node would have to read first.
#[tokio::test(flavor = "multi_thread")]
async fn a_line_that_takes_no_call_is_given_up() {
    let fabric = Fabric::start(&[RELAY], echo().await);
    let mut transport = quinn::TransportConfig::default();
    transport.max_idle_timeout(Some(LONG.try_into().unwrap()));
    transport.keep_alive_interval(Some(LONG / 20)).stream_receive_window(64_u32.into());
    let identity = Some(fabric.renewed_identity(EGRESS));
    let line = dial_with(&fabric, identity, RELAY, HOP_ALPN, transport).await;
    let (mut send, mut recv) = line.open_bi().await.unwrap();
    write(&mut send, &Request::KeepReachable {}).await;
    assert_eq!(timeout(PATIENCE, read::<Reply>(&mut recv)).await.unwrap(), Reply::Done);
    assert_eq!(reachable_nodes(&fabric, RELAY), 1);
    let hop = hop(&fabric, ENTRY).await;
    let request =
        Request::SetUpFlow { target: EGRESS, lane: Lane::Bulk, from_port: 9, hop_port: None };
    let replies = join_all((0..8).map(|_| ask(&hop, &request))).await;
    assert!(replies.iter().all(|reply| matches!(reply, Reply::FlowReady { .. })), "{replies:?}");
    until("the line is given up", || reachable_nodes(&fabric, RELAY) == 0).await;
    assert!(line.close_reason().is_none(), "the connection is there");
}

/// Each of the eight keeps its place for a few attempts, and then it is the turn of others.
#[tokio::test(flavor = "multi_thread")]
async fn relays_that_refuse_a_line_leave_their_turn_to_others() {
    let relays: Vec<NodeId> =
        (0xa0..).map(NodeId::from_u128).take(reachable::MAX_RELAYS + 1).collect();
    let mut fabric = Fabric::start_on(Carrier::Quic, &relays, echo().await);
    // They know of no role of their own; the egress does.
    for relay in &relays {
        let roles = fabric.plan.roles.insert(*relay, Vec::new()).unwrap();
        fabric.plan.version += 1;
        fabric.publish_to(*relay);
        fabric.plan.roles.insert(*relay, roles);
    }
    fabric.plan.egresses_dial_out = true;
    fabric.publish_to(EGRESS);
    let mut asked = BTreeSet::new();
    until_so("eight are asked", || {
        for relay in &relays {
            if fabric.nodes.get_mut(relay).unwrap().events.recv().now_or_never().is_some() {
                asked.insert(*relay);
            }
        }
        asked.len() == reachable::MAX_RELAYS
    })
    .await;
    let left = *relays.iter().find(|relay| !asked.contains(relay)).unwrap();
    fabric.publish_to(left);
    reachable_at(&fabric, left).await;
}
