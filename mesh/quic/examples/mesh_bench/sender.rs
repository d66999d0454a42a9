//! The sending side, on the wire formats alone: what an entry does on a lane, without a client.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use quinn::{
    Connection, Endpoint, RecvStream, SendStream, TransportConfig, crypto::rustls::QuicClientConfig,
};
use rap_mesh::{lane_endpoint, lane_transport};
use rap_pki::{node_server_name, tls};
use rap_proto::{
    ChannelKind, Lane, NodeId,
    token::Proof,
    wire::{
        self, HOP_ALPN,
        hop::{Onward, Reply, Request},
        lane::{FlowReply, OpenFlow},
        lane_alpn,
    },
};
use serde::de::DeserializeOwned;

use crate::{
    Outcome,
    cluster::{Cluster, EGRESS, ENTRY, ORGANIZATION, RELAY, SECOND, client_key},
};

pub(crate) const STOCK_ALPN: &[u8] = b"stock/1";
/// What is written at once.
const PIECE: usize = 64 * 1024;

/// Mbit/s of a stock quinn connection with default settings.
pub(crate) async fn stock(cluster: &Cluster, address: SocketAddr, time: Duration) -> Outcome<f64> {
    let endpoint = endpoint()?;
    let config = config(cluster, STOCK_ALPN, Arc::new(TransportConfig::default()))?;
    let connection = dial(&endpoint, config, address, EGRESS).await?;
    let (send, recv) = connection.open_bi().await?;
    pump(send, recv, time).await
}

/// Mbit/s of a bulk lane, directly to the egress.
pub(crate) async fn direct(cluster: &Cluster, address: SocketAddr, time: Duration) -> Outcome<f64> {
    let (endpoint, along) = lane_endpoint(Ipv4Addr::LOCALHOST.into())?;
    lane(cluster, &endpoint, along(address), time).await
}

/// Mbit/s of a bulk lane through a relay.
pub(crate) async fn one_hop(cluster: &Cluster, relay: SocketAddr, time: Duration) -> Outcome<f64> {
    let set_up = |from_port| Request::SetUpFlow { target: EGRESS, lane: Lane::Bulk, from_port };
    relayed(cluster, relay, set_up, time).await
}

/// The same through two, the first of which is at this address and asks the other.
pub(crate) async fn two_hops(cluster: &Cluster, first: SocketAddr, time: Duration) -> Outcome<f64> {
    let set_up = |from_port| {
        let (relays, organization) = (vec![SECOND], ORGANIZATION);
        let onward = Onward { relays, target: EGRESS, lane: Lane::Bulk, organization };
        Request::SetUpFlowOnward { onward, from_port }
    };
    relayed(cluster, first, set_up, time).await
}

async fn relayed(
    cluster: &Cluster,
    relay: SocketAddr,
    set_up: impl FnOnce(u16) -> Request,
    time: Duration,
) -> Outcome<f64> {
    let config = config(cluster, HOP_ALPN, Arc::new(TransportConfig::default()))?;
    let hop = dial(&endpoint()?, config, relay, RELAY).await?;
    let (endpoint, along) = lane_endpoint(Ipv4Addr::LOCALHOST.into())?;
    let from_port = endpoint.local_addr()?.port();
    let (flow, port) = match ask(&hop, &set_up(from_port)).await? {
        Reply::FlowReady { flow, port } => (flow, port),
        other => return Err(format!("the relay answered {other:?}").into()),
    };
    let path = along(SocketAddr::new(relay.ip(), port));
    let rate = lane(cluster, &endpoint, path, time).await?;
    ask(&hop, &Request::CloseFlow { flow }).await?;
    Ok(rate)
}

async fn lane(
    cluster: &Cluster,
    endpoint: &Endpoint,
    address: SocketAddr,
    time: Duration,
) -> Outcome<f64> {
    let config = config(cluster, lane_alpn(Lane::Bulk), lane_transport(Lane::Bulk))?;
    let connection = dial(endpoint, config, address, EGRESS).await?;
    let (mut send, mut recv) = connection.open_bi().await?;
    let token = cluster.token(1);
    let proof = Proof::make(&token, [0; 32], &client_key());
    let open =
        OpenFlow { token, proof, channel: ChannelKind::Stream, traceparent: None, resume: None };
    send.write_all(&wire::frame(&open)).await?;
    match read_frame(&mut recv).await? {
        FlowReply::Opened => pump(send, recv, time).await,
        FlowReply::Refused(refusal) => Err(refusal.into()),
        FlowReply::Attached { .. } | FlowReply::Gone => Err("the egress kept a flow".into()),
    }
}

/// Writes for `time`, then waits for the receiver's count.
async fn pump(mut send: SendStream, mut recv: RecvStream, time: Duration) -> Outcome<f64> {
    let piece = Bytes::from(vec![0x5a; PIECE]);
    let start = Instant::now();
    let mut sent = 0_u64;
    while start.elapsed() < time {
        send.write_chunk(piece.clone()).await?;
        sent += piece.len() as u64;
    }
    send.finish()?;
    let mut count = [0; 8];
    recv.read_exact(&mut count).await?;
    let elapsed = start.elapsed().as_secs_f64();
    if u64::from_be_bytes(count) != sent {
        return Err("the receiver counted other bytes than were sent".into());
    }
    #[expect(clippy::cast_precision_loss, reason = "a rate is rounded in any case")]
    Ok(sent as f64 * 8.0 / 1e6 / elapsed)
}

fn endpoint() -> Outcome<Endpoint> {
    Ok(Endpoint::client((Ipv4Addr::LOCALHOST, 0).into())?)
}

fn config(
    cluster: &Cluster,
    alpn: &[u8],
    transport: Arc<TransportConfig>,
) -> Outcome<quinn::ClientConfig> {
    let roots = tls::roots(&[cluster.authority()])?;
    let config = tls::client(roots, Some(&cluster.identity(ENTRY)), &[alpn])?;
    let mut config = quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(config)?));
    config.transport_config(transport);
    Ok(config)
}

async fn dial(
    endpoint: &Endpoint,
    config: quinn::ClientConfig,
    address: SocketAddr,
    node: NodeId,
) -> Outcome<Connection> {
    Ok(endpoint.connect_with(config, address, &node_server_name(node))?.await?)
}

async fn ask(hop: &Connection, request: &Request) -> Outcome<Reply> {
    let (mut send, mut recv) = hop.open_bi().await?;
    send.write_all(&wire::frame(request)).await?;
    send.finish()?;
    read_frame(&mut recv).await
}

async fn read_frame<T: DeserializeOwned>(recv: &mut RecvStream) -> Outcome<T> {
    let mut head = [0; 4];
    recv.read_exact(&mut head).await?;
    let mut body = vec![0; wire::frame_length(head)?];
    recv.read_exact(&mut body).await?;
    Ok(wire::unframe(&body)?)
}
