//! Flows that lose their connection and go on over another.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use rap_mesh::{
    Carrier, MeshLimits,
    client::{Channel, ClientSession, SessionEnd, end_reason},
};
use rap_proto::{
    ChannelKind, Digest, Lane, NodeId, RefusalCode, SessionId, Signer as _,
    key::LocalKey,
    observation::{EndReason, Observation, Vantage},
    token::{AccessClaims, Proof},
    wire::{
        CHANNEL_ALPN, CLIENT_ALPN,
        client::{ChannelReply, Hello, HelloReply, JoinSession, OpenChannel},
        lane::{FlowReply, OpenFlow},
        lane_alpn,
        resume::{FlowId, Resume},
    },
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream, UdpSocket},
    time::timeout,
};

use crate::{
    carry::{PART, Transfer, proxy_on, until},
    fabric::{
        EGRESS, ENTRY, Fabric, PATIENCE, RELAY, RELAY_2, SESSION, client_key, key, open, own,
        start_seen, stream,
    },
    targets::{counter, echo, serve_on},
    tcp::{Raw, held},
    traffic::{exchange, pattern},
};

const OTHER_SESSION: SessionId = SessionId::from_u128(0x5f);

/// A way to the egress whose connections die after so many bytes from the entry; nobody gets
/// through while `open` is false.
async fn brittle(
    target: SocketAddr,
    lives_for: u64,
    open: rap_watch::Receiver<bool>,
) -> (SocketAddr, Arc<Connections>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    brittle_on(listener, target, lives_for, open)
}

/// The same at a socket that is there already.
pub(crate) fn brittle_on(
    listener: TcpListener,
    target: SocketAddr,
    lives_for: u64,
    open: rap_watch::Receiver<bool>,
) -> (SocketAddr, Arc<Connections>) {
    let connections = Arc::new(Connections::default());
    let counted = connections.clone();
    let address = serve_on(listener, move |mut entry| {
        let (mut open, counted) = (open.clone(), counted.clone());
        async move {
            if !*open.borrow_and_update() {
                return;
            }
            counted.came.fetch_add(1, Ordering::Relaxed);
            let mut egress = TcpStream::connect(target).await.unwrap();
            let ((from_entry, mut to_entry), (mut from_egress, mut to_egress)) =
                (entry.split(), egress.split());
            let mut mortal = from_entry.take(lives_for);
            tokio::select! {
                _ = tokio::io::copy(&mut mortal, &mut to_egress) => {}
                _ = tokio::io::copy(&mut from_egress, &mut to_entry) => {}
                _ = open.wait_for(|open| !open) => {}
            }
            drop((entry, egress));
            counted.gone.fetch_add(1, Ordering::Relaxed);
        }
    });
    (address, connections)
}

#[derive(Debug, Default)]
pub(crate) struct Connections {
    came: AtomicUsize,
    gone: AtomicUsize,
}

impl Connections {
    pub(crate) fn lost(&self) -> usize {
        self.gone.load(Ordering::Relaxed)
    }

    pub(crate) async fn all_gone(&self) {
        let left = || self.came.load(Ordering::Relaxed) - self.gone.load(Ordering::Relaxed);
        until("every connection is cut", || left() == 0).await;
    }
}

