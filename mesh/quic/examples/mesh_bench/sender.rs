//! The sending side of QUIC, on the wire formats alone: what an entry does on a lane, without a
//! client.

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
    Outcome, Sent,
    cluster::{Cluster, EGRESS, ENTRY, ORGANIZATION, RELAY, SECOND, Target, client_key},
};

pub(crate) const STOCK_ALPN: &[u8] = b"stock/1";
/// What is written at once.
pub(crate) const PIECE: usize = 64 * 1024;

/// The way of a lane to the egress, with the address of whom it leads to first.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Way {
    Direct(SocketAddr),
    OneHop(SocketAddr),
    /// The first relay asks the other.
    TwoHops(SocketAddr),
}

/// One flow on a lane of its own. Dropped, it ends with its lane, and with the hop its relay's part.
pub(crate) struct Flow {
    pub(crate) send: SendStream,
    pub(crate) recv: RecvStream,
    hop: Option<(Connection, u64)>,
}

/// A stock quinn connection with default settings.
pub(crate) async fn stock(cluster: &Cluster, address: SocketAddr) -> Outcome<Flow> {
    let config = config(cluster, STOCK_ALPN, Arc::new(TransportConfig::default()))?;
    let connection = dial(&endpoint()?, config, address, EGRESS).await?;
    let (send, recv) = connection.open_bi().await?;
    Ok(Flow { send, recv, hop: None })
}

pub(crate) async fn open(cluster: &Cluster, way: Way, lane: Lane, target: Target) -> Outcome<Flow> {
    let (endpoint, along) = lane_endpoint(Ipv4Addr::LOCALHOST.into())?;
    let from_port = endpoint.local_addr()?.port();
    let (path, hop) = match way {
        Way::Direct(egress) => (egress, None),
        Way::OneHop(relay) => {
            let request = Request::SetUpFlow { target: EGRESS, lane, from_port, hop_port: None };
            set_up(cluster, relay, request).await?
        }
        Way::TwoHops(first) => {
            let (relays, organization) = (vec![SECOND], ORGANIZATION);
            let onward = Onward { relays, target: EGRESS, lane, organization };
            set_up(cluster, first, Request::SetUpFlowOnward { onward, from_port, hop_port: None })
                .await?
        }
    };
    let config = config(cluster, lane_alpn(lane), lane_transport(lane))?;
    let connection = dial(&endpoint, config, along(path), EGRESS).await?;
    let (mut send, mut recv) = connection.open_bi().await?;
    send.write_all(&wire::frame(&open_flow(cluster, target))).await?;
    match read_frame(&mut recv).await? {
        FlowReply::Opened => Ok(Flow { send, recv, hop }),
        FlowReply::Refused(refusal) => Err(refusal.into()),
        FlowReply::Attached { .. } | FlowReply::Gone => Err("the egress kept a flow".into()),
    }
}

impl Flow {
    /// Writes for `time`, then waits for the receiver's count.
    pub(crate) async fn pump(mut self, time: Duration) -> Outcome<Sent> {
        let piece = Bytes::from(vec![0x5a; PIECE]);
        let start = Instant::now();
        let mut bytes = 0_u64;
        while start.elapsed() < time {
            self.send.write_chunk(piece.clone()).await?;
            bytes += piece.len() as u64;
        }
        self.send.finish()?;
        let mut count = [0; 8];
        self.recv.read_exact(&mut count).await?;
        let sent = Sent::counted(bytes, count, start.elapsed())?;
        if let Some((hop, flow)) = self.hop {
            ask(&hop, &Request::CloseFlow { flow }).await?;
        }
        Ok(sent)
    }
}

/// Asks a relay for a stream to the egress; its answer is the ticket.
pub(crate) async fn ticket(cluster: &Cluster, relay: SocketAddr) -> Outcome<[u8; 32]> {
    let request = Request::SetUpStream { target: EGRESS, lane: Lane::Bulk };
    match ask(&hop(cluster, relay).await?, &request).await? {
        Reply::StreamReady { ticket } => Ok(ticket),
        other => Err(format!("the relay answered {other:?}").into()),
    }
}

/// What an entry asks of an egress.
pub(crate) fn open_flow(cluster: &Cluster, target: Target) -> OpenFlow {
    let token = cluster.token(target, 1);
    let proof = Proof::make(&token, [0; 32], &client_key());
    OpenFlow { token, proof, channel: ChannelKind::Stream, traceparent: None, resume: None }
}

/// Where to send for a path over this relay, and the hop and the flow's number there.
async fn set_up(
    cluster: &Cluster,
    relay: SocketAddr,
    request: Request,
) -> Outcome<(SocketAddr, Option<(Connection, u64)>)> {
    let hop = hop(cluster, relay).await?;
    match ask(&hop, &request).await? {
        Reply::FlowReady { flow, port } => {
            Ok((SocketAddr::new(relay.ip(), port), Some((hop, flow))))
        }
        other => Err(format!("the relay answered {other:?}").into()),
    }
}

async fn hop(cluster: &Cluster, relay: SocketAddr) -> Outcome<Connection> {
    let config = config(cluster, HOP_ALPN, Arc::new(TransportConfig::default()))?;
    dial(&endpoint()?, config, relay, RELAY).await
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
