//! Limits that a client, an entry or a stranger can reach.

use std::{net::Ipv4Addr, sync::Arc};

use futures_util::FutureExt as _;
use quinn::{Endpoint, crypto::rustls::QuicClientConfig};
use rap_mesh::{
    Limit, MAX_LANE_STREAMS, MeshLimits,
    client::{Channel, ClientSession, ConnectError},
};
use rap_mesh_core::sessions::MAX_CONNECTIONS_PER_SESSION;
use rap_pki::{node_server_name, tls};
use rap_proto::{
    ChannelKind, Lane, RefusalCode,
    wire::{CLIENT_ALPN, lane::FlowReply, lane_alpn},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::UdpSocket,
    sync::Notify,
    task::AbortHandle,
    time::timeout,
};

use crate::{
    fabric::{EGRESS, ENTRY, Fabric, PATIENCE, open, open_refused, stream},
    raw::{LONG, dial_as, read},
    targets::echo,
};

#[tokio::test]
async fn open_channels_of_a_session() {
    let mut fabric = Fabric::start(&[], echo().await);
    let mut claims = fabric.claims();
    claims.channels.get_mut(&ChannelKind::Stream).unwrap().max_open = 2;
    let session = fabric.connect(&claims).await.unwrap();
    let _first = open(&session, Lane::Interactive).await;
    let second = open(&session, Lane::Bulk).await;
    assert_eq!(open_refused(&session).await.code, RefusalCode::LimitReached);
    fabric.expect_refusal(ENTRY, RefusalCode::LimitReached, true).await;
    let counted = fabric.nodes[&ENTRY].endpoint.status().counted;
    assert_eq!(counted.refused, [(RefusalCode::LimitReached, 1)].into());
    drop(second);
    opened_at_last(&session, Lane::Bulk).await;
}

/// Opens a channel once the end of another has gone through the fabric and back.
async fn opened_at_last(session: &ClientSession, lane: Lane) -> Channel {
    let opening = async {
        loop {
            if let Ok(channel) = session.open(stream(lane)).await {
                return channel;
            }
        }
    };
    timeout(PATIENCE, opening).await.expect("the place becomes free")
}

pub(crate) async fn echoes(channel: &mut Channel) {
    channel.write_all(b"ping").await.unwrap();
    let mut answer = [0; 4];
    timeout(PATIENCE, channel.read_exact(&mut answer)).await.unwrap().unwrap();
    assert_eq!(&answer, b"ping");
}

#[tokio::test]
async fn connections_of_a_session() {
    let mut fabric = Fabric::start(&[], echo().await);
    let mut sessions = Vec::new();
    for _ in 0..MAX_CONNECTIONS_PER_SESSION {
        sessions.push(fabric.session().await);
    }
    match fabric.connect(&fabric.claims()).await {
        Err(ConnectError::Refused(refusal)) => assert_eq!(refusal.code, RefusalCode::LimitReached),
        other => panic!("expected a refusal, got {other:?}"),
    }
    fabric.expect_refusal(ENTRY, RefusalCode::LimitReached, true).await;
}

#[tokio::test]
async fn a_full_lane_refuses_flows_at_once_and_other_lanes_go_on() {
    let limits = MeshLimits { lane_streams: 2, ..MeshLimits::default() };
    let mut fabric = Fabric::start_within(limits, &[], echo().await);
    let session = fabric.session().await;
    let mut first = open(&session, Lane::Interactive).await;
    let second = open(&session, Lane::Interactive).await;
    assert_eq!(open_refused(&session).await.code, RefusalCode::LimitReached);
    fabric.expect_refusal(ENTRY, RefusalCode::LimitReached, true).await;
    echoes(&mut first).await;
    echoes(&mut open(&session, Lane::Bulk).await).await;
    drop(second);
    echoes(&mut opened_at_last(&session, Lane::Interactive).await).await;
    assert_eq!(fabric.nodes[&ENTRY].endpoint.status().lanes.len(), 2, "no lane was given up");
}

#[tokio::test]
async fn an_egress_refuses_flows_beyond_its_limit_whatever_the_entry_believes() {
    let limits = MeshLimits { lane_streams: 2, ..MeshLimits::default() };
    let fabric = Fabric::start_within(limits, &[], echo().await);
    let entry = Some(fabric.renewed_identity(ENTRY));
    let lane = dial_as(&fabric, entry, EGRESS, lane_alpn(Lane::Bulk), LONG).await;
    let mut unfinished = Vec::new();
    for _ in 0..2 {
        let (mut send, recv) = lane.open_bi().await.unwrap();
        send.write_all(&[0]).await.unwrap();
        unfinished.push((send, recv));
    }
    let (mut send, mut recv) = lane.open_bi().await.unwrap();
    send.write_all(&[0]).await.unwrap();
    let reply: FlowReply = timeout(PATIENCE, read(&mut recv)).await.unwrap();
    let FlowReply::Refused(refusal) = reply else { panic!("{reply:?}") };
    assert_eq!(refusal.code, RefusalCode::LimitReached);
    assert!(lane.close_reason().is_none(), "the lane goes on");
}