/// A cluster whose entry has only this way to its egress.
pub(crate) async fn over_brittle_connections(
    target: SocketAddr,
    lives_for: u64,
) -> (Fabric, rap_watch::Sender<bool>, Arc<Connections>) {
    let mut fabric = Fabric::start_on(Carrier::Tcp, &[], target);
    let (gate, open) = rap_watch::channel(true);
    let (address, count) = brittle(fabric.address(EGRESS), lives_for, open).await;
    fabric.plan.addresses.insert((ENTRY, EGRESS), address);
    fabric.publish();
    (fabric, gate, count)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transfer_on_tcp_goes_on_when_its_relay_dies() {
    let mut fabric = Fabric::start_on(Carrier::Tcp, &[RELAY], echo().await);
    let mortal = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    fabric.move_node(RELAY, 55, &mortal);
    fabric.cut_direct_path();
    let session = fabric.session().await;
    let mut transfer = Transfer::begin(&session).await;
    transfer.goes_on(PART).await;
    let roles = fabric.plan.roles[&RELAY].clone();
    fabric.plan.roles.insert(RELAY_2, roles);
    fabric.add_node(RELAY_2, 56);
    mortal.shutdown_background();
    transfer.goes_on(PART).await;
    let relay = fabric.nodes[&RELAY_2].endpoint.clone();
    assert_eq!(relay.status().relayed_flows, 1);
    transfer.ends_whole().await;
    until("the relay is left", || relay.status().relayed_flows == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_die_again_and_again_lose_and_double_nothing() {
    let (mut fabric, _gate, count) = over_brittle_connections(echo().await, 1_234_567).await;
    let session = fabric.session().await;
    let sent = pattern(12_000_000);
    let digest = Digest::of(&sent);
    let received = timeout(2 * PATIENCE, exchange(&session, Lane::Bulk, sent)).await.unwrap();
    assert_eq!((received.len(), Digest::of(&received)), (12_000_000, digest));
    assert!(count.came.load(Ordering::Relaxed) >= 10, "{count:?}");
    session.close().await;
    let started = fabric.observation(EGRESS).await;
    assert_eq!(started, start_seen(Vantage::Egress));
    let ended = Observation::SessionEnded {
        session: SESSION,
        reason: EndReason::ClientClosed,
        bytes_up: 12_000_000,
        bytes_down: 12_000_000,
    };
    assert_eq!(fabric.observation(ENTRY).await, ended, "one session, each byte counted once");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_end_that_was_said_before_the_loss_is_heard_after_it() {
    let (fabric, gate, connections) = over_brittle_connections(counter().await, u64::MAX).await;
    let session = fabric.session().await;
    let mut channel = open(&session, Lane::Bulk).await;
    channel.write_all(b"12345").await.unwrap();
    channel.flush().await.unwrap();
    gate.send_replace(false);
    connections.all_gone().await;
    channel.write_all(b"67").await.unwrap();
    channel.shutdown().await.unwrap();
    gate.send_replace(true);
    let mut said = String::new();
    timeout(PATIENCE, channel.read_to_string(&mut said)).await.unwrap().unwrap();
    assert_eq!(said, "7");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_was_ended_meanwhile_does_not_go_on_and_says_why() {
    let (mut fabric, gate, connections) = over_brittle_connections(echo().await, u64::MAX).await;
    let session = fabric.session().await;
    let mut channel = held(&session, Lane::Bulk).await;
    let started = fabric.observation(EGRESS).await;
    assert_eq!(started, start_seen(Vantage::Egress));
    gate.send_replace(false);
    connections.all_gone().await;
    fabric.plan.version += 1;
    fabric.plan.denied_sessions.insert(SESSION);
    fabric.publish_to(EGRESS);
    gate.send_replace(true);
    fabric.expect_refusal(EGRESS, RefusalCode::SessionTerminated, true).await;
    let cut = timeout(PATIENCE, channel.read_u8()).await.unwrap().unwrap_err();
    assert_eq!(end_reason(&cut), Some(EndReason::Terminated));
}

pub(crate) fn request(fabric: &Fabric, claims: &AccessClaims, resume: Resume) -> OpenFlow {
    let token = fabric.token(claims);
    let proof = Proof::make(&token, [0; 32], &client_key());
    let channel = ChannelKind::Stream;
    OpenFlow { token, proof, channel, traceparent: None, resume: Some(resume) }
}

pub(crate) async fn ask(
    fabric: &Fabric,
    from: NodeId,
    lane: Lane,
    request: &OpenFlow,
) -> (Raw, FlowReply) {
    let mut raw = Raw::dial(fabric, EGRESS, lane_alpn(lane), Some(from)).await;
    raw.say(request).await;
    let reply = raw.frame().await;
    (raw, reply)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flow_goes_on_only_for_the_node_and_the_session_that_opened_it() {
    let mut fabric = Fabric::start(&[], echo().await);
    let other_entry = NodeId::from_u128(0xe3);
    fabric.plan.roles.insert(other_entry, vec![own(rap_proto::NodeRole::EntryNode)]);
    fabric.add_node(other_entry, 60);
    let mut claims = fabric.claims();
    claims.entries.insert(other_entry);
    let flow = FlowId::from_random([7; 16]);
    let opening = request(&fabric, &claims, Resume::opening(flow));
    let (first, reply) = ask(&fabric, ENTRY, Lane::Bulk, &opening).await;
    assert_eq!(reply, FlowReply::Attached { received: 0 });
    let started = fabric.observation(EGRESS).await;
    assert_eq!(started, start_seen(Vantage::Egress));
    drop(first);
    let again = request(&fabric, &claims, Resume { flow, generation: 1, received: 0 });
    let mut other_session = claims.clone();
    other_session.session = OTHER_SESSION;
    let of_other = request(&fabric, &other_session, Resume { flow, generation: 1, received: 0 });
    for (from, lane, request) in [
        (other_entry, Lane::Bulk, &again),
        (ENTRY, Lane::Interactive, &again),
        (ENTRY, Lane::Bulk, &of_other),
    ] {
        let (_raw, reply) = ask(&fabric, from, lane, request).await;
        let FlowReply::Refused(refusal) = reply else { panic!("{from} {lane}: {reply:?}") };
        assert_eq!(refusal.code, RefusalCode::AccessDenied);
        fabric.expect_refusal(EGRESS, RefusalCode::AccessDenied, true).await;
    }
    let unknown = Resume { flow: FlowId::from_random([8; 16]), generation: 1, received: 0 };
    let (_raw, reply) = ask(&fabric, ENTRY, Lane::Bulk, &request(&fabric, &claims, unknown)).await;
    assert_eq!(reply, FlowReply::Gone);
    let (_second, reply) = ask(&fabric, ENTRY, Lane::Bulk, &again).await;
    assert_eq!(reply, FlowReply::Attached { received: 0 });
    let (_raw, reply) = ask(&fabric, ENTRY, Lane::Bulk, &again).await;
    assert_eq!(reply, FlowReply::Gone, "a generation counts once");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_egress_keeps_so_many_flows_and_opens_further_ones_as_before() {
    let limits = MeshLimits { lasting_flows: 1, ..MeshLimits::default() };
    let fabric = Fabric::start_with(limits, Some(Carrier::Tcp), &[], echo().await);
    let session = fabric.session().await;
    let _first = held(&session, Lane::Bulk).await;
    let opening = Resume::opening(FlowId::from_random([7; 16]));
    let opening = request(&fabric, &fabric.claims(), opening);
    let (_raw, reply) = ask(&fabric, ENTRY, Lane::Bulk, &opening).await;
    assert_eq!(reply, FlowReply::Opened);
    // An entry takes that for an answer.
    let sent = pattern(100_000);
    assert_eq!(exchange(&session, Lane::Bulk, sent.clone()).await, sent);
}

#[tokio::test(flavor = "multi_thread")]
async fn flows_that_may_keep_little_carry_as_much_and_go_on_as_well() {
    let limits = MeshLimits { kept_bytes: 0, ..MeshLimits::default() };
    let mut fabric = Fabric::start_with(limits, Some(Carrier::Tcp), &[], echo().await);
    let (_gate, is_open) = rap_watch::channel(true);
    let (address, connections) = brittle(fabric.address(EGRESS), 1_234_567, is_open).await;
    fabric.plan.addresses.insert((ENTRY, EGRESS), address);
    fabric.publish();
    let session = fabric.session().await;
    let sent = pattern(6_000_000);
    let received = exchange(&session, Lane::Bulk, sent.clone());
    assert!(timeout(2 * PATIENCE, received).await.unwrap() == sent);
    assert!(connections.came.load(Ordering::Relaxed) >= 5, "{connections:?}");
}

/// A channel that outlives its connection, and that has carried bytes.
pub(crate) async fn lasting(session: &ClientSession) -> Channel {
    lasting_on(session, Lane::Bulk).await
}

async fn lasting_on(session: &ClientSession, lane: Lane) -> Channel {
    let opening = session.open_lasting(stream(lane));
    let mut channel = timeout(PATIENCE, opening).await.unwrap().unwrap();
    assert_eq!(answer(&mut channel, 1).await.unwrap(), 1);
    channel
}

pub(crate) async fn answer(channel: &mut Channel, byte: u8) -> std::io::Result<u8> {
    let asking = async {
        channel.write_u8(byte).await?;
        channel.flush().await?;
        channel.read_u8().await
    };
    timeout(PATIENCE, asking).await.expect("it goes on or is over")
}

/// Whether what a client says last on QUIC reaches its entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Farewell {
    Arrives,
    IsLost,
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_goes_over_to_tcp_from_quic_that_is_in_doubt_and_its_channels_with_it() {
    goes_over_from_quic(Farewell::IsLost, 80).await;
    goes_over_from_quic(Farewell::Arrives, 81).await;
}

/// `host` is the last number of an address that no other test has.
async fn goes_over_from_quic(farewell: Farewell, host: u8) {
    let mut fabric = Fabric::start(&[], echo().await);
    let socket = UdpSocket::bind((Ipv4Addr::new(127, 0, 0, host), 0)).await.unwrap();
    let (address, network) = proxy_on(socket, fabric.address(ENTRY));
    let token = fabric.token(&fabric.claims());
    let session = fabric.connect_at(address, token, client_key()).await.unwrap();
    assert_eq!(session.carrier(), Carrier::Quic);
    let mut channels = Vec::new();
    for lane in [Lane::Interactive, Lane::Bulk] {
        channels.push(lasting_on(&session, lane).await);
    }
    assert_eq!(session.lanes().await, [Lane::Bulk]);
    if farewell == Farewell::IsLost {
        network.abort();
        for channel in &mut channels {
            channel.write_u8(2).await.unwrap();
            channel.flush().await.unwrap();
        }
        timeout(PATIENCE, session.in_doubt()).await.unwrap();
    }
    let (_open, is_open) = rap_watch::channel(true);
    let listener = TcpListener::bind(address).await.unwrap();
    brittle_on(listener, fabric.address(ENTRY), u64::MAX, is_open);
    let next = timeout(PATIENCE, session.again_on_tcp()).await.unwrap().unwrap();
    assert_eq!(next.carrier(), Carrier::Tcp);
    next.succeed(&session);
    session.leave_behind().await;
    for channel in &mut channels {
        if farewell == Farewell::IsLost {
            let heard = timeout(PATIENCE, channel.read_u8()).await.unwrap();
            assert_eq!(heard.unwrap(), 2, "once");
        }
        assert_eq!(answer(channel, 3).await.unwrap(), 3);
        channel.shutdown().await.unwrap();
    }
    next.close().await;
    let bytes = if farewell == Farewell::IsLost { 6 } else { 4 };
    let reason = EndReason::ClientClosed;
    let ended =
        Observation::SessionEnded { session: SESSION, reason, bytes_up: bytes, bytes_down: bytes };
    assert_eq!(fabric.observation(ENTRY).await, ended);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_keeps_so_many_channels_without_a_connection_and_ends_the_others() {
    let limits = MeshLimits { detached_flows: 1, ..MeshLimits::default() };
    let fabric = Fabric::start_with(limits, None, &[], echo().await);
    let (gate, is_open) = rap_watch::channel(true);
    let (address, connections) = brittle(fabric.address(ENTRY), u64::MAX, is_open).await;
    let token = fabric.token(&fabric.claims());
    let session = fabric.connect_at(address, token.clone(), client_key()).await.unwrap();
    let mut channels = [lasting(&session).await, lasting(&session).await];
    let entry = fabric.nodes[&ENTRY].endpoint.clone();
    assert_eq!(entry.status().tcp_flows, 2);
    gate.send_replace(false);
    connections.all_gone().await;
    until("one is given up", || entry.status().tcp_flows == 1).await;
    until("the session is absent", || entry.status().absent_sessions == 1).await;
    gate.send_replace(true);
    let again = fabric.connect_at(address, token, client_key()).await.unwrap();
    again.succeed(&session);
    let [first, second] = &mut channels;
    let answers = [answer(first, 2).await.ok(), answer(second, 2).await.ok()];
    assert!(matches!(answers, [Some(2), None] | [None, Some(2)]), "{answers:?}");
}

/// The first connection of a client that holds this key.
pub(crate) async fn introduced(fabric: &Fabric, session: SessionId, key: &LocalKey) -> Raw {
    let mut claims = fabric.claims();
    (claims.session, claims.client_key) = (session, key.public_key());
    let token = fabric.token(&claims);
    let mut raw = Raw::dial(fabric, ENTRY, CLIENT_ALPN, None).await;
    let proof = Proof::make(&token, raw.exported(), key);
    raw.say(&Hello { token, proof }).await;
    let reply: HelloReply = raw.frame().await;
    assert!(matches!(reply, HelloReply::Accepted { .. }), "{reply:?}");
    raw
}

/// Asks for a channel on a connection of its own.
pub(crate) async fn join(
    fabric: &Fabric,
    (session, key): (SessionId, &LocalKey),
    lane: Lane,
    resume: Resume,
) -> (Raw, ChannelReply) {
    let mut raw = Raw::dial(fabric, ENTRY, CHANNEL_ALPN, None).await;
    raw.say(&JoinSession::make(session, raw.exported(), key)).await;
    raw.say(&OpenChannel { resume: Some(resume), ..stream(lane) }).await;
    let reply = raw.frame().await;
    (raw, reply)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_channel_goes_on_only_for_the_key_and_the_session_that_opened_it() {
    let mut fabric = Fabric::start(&[], echo().await);
    let (own, other) = ((SESSION, &client_key()), (SESSION, &key(78)));
    let other_session = (OTHER_SESSION, &client_key());
    let (flow, unknown) = (FlowId::from_random([7; 16]), FlowId::from_random([8; 16]));
    let once = Resume { flow, generation: 1, received: 0 };
    let _first = introduced(&fabric, own.0, own.1).await;
    let (channel, reply) = join(&fabric, own, Lane::Bulk, Resume::opening(flow)).await;
    assert_eq!(reply, ChannelReply::Attached { received: 0 });
    drop(channel);
    let (_raw, reply) = join(&fabric, own, Lane::Bulk, Resume { flow: unknown, ..once }).await;
    assert_eq!(reply, ChannelReply::Gone);
    let (_second, reply) = join(&fabric, own, Lane::Bulk, once).await;
    assert_eq!(reply, ChannelReply::Attached { received: 0 });
    let (_raw, reply) = join(&fabric, own, Lane::Bulk, once).await;
    assert_eq!(reply, ChannelReply::Gone, "a generation counts once");
    let _elsewhere = introduced(&fabric, other_session.0, other_session.1).await;
    let twice = Resume { generation: 2, ..once };
    let mut expect_denied = async |who, lane| {
        let (_raw, reply) = join(&fabric, who, lane, twice).await;
        let ChannelReply::Refused(refusal) = reply else { panic!("{reply:?}") };
        assert_eq!(refusal.code, RefusalCode::AccessDenied);
        fabric.expect_refusal(ENTRY, RefusalCode::AccessDenied, true).await;
    };
    expect_denied(own, Lane::Interactive).await;
    expect_denied(other_session, Lane::Bulk).await;
    let _stranger = introduced(&fabric, other.0, other.1).await;
    let (_raw, reply) = join(&fabric, other, Lane::Bulk, twice).await;
    let ChannelReply::Refused(refusal) = reply else { panic!("{reply:?}") };
    assert_eq!(refusal.code, RefusalCode::AccessDenied);
    fabric.expect_refusal(ENTRY, RefusalCode::AccessDenied, true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_absent_session_that_is_ended_is_over_at_once_and_lets_nobody_return() {
    let mut fabric = Fabric::start(&[], echo().await);
    let (gate, is_open) = rap_watch::channel(true);
    let (address, connections) = brittle(fabric.address(ENTRY), u64::MAX, is_open).await;
    let token = fabric.token(&fabric.claims());
    let session = fabric.connect_at(address, token.clone(), client_key()).await.unwrap();
    let mut channel = lasting(&session).await;
    let entry = fabric.nodes[&ENTRY].endpoint.clone();
    gate.send_replace(false);
    connections.all_gone().await;
    until("the session is absent", || entry.status().absent_sessions == 1).await;
    fabric.plan.version += 1;
    fabric.plan.denied_sessions.insert(SESSION);
    fabric.publish_to(ENTRY);
    let ended = Observation::SessionEnded {
        session: SESSION,
        reason: EndReason::Terminated,
        bytes_up: 1,
        bytes_down: 1,
    };
    assert_eq!(fabric.observation(ENTRY).await, ended);
    assert_eq!((entry.status().entry_sessions, entry.status().absent_sessions), (0, 0));
    gate.send_replace(true);
    assert!(fabric.connect_at(address, token, client_key()).await.is_err());
    fabric.expect_refusal(ENTRY, RefusalCode::SessionTerminated, true).await;
    drop(session);
    assert!(answer(&mut channel, 2).await.is_err(), "nothing brings it back");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_is_closed_without_a_word_ends_no_channel_that_waits() {
    let fabric = Fabric::start(&[], echo().await);
    let (gate, is_open) = rap_watch::channel(true);
    let (address, connections) = brittle(fabric.address(ENTRY), u64::MAX, is_open).await;
    let token = fabric.token(&fabric.claims());
    let session = fabric.connect_at(address, token.clone(), client_key()).await.unwrap();
    let mut channel = lasting(&session).await;
    let entry = fabric.nodes[&ENTRY].endpoint.clone();
    gate.send_replace(false);
    connections.all_gone().await;
    until("the session is absent", || entry.status().absent_sessions == 1).await;
    gate.send_replace(true);
    // On QUIC an attempt that is given up is a close in good order.
    let attempt = fabric.session_on(Carrier::Quic).await;
    assert_eq!(entry.status().absent_sessions, 0);
    drop(attempt);
    until("it is absent once more", || entry.status().absent_sessions == 1).await;
    let again = fabric.connect_at(address, token, client_key()).await.unwrap();
    again.succeed(&session);
    assert_eq!(answer(&mut channel, 2).await.unwrap(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_channel_whose_session_nobody_comes_back_to_is_over_at_once() {
    let fabric = Fabric::start(&[], echo().await);
    let (gate, is_open) = rap_watch::channel(true);
    let (address, connections) = brittle(fabric.address(ENTRY), u64::MAX, is_open).await;
    let token = fabric.token(&fabric.claims());
    let session = fabric.connect_at(address, token, client_key()).await.unwrap();
    let mut channel = lasting(&session).await;
    let mut waiting = session.waiting_channels();
    gate.send_replace(false);
    connections.all_gone().await;
    assert_eq!(timeout(PATIENCE, session.ended()).await.unwrap(), SessionEnd::EntryLost);
    session.forsake();
    assert!(answer(&mut channel, 2).await.is_err());
    let none = waiting.wait_for(|waiting| *waiting == 0);
    assert!(timeout(PATIENCE, none).await.unwrap().is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_written_before_a_client_that_came_back_leaves_arrives() {
    let mut fabric = Fabric::start(&[], echo().await);
    let (gate, is_open) = rap_watch::channel(true);
    let (address, connections) = brittle(fabric.address(ENTRY), u64::MAX, is_open).await;
    let token = fabric.token(&fabric.claims());
    let session = fabric.connect_at(address, token.clone(), client_key()).await.unwrap();
    let (mut writer, mut reader) = lasting(&session).await.split();
    gate.send_replace(false);
    connections.all_gone().await;
    gate.send_replace(true);
    let again = fabric.connect_at(address, token, client_key()).await.unwrap();
    again.succeed(&session);
    let sent = pattern(100_000);
    writer.write_all(&sent).await.unwrap();
    writer.shutdown().await.unwrap();
    let reading = async {
        let mut received = Vec::new();
        reader.read_to_end(&mut received).await.map(|_| received)
    };
    let (received, ()) =
        timeout(PATIENCE, async { tokio::join!(reading, again.close()) }).await.unwrap();
    assert!(received.is_ok_and(|received| received == sent), "it was cut");
    let ended = Observation::SessionEnded {
        session: SESSION,
        reason: EndReason::ClientClosed,
        bytes_up: 100_001,
        bytes_down: 100_001,
    };
    assert_eq!(fabric.observation(ENTRY).await, ended);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_lost_its_connection_comes_back_to_its_session_and_its_channels() {
    let mut fabric = Fabric::start(&[], echo().await);
    let (gate, open) = rap_watch::channel(true);
    let (address, connections) = brittle(fabric.address(ENTRY), u64::MAX, open).await;
    let token = fabric.token(&fabric.claims());
    let session = fabric.connect_at(address, token.clone(), client_key()).await.unwrap();
    let opening = session.open_lasting(stream(Lane::Bulk));
    let mut channel = timeout(PATIENCE, opening).await.unwrap().unwrap();
    channel.write_all(b"before").await.unwrap();
    channel.flush().await.unwrap();
    let mut heard = [0; 6];
    timeout(PATIENCE, channel.read_exact(&mut heard)).await.unwrap().unwrap();
    assert_eq!(&heard, b"before");
    let entry = fabric.nodes[&ENTRY].endpoint.clone();
    gate.send_replace(false);
    connections.all_gone().await;
    assert_eq!(timeout(PATIENCE, session.ended()).await.unwrap(), SessionEnd::EntryLost);
    until("the session is absent", || entry.status().absent_sessions == 1).await;
    gate.send_replace(true);
    let again = fabric.connect_at(address, token, client_key()).await.unwrap();
    again.succeed(&session);
    let after = async {
        channel.write_all(b"after").await.unwrap();
        channel.shutdown().await.unwrap();
        let mut rest = Vec::new();
        channel.read_to_end(&mut rest).await.unwrap();
        rest
    };
    assert_eq!(timeout(PATIENCE, after).await.unwrap(), b"after");
    assert_eq!(entry.status().absent_sessions, 0);
    again.close().await;
    let started = fabric.observation(EGRESS).await;
    assert_eq!(started, start_seen(Vantage::Egress));
    let ended = Observation::SessionEnded {
        session: SESSION,
        reason: EndReason::ClientClosed,
        bytes_up: 11,
        bytes_down: 11,
    };
    assert_eq!(fabric.observation(ENTRY).await, ended, "one session, each byte counted once");
}
