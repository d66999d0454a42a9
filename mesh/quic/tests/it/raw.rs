//! Clients that speak the wire format by hand, to do what the real one never does.

use std::{net::Ipv4Addr, sync::Arc, time::Duration};

use quinn::{Connection, Endpoint, RecvStream, SendStream, crypto::rustls::QuicClientConfig};
use rap_mesh::Identity;
use rap_mesh_core::{ended::Close, reports::UNVERIFIED};
use rap_pki::{node_server_name, tls};
use rap_proto::{
    NodeId, RefusalCode,
    observation::{EndReason, Observation},
    token::{EXPORTER_LABEL, Proof},
    wire::{
        self, CLIENT_ALPN, HOP_ALPN,
        client::{Hello, HelloReply},
        lane_alpn,
    },
};
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    fabric::{EGRESS, ENTRY, Fabric, client_key},
    targets::echo,
};

/// Connects, in whichever runtime polls it.
pub(crate) fn dial(
    fabric: &Fabric,
    node: NodeId,
    alpn: &[u8],
    idle: Duration,
) -> impl Future<Output = Connection> + Send + 'static {
    dial_as(fabric, None, node, alpn, idle)
}

/// The same, with a node's certificate.
pub(crate) fn dial_as(
    fabric: &Fabric,
    identity: Option<Identity>,
    node: NodeId,
    alpn: &[u8],
    idle: Duration,
) -> impl Future<Output = Connection> + Send + 'static {
    let mut transport = quinn::TransportConfig::default();
    transport.max_idle_timeout(Some(idle.try_into().unwrap()));
    dial_with(fabric, identity, node, alpn, transport)
}

pub(crate) fn dial_with(
    fabric: &Fabric,
    identity: Option<Identity>,
    node: NodeId,
    alpn: &[u8],
    transport: quinn::TransportConfig,
) -> impl Future<Output = Connection> + Send + 'static {
    let dialling = dial_from_port(fabric, identity, node, alpn, transport);
    async move { dialling.await.0 }
}

