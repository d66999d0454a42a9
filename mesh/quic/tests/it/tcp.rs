//! The `tcp` carrier: flows, clients and relayed streams on TLS connections of their own.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use rap_mesh::{
    Carrier, ControllerCounts,
    client::{ClientSession, SessionEnd, end_reason},
};
use rap_mesh_core::{
    carrier::{self, Part, Parts},
    ended::Close,
};
use rap_pki::{node_server_name, tls};
use rap_proto::{
    Digest, Lane, NodeId, RefusalCode, SessionId,
    key::LocalKey,
    observation::{EndReason, Observation, Vantage},
    wire::{
        self, CHANNEL_ALPN, HOP_ALPN, PREAMBLE,
        client::{ChannelReply, JoinSession},
        hop, lane_alpn,
    },
};
use rustls_pki_types::ServerName;
use serde::{Serialize, de::DeserializeOwned};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::{
    carry::until,
    fabric::{
        EGRESS, ENTRY, Fabric, PATIENCE, RELAY, SESSION, client_key, open, start_seen, stream,
    },
    targets::{closer, counter, echo, serve},
    traffic::{exchange, pattern},
};

fn tcp_flows(fabric: &Fabric) -> usize {
    fabric.nodes[&ENTRY].endpoint.status().tcp_flows
}

/// Opens a channel that stays open, and shows that it carries bytes.
pub(crate) async fn held(session: &ClientSession, lane: Lane) -> rap_mesh::client::Channel {
    let mut channel = open(session, lane).await;
    channel.write_all(b"held").await.unwrap();
    channel.flush().await.unwrap();
    let mut back = [0; 4];
    timeout(PATIENCE, channel.read_exact(&mut back)).await.unwrap().unwrap();
    assert_eq!(&back, b"held");
    channel
}