#[tokio::test]
async fn a_lane_lets_so_many_flows_begin_and_no_more() {
    let fabric = Fabric::start(&[], echo().await);
    let entry = Some(fabric.renewed_identity(ENTRY));
    let lane = dial_as(&fabric, entry, EGRESS, lane_alpn(Lane::Bulk), LONG).await;
    let mut flows = Vec::new();
    for _ in 0..MAX_LANE_STREAMS {
        flows.push(timeout(PATIENCE, lane.open_bi()).await.expect("the limit is higher").unwrap());
    }
    assert!(lane.open_bi().now_or_never().is_none(), "one more than {MAX_LANE_STREAMS} began");
}

#[tokio::test]
async fn connections_beyond_the_limit_are_refused_and_the_others_go_on() {
    let limits = MeshLimits { connections: 2, ..MeshLimits::default() };
    let fabric = Fabric::start_within(limits, &[], echo().await);
    let (first, second) = (fabric.session().await, fabric.session().await);
    unreachable(fabric.connect(&fabric.claims()).await);
    // The lane that the entry dials for them takes none of its places.
    echoes(&mut open(&first, Lane::Bulk).await).await;
    echoes(&mut open(&second, Lane::Bulk).await).await;
    first.close().await;
    second.close().await;
    let next = connected_at_last(&fabric).await;
    echoes(&mut open(&next, Lane::Bulk).await).await;
}

/// Connects once another connection, or its attempt, is gone.
async fn connected_at_last(fabric: &Fabric) -> ClientSession {
    let connecting = async {
        loop {
            if let Ok(session) = fabric.connect(&fabric.claims()).await {
                return session;
            }
        }
    };
    timeout(PATIENCE, connecting).await.expect("the place becomes free")
}

#[track_caller]
fn unreachable(outcome: Result<ClientSession, ConnectError>) {
    assert!(matches!(outcome, Err(ConnectError::Unreachable(_))), "{outcome:?}");
}

/// A client whose handshake goes no further: the answers of its node never arrive.
struct Deaf {
    endpoint: Endpoint,
    tasks: Vec<AbortHandle>,
}

impl Deaf {
    /// Begins a handshake with the entry, and returns once the entry answered in vain.
    async fn knock(fabric: &Fabric) -> Self {
        let outside = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let inside = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        inside.connect(fabric.address(ENTRY)).await.unwrap();
        let (address, inside) = (outside.local_addr().unwrap(), Arc::new(inside));
        let answered = Arc::new(Notify::new());
        let (forward, heard) = (inside.clone(), answered.clone());
        let forwarding = tokio::spawn(async move {
            let mut datagram = [0; 2048];
            while let Ok(length) = outside.recv(&mut datagram).await {
                let _ = forward.send(&datagram[..length]).await;
            }
        });
        let swallowing = tokio::spawn(async move {
            let mut datagram = [0; 2048];
            while inside.recv(&mut datagram).await.is_ok() {
                heard.notify_one();
            }
        });
        let roots = tls::roots(&[fabric.authority()]).unwrap();
        let config = tls::client(roots, None, &[CLIENT_ALPN]).unwrap();
        let config =
            quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(config).unwrap()));
        let endpoint = Endpoint::client((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        let connecting = endpoint.connect_with(config, address, &node_server_name(ENTRY)).unwrap();
        let connecting = tokio::spawn(connecting);
        timeout(PATIENCE, answered.notified()).await.expect("the entry answers");
        let tasks =
            vec![forwarding.abort_handle(), swallowing.abort_handle(), connecting.abort_handle()];
        Self { endpoint, tasks }
    }

    /// Gives up, and lets the entry know.
    async fn leave(self) {
        self.endpoint.close(0_u32.into(), b"");
        self.endpoint.wait_idle().await;
    }
}

impl Drop for Deaf {
    fn drop(&mut self) {
        self.tasks.iter().for_each(AbortHandle::abort);
    }
}

#[tokio::test]
async fn handshakes_beyond_the_limit_are_refused_until_one_is_over() {
    let limits = MeshLimits { handshakes: 1, proof_from_handshakes: 1, ..MeshLimits::default() };
    let fabric = Fabric::start_within(limits, &[], echo().await);
    let stuck = Deaf::knock(&fabric).await;
    unreachable(fabric.connect(&fabric.claims()).await);
    let counted = fabric.nodes[&ENTRY].endpoint.status().counted;
    assert!(counted.limits[&Limit::QuicConnections] > 0, "{counted:?}");
    stuck.leave().await;
    let session = connected_at_last(&fabric).await;
    echoes(&mut open(&session, Lane::Interactive).await).await;
}

#[tokio::test]
async fn strangers_who_cannot_be_answered_take_none_of_the_last_places() {
    let limits = MeshLimits { handshakes: 2, proof_from_handshakes: 1, ..MeshLimits::default() };
    let fabric = Fabric::start_within(limits, &[], echo().await);
    let mut stuck = Vec::new();
    for _ in 0..4 {
        stuck.push(Deaf::knock(&fabric).await);
    }
    let session = fabric.session().await;
    echoes(&mut open(&session, Lane::Interactive).await).await;
}