/// The same, with the port that the connection runs on.
pub(crate) fn dial_from_port(
    fabric: &Fabric,
    identity: Option<Identity>,
    node: NodeId,
    alpn: &[u8],
    transport: quinn::TransportConfig,
) -> impl Future<Output = (Connection, u16)> + Send + 'static {
    let roots = tls::roots(&[fabric.authority()]).unwrap();
    let config = tls::client(roots, identity.as_ref(), &[alpn]).unwrap();
    let crypto = QuicClientConfig::try_from(config).unwrap();
    let mut config = quinn::ClientConfig::new(Arc::new(crypto));
    config.transport_config(Arc::new(transport));
    let (address, name) = (fabric.address(node), node_server_name(node));
    async move {
        let endpoint = Endpoint::client((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        let port = endpoint.local_addr().unwrap().port();
        (endpoint.connect_with(config, address, &name).unwrap().await.unwrap(), port)
    }
}

pub(crate) async fn introduce(
    fabric: &Fabric,
    connection: &Connection,
) -> (SendStream, RecvStream) {
    let mut exported = [0; 32];
    connection.export_keying_material(&mut exported, EXPORTER_LABEL, b"").unwrap();
    let token = fabric.token(&fabric.claims());
    let proof = Proof::make(&token, exported, &client_key());
    let (mut send, mut recv) = connection.open_bi().await.unwrap();
    write(&mut send, &Hello { token, proof }).await;
    assert!(matches!(read(&mut recv).await, HelloReply::Accepted { .. }));
    (send, recv)
}

pub(crate) async fn write<T: Serialize>(send: &mut SendStream, message: &T) {
    send.write_all(&wire::frame(message)).await.unwrap();
}

pub(crate) async fn read<T: DeserializeOwned>(recv: &mut RecvStream) -> T {
    let mut head = [0; 4];
    recv.read_exact(&mut head).await.unwrap();
    let mut body = vec![0; wire::frame_length(head).unwrap()];
    recv.read_exact(&mut body).await.unwrap();
    wire::unframe(&body).unwrap()
}

pub(crate) async fn closed_with(connection: &Connection) -> Option<Close> {
    match connection.closed().await {
        quinn::ConnectionError::ApplicationClosed(close) => {
            Close::from_code(close.error_code.into_inner())
        }
        other => panic!("expected the node to close, got {other}"),
    }
}

async fn expect_end(fabric: &mut Fabric, expected: EndReason) {
    match fabric.observation(ENTRY).await {
        Observation::SessionEnded { reason, .. } => assert_eq!(reason, expected),
        other => panic!("expected the session's end, got {other:?}"),
    }
}

pub(crate) const LONG: Duration = Duration::from_secs(20);

#[tokio::test]
async fn a_client_that_vanishes_is_reported_as_lost() {
    let mut fabric = Fabric::start(&[], echo().await);
    let doomed = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let dialling = dial(&fabric, ENTRY, CLIENT_ALPN, Duration::from_secs(1));
    let connection = doomed.spawn(dialling).await.unwrap();
    let _control = introduce(&fabric, &connection).await;
    doomed.shutdown_background();
    expect_end(&mut fabric, EndReason::ClientLost).await;
}

#[tokio::test]
async fn a_client_that_speaks_nonsense_is_lost() {
    let mut fabric = Fabric::start(&[], echo().await);
    let connection = dial(&fabric, ENTRY, CLIENT_ALPN, LONG).await;
    let (mut send, _recv) = introduce(&fabric, &connection).await;
    send.write_all(&[0, 0, 0, 1, 0xc1]).await.unwrap();
    assert_eq!(closed_with(&connection).await, Some(Close::Ended(EndReason::ClientLost)));
    expect_end(&mut fabric, EndReason::ClientLost).await;
}

#[tokio::test]
async fn a_frame_that_announces_too_much_is_refused() {
    let mut fabric = Fabric::start(&[], echo().await);
    let connection = dial(&fabric, ENTRY, CLIENT_ALPN, LONG).await;
    let (mut send, _recv) = connection.open_bi().await.unwrap();
    send.write_all(&u32::MAX.to_be_bytes()).await.unwrap();
    assert_eq!(closed_with(&connection).await, Some(Close::Refused(RefusalCode::Malformed)));
    fabric.expect_refusal(ENTRY, RefusalCode::Malformed, false).await;
}

#[tokio::test]
async fn whoever_shows_no_node_certificate_gets_no_lane_and_no_hop() {
    let mut fabric = Fabric::start(&[], echo().await);
    for alpn in [HOP_ALPN, lane_alpn(rap_proto::Lane::Bulk)] {
        let connection = dial(&fabric, EGRESS, alpn, LONG).await;
        let refused = Some(Close::Refused(RefusalCode::PeerNotTrusted));
        assert_eq!(closed_with(&connection).await, refused);
        fabric.expect_refusal(EGRESS, RefusalCode::PeerNotTrusted, false).await;
    }
}

#[tokio::test]
async fn a_flood_of_nonsense_is_not_a_flood_of_reports() {
    let mut fabric = Fabric::start(&[], echo().await);
    let flood = UNVERIFIED.burst + 40;
    for _ in 0..flood {
        let connection = dial(&fabric, ENTRY, CLIENT_ALPN, LONG).await;
        let (mut send, _recv) = connection.open_bi().await.unwrap();
        send.write_all(&u32::MAX.to_be_bytes()).await.unwrap();
        closed_with(&connection).await;
    }
    let dropped = fabric.nodes[&ENTRY].endpoint.status().dropped_events;
    assert!(dropped > 0, "everything was reported");
    let mut reported = 0;
    while fabric.nodes.get_mut(&ENTRY).unwrap().events.try_recv().is_ok() {
        reported += 1;
    }
    assert_eq!(reported + dropped, u64::from(flood), "what is not reported is counted");
}