#[tokio::test(flavor = "multi_thread")]
async fn bulk_goes_on_tcp_and_interactive_on_quic() {
    let fabric = Fabric::start(&[], echo().await);
    let session = fabric.session().await;
    assert_eq!(session.carrier(), Carrier::Quic);
    let bulk = held(&session, Lane::Bulk).await;
    let status = fabric.nodes[&ENTRY].endpoint.status();
    assert_eq!((status.tcp_flows, status.lanes.len()), (1, 0));
    let _interactive = held(&session, Lane::Interactive).await;
    let status = fabric.nodes[&ENTRY].endpoint.status();
    assert_eq!((status.tcp_flows, status.lanes.len()), (1, 1));
    drop(bulk);
    let over = async {
        while tcp_flows(&fabric) > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, over).await.expect("the flow is given back with its channel");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_says_whether_bulk_can_keep_the_queue_of_a_slow_path_short() {
    let fabric = Fabric::start(&[], echo().await);
    let status = fabric.nodes[&ENTRY].endpoint.status();
    assert!(status.bbr.is_some(), "this kernel says it");
    assert_eq!(status.controllers, ControllerCounts::default());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_without_udp_has_the_same_session_on_tcp() {
    let mut fabric = Fabric::start(&[], echo().await);
    let session = fabric.session_on(Carrier::Tcp).await;
    assert_eq!(session.carrier(), Carrier::Tcp);
    assert_eq!(exchange(&session, Lane::Interactive, b"hello".to_vec()).await, b"hello");
    assert_eq!(exchange(&session, Lane::Bulk, b"world!".to_vec()).await, b"world!");
    let started = fabric.observation(EGRESS).await;
    assert_eq!(started, start_seen(Vantage::Egress));
    let mut later = fabric.claims();
    later.expires_at = later.expires_at + Duration::from_secs(1);
    let until = session.refresh(fabric.token(&later)).await.unwrap();
    assert_eq!(until, later.expires_at);
    session.close().await;
    let reason = EndReason::ClientClosed;
    let ended =
        Observation::SessionEnded { session: SESSION, reason, bytes_up: 11, bytes_down: 11 };
    assert_eq!(fabric.observation(ENTRY).await, ended);
    assert_eq!(session.ended().await, SessionEnd::Ended(EndReason::ClientClosed));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_finds_out_by_itself_that_udp_does_not_get_through() {
    let mut fabric = Fabric::start(&[], echo().await);
    let claims = fabric.claims();
    let entry = fabric.address(ENTRY);
    let only_tcp = tcp_only(entry).await;
    let session = fabric.connect_at(only_tcp, fabric.token(&claims), client_key()).await.unwrap();
    assert_eq!(session.carrier(), Carrier::Tcp);
    let sent = pattern(1_000_000);
    assert_eq!(exchange(&session, Lane::Interactive, sent.clone()).await, sent);
    session.close().await;
    drop(fabric.observation(ENTRY).await);
}

/// A port that passes TCP on to `target`, and answers no datagram.
pub(crate) async fn tcp_only(target: SocketAddr) -> SocketAddr {
    serve(move |stream| pass_on(stream, target)).await
}

pub(crate) async fn pass_on(mut stream: TcpStream, target: SocketAddr) {
    if let Ok(mut target) = TcpStream::connect(target).await {
        let _ = tokio::io::copy_bidirectional(&mut stream, &mut target).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sixty_four_mebibytes_pass_on_tcp_direct_and_through_a_relay() {
    for relayed in [false, true] {
        let mut fabric = Fabric::start_on(Carrier::Tcp, &[RELAY], echo().await);
        if relayed {
            fabric.cut_direct_path();
        }
        let session = fabric.session().await;
        let held = held(&session, Lane::Interactive).await;
        let relay = fabric.nodes[&RELAY].endpoint.status();
        assert_eq!(relay.relayed_flows, usize::from(relayed));
        let sent = pattern(64 * 1024 * 1024);
        let digest = Digest::of(&sent);
        let received = exchange(&session, Lane::Bulk, sent).await;
        assert_eq!(Digest::of(&received), digest, "relayed: {relayed}");
        assert_eq!(tcp_flows(&fabric), 1, "the held one");
        drop(held);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_direction_closes_and_the_other_goes_on() {
    let fabric = Fabric::start_on(Carrier::Tcp, &[], counter().await);
    let session = fabric.session_on(Carrier::Tcp).await;
    for length in [0, 1, carrier::MAX_DATA, carrier::MAX_DATA + 1, 1_000_000] {
        let answer = exchange(&session, Lane::Bulk, vec![7; length]).await;
        assert_eq!(answer, length.to_string().as_bytes());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_carriers_of_a_client_and_of_its_flows_are_independent() {
    for (client, lanes) in [(Carrier::Quic, Carrier::Tcp), (Carrier::Tcp, Carrier::Quic)] {
        let fabric = Fabric::start_on(lanes, &[], echo().await);
        let session = fabric.session_on(client).await;
        for lane in Lane::ALL {
            let sent = pattern(3_000_000);
            assert_eq!(exchange(&session, *lane, sent.clone()).await, sent, "{client} {lanes}");
        }
        let lanes_open = fabric.nodes[&ENTRY].endpoint.status().lanes.len();
        assert_eq!(lanes_open, if lanes == Carrier::Quic { 3 } else { 0 });
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_ends_a_flow_is_told_on_tcp_as_well() {
    let mut fabric = Fabric::start_on(Carrier::Tcp, &[], echo().await);
    let worker = fabric.dialer.use_worker();
    let session = fabric.session_on(Carrier::Tcp).await;
    let mut channel = held(&session, Lane::Bulk).await;
    worker.die();
    let cut = timeout(PATIENCE, channel.read_u8()).await.unwrap().unwrap_err();
    assert_eq!(end_reason(&cut), Some(EndReason::WorkerDied));
    fabric.dialer.use_worker();
    let mut channel = held(&session, Lane::Bulk).await;
    fabric.plan.version += 1;
    fabric.plan.denied_sessions.insert(SESSION);
    fabric.publish_to(ENTRY);
    let cut = timeout(PATIENCE, channel.read_u8()).await.unwrap().unwrap_err();
    assert_eq!(end_reason(&cut), Some(EndReason::Terminated));
    let end = timeout(PATIENCE, session.ended()).await.unwrap();
    assert_eq!(end, SessionEnd::Ended(EndReason::Terminated));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_does_not_read_holds_the_sender_back_and_still_learns_why_it_ends() {
    let source = serve(|mut stream| async move {
        let part = vec![1; 1 << 20];
        while stream.write_all(&part).await.is_ok() {}
    })
    .await;
    let mut fabric = Fabric::start_on(Carrier::Tcp, &[], source);
    let session = fabric.session_on(Carrier::Tcp).await;
    let mut channel = open(&session, Lane::Bulk).await;
    assert_eq!(channel.read_u8().await.unwrap(), 1);
    // Every buffer on the way fills, then nothing moves any more.
    fabric.plan.version += 1;
    fabric.plan.denied_sessions.insert(SESSION);
    fabric.publish_to(ENTRY);
    let end = timeout(PATIENCE, session.ended()).await.unwrap();
    assert_eq!(end, SessionEnd::Ended(EndReason::Terminated));
    let mut rest = Vec::new();
    let cut = timeout(PATIENCE, channel.read_to_end(&mut rest)).await.unwrap().unwrap_err();
    assert_eq!(end_reason(&cut), Some(EndReason::Terminated), "after {} bytes", rest.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_closes_and_an_entry_that_dies_are_told_apart() {
    let mut fabric = Fabric::start_on(Carrier::Tcp, &[], closer().await);
    let session = fabric.session_on(Carrier::Tcp).await;
    let mut said = Vec::new();
    open(&session, Lane::Bulk).await.read_to_end(&mut said).await.unwrap();
    assert_eq!(said, b"bye");
    let doomed = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    fabric.move_node(ENTRY, 56, &doomed);
    let session = fabric.session_on(Carrier::Tcp).await;
    doomed.shutdown_background();
    assert_eq!(timeout(PATIENCE, session.ended()).await.unwrap(), SessionEnd::EntryLost);
}

/// One end of a TLS connection, by hand.
pub(crate) struct Raw {
    tls: TlsStream<TcpStream>,
    parts: Parts,
    input: Vec<u8>,
}

impl Raw {
    pub(crate) async fn dial(
        fabric: &Fabric,
        node: NodeId,
        alpn: &[u8],
        identity: Option<NodeId>,
    ) -> Self {
        let stream = TcpStream::connect(fabric.address(node)).await.unwrap();
        Self::secure(fabric, stream, node, alpn, identity).await.unwrap()
    }

    pub(crate) async fn secure(
        fabric: &Fabric,
        stream: TcpStream,
        node: NodeId,
        alpn: &[u8],
        identity: Option<NodeId>,
    ) -> std::io::Result<Self> {
        let roots = tls::roots(&[fabric.authority()]).unwrap();
        let identity = identity.map(|node| fabric.renewed_identity(node));
        let config = tls::client(roots, identity.as_ref(), &[alpn]).unwrap();
        let name = ServerName::try_from(node_server_name(node)).unwrap();
        let tls = TlsConnector::from(std::sync::Arc::new(config)).connect(name, stream).await?;
        Ok(Self { tls, parts: Parts::default().lasting(), input: Vec::new() })
    }

    pub(crate) fn exported(&self) -> [u8; 32] {
        let tls = self.tls.get_ref().1;
        let label = rap_proto::token::EXPORTER_LABEL;
        tls.export_keying_material([0; 32], label, Some(b"")).unwrap()
    }

    pub(crate) async fn say<T: Serialize>(&mut self, message: &T) {
        self.send(&wire::frame(message)).await;
    }

    pub(crate) async fn send(&mut self, data: &[u8]) {
        let head = carrier::data_head(data.len());
        self.tls.write_all(&[&head[..], data].concat()).await.unwrap();
        self.tls.flush().await.unwrap();
    }

    /// The data up to the end of the direction, and what ended it.
    pub(crate) async fn hear(&mut self) -> (Vec<u8>, Option<Part>) {
        let mut data = Vec::new();
        loop {
            while let Some((skip, part)) = self.parts.next(&self.input).unwrap() {
                self.input.drain(..skip);
                match part {
                    Part::Data(length) => data.extend(self.input.drain(..length)),
                    part => return (data, Some(part)),
                }
            }
            let mut buffer = [0; 4096];
            match timeout(PATIENCE, self.tls.read(&mut buffer)).await.unwrap() {
                Ok(length) if length > 0 => self.input.extend_from_slice(&buffer[..length]),
                _ => return (data, None),
            }
        }
    }

    /// One frame; the connection stays.
    pub(crate) async fn frame<T: DeserializeOwned>(&mut self) -> T {
        let mut data = Vec::new();
        loop {
            while let Some((skip, part)) = self.parts.next(&self.input).unwrap() {
                self.input.drain(..skip);
                // What follows a refusal says only that nothing follows.
                if let Part::Data(length) = part {
                    data.extend(self.input.drain(..length));
                }
            }
            if let Some(head) = data.first_chunk::<4>()
                && data.len() >= 4 + wire::frame_length(*head).unwrap()
            {
                return wire::unframe(&data[4..]).unwrap();
            }
            let mut buffer = [0; 4096];
            let length = timeout(PATIENCE, self.tls.read(&mut buffer)).await.unwrap().unwrap();
            assert!(length > 0, "the connection ended before the frame");
            self.input.extend_from_slice(&buffer[..length]);
        }
    }

    pub(crate) async fn reply<T: DeserializeOwned>(&mut self) -> T {
        let (data, _) = self.hear().await;
        wire::unframe(&data[4..]).unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_joins_a_session_without_its_key() {
    let mut fabric = Fabric::start(&[], echo().await);
    let _session = fabric.session().await;
    let stranger = LocalKey::from_random(&[3; 32]).unwrap();
    let unknown = SessionId::from_u128(0xbad);
    let cases: &[(SessionId, &LocalKey, RefusalCode)] = &[
        (SESSION, &stranger, RefusalCode::TokenWrongKey),
        (unknown, &client_key(), RefusalCode::SessionTerminated),
    ];
    for (session, key, expected) in cases {
        let mut raw = Raw::dial(&fabric, ENTRY, CHANNEL_ALPN, None).await;
        let join = JoinSession::make(*session, raw.exported(), *key);
        raw.say(&join).await;
        match raw.reply().await {
            ChannelReply::Refused(refusal) => assert_eq!(refusal.code, *expected),
            reply => panic!("a stranger joined: {reply:?}"),
        }
        fabric.expect_refusal(ENTRY, *expected, false).await;
    }
    // Made for another connection, as whoever relays it would have it.
    let mut raw = Raw::dial(&fabric, ENTRY, CHANNEL_ALPN, None).await;
    raw.say(&JoinSession::make(SESSION, [9; 32], &client_key())).await;
    assert!(matches!(
        raw.reply().await,
        ChannelReply::Refused(refusal) if refusal.code == RefusalCode::TokenWrongKey
    ));
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_shows_no_node_certificate_gets_no_flow_and_no_stream() {
    let mut fabric = Fabric::start(&[RELAY], echo().await);
    for (node, alpn) in [(EGRESS, lane_alpn(Lane::Bulk)), (RELAY, HOP_ALPN)] {
        let mut raw = Raw::dial(&fabric, node, alpn, None).await;
        let (_, end) = raw.hear().await;
        let refused = Close::Refused(RefusalCode::PeerNotTrusted);
        assert_eq!(end, Some(Part::Reset(refused.code())));
        fabric.expect_refusal(node, RefusalCode::PeerNotTrusted, false).await;
    }
}

pub(crate) async fn ticket(fabric: &Fabric) -> [u8; 32] {
    let mut hop = Raw::dial(fabric, RELAY, HOP_ALPN, Some(ENTRY)).await;
    hop.say(&hop::Request::SetUpStream { target: EGRESS, lane: Lane::Bulk }).await;
    match hop.reply().await {
        hop::Reply::StreamReady { ticket } => ticket,
        other => panic!("expected a ticket, got {other:?}"),
    }
}

pub(crate) async fn bring(fabric: &Fabric, ticket: &[u8; 32]) -> TcpStream {
    let mut stream = TcpStream::connect(fabric.address(RELAY)).await.unwrap();
    stream.write_all(&[&PREAMBLE[..], ticket].concat()).await.unwrap();
    stream
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ticket_counts_once_and_a_wrong_one_never() {
    let mut fabric = Fabric::start(&[RELAY], echo().await);
    let good = ticket(&fabric).await;
    let stream = bring(&fabric, &good).await;
    let alpn = lane_alpn(Lane::Bulk);
    let first = Raw::secure(&fabric, stream, EGRESS, alpn, Some(ENTRY)).await;
    assert!(first.is_ok(), "the egress is at the other end");
    assert_eq!(fabric.nodes[&RELAY].endpoint.status().relayed_flows, 1);
    for wrong in [good, [7; 32]] {
        let mut stream = bring(&fabric, &wrong).await;
        let mut rest = Vec::new();
        let read = timeout(PATIENCE, stream.read_to_end(&mut rest)).await.unwrap();
        assert!(read.is_err() || rest.is_empty(), "closed without a word");
        fabric.expect_refusal(RELAY, RefusalCode::Malformed, false).await;
    }
    drop(first);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ticket_that_nobody_brings_gives_its_place_back() {
    let mut fabric = Fabric::start(&[RELAY], echo().await);
    let late = ticket(&fabric).await;
    let ttl = Duration::from_millis(hop::TICKET_TTL_MS);
    // The relay looks once a second.
    tokio::time::sleep(ttl + Duration::from_secs(2)).await;
    let mut stream = bring(&fabric, &late).await;
    let mut rest = Vec::new();
    let read = timeout(PATIENCE, stream.read_to_end(&mut rest)).await.unwrap();
    assert!(read.is_err() || rest.is_empty());
    fabric.expect_refusal(RELAY, RefusalCode::Malformed, false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_loses_its_role_cuts_the_streams_it_carries() {
    let mut fabric = Fabric::start_on(Carrier::Tcp, &[RELAY], echo().await);
    fabric.cut_direct_path();
    let session = fabric.session().await;
    let mut channel = held(&session, Lane::Bulk).await;
    let roles = fabric.plan.roles.insert(RELAY, Vec::new()).unwrap();
    fabric.plan.version += 1;
    fabric.publish_to(RELAY);
    let relay = fabric.nodes[&RELAY].endpoint.clone();
    until("the stream is cut", || relay.status().relayed_flows == 0).await;
    let refused = session.open(stream(Lane::Bulk)).await;
    assert!(refused.is_err(), "there is no other way");
    // What ran waits for one, and goes on when there is one again.
    fabric.plan.roles.insert(RELAY, roles);
    fabric.plan.version += 1;
    fabric.publish_to(RELAY);
    channel.write_u8(7).await.unwrap();
    channel.flush().await.unwrap();
    assert_eq!(timeout(PATIENCE, channel.read_u8()).await.unwrap().unwrap(), 7);
}

/// Passes bytes on to `egress` and back, and keeps a copy of all of them.
pub(crate) async fn tap(egress: SocketAddr) -> (SocketAddr, Arc<Mutex<Vec<u8>>>) {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let copy = seen.clone();
    let tapped = serve(move |mut stream| {
        let copy = copy.clone();
        async move {
            let mut target = TcpStream::connect(egress).await.unwrap();
            let (mut up, mut down) = (vec![0; 65_536], vec![0; 65_536]);
            loop {
                let (length, bytes, to) = tokio::select! {
                    Ok(length) = stream.read(&mut up) => (length, &up, &mut target),
                    Ok(length) = target.read(&mut down) => (length, &down, &mut stream),
                    else => return,
                };
                copy.lock().unwrap().extend_from_slice(&bytes[..length]);
                if length == 0 || to.write_all(&bytes[..length]).await.is_err() {
                    return;
                }
            }
        }
    })
    .await;
    (tapped, seen)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_relay_passes_on_holds_no_plaintext() {
    let mut fabric = Fabric::start_on(Carrier::Tcp, &[RELAY], echo().await);
    let (tapped, seen) = tap(fabric.address(EGRESS)).await;
    fabric.cut_direct_path();
    fabric.plan.addresses.insert((RELAY, EGRESS), tapped);
    fabric.publish();
    let session = fabric.session().await;
    let mut channel = open(&session, Lane::Bulk).await;
    let secret = b"a secret that only the two ends may read, ".repeat(200);
    channel.write_all(&secret).await.unwrap();
    channel.flush().await.unwrap();
    let mut back = vec![0; secret.len()];
    timeout(PATIENCE, channel.read_exact(&mut back)).await.unwrap().unwrap();
    assert_eq!(back, secret);
    let seen = seen.lock().unwrap();
    assert!(seen.len() > 2 * secret.len(), "all of it went through the relay, both ways");
    let needle = &secret[..16];
    assert!(!seen.windows(needle.len()).any(|window| window == needle));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_takes_no_more_tcp_connections_than_its_limit() {
    let limits = rap_mesh::MeshLimits { connections: 3, ..rap_mesh::MeshLimits::default() };
    let fabric = Fabric::start_within(limits, &[], echo().await);
    let mut open = Vec::new();
    for _ in 0..3 {
        open.push(Raw::dial(&fabric, ENTRY, CHANNEL_ALPN, None).await);
    }
    let mut beyond = TcpStream::connect(fabric.address(ENTRY)).await.unwrap();
    let closed = timeout(PATIENCE, beyond.read(&mut [0; 1])).await.unwrap();
    assert!(matches!(closed, Ok(0) | Err(_)), "closed at once");
}
