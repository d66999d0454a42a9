//! The sending side on TCP: the `tcp` carrier as an entry uses it, and TLS with nothing around it.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use rap_mesh::MeasuredFlow;
use rap_pki::{node_server_name, tls};
use rap_proto::{Lane, wire::lane_alpn};
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;

use crate::{
    Outcome, Sent,
    cluster::{Cluster, EGRESS, ENTRY, Target},
    sender::{PIECE, STOCK_ALPN, open_flow, ticket},
};

/// Where the piece begins whose copying is measured: not with a page, where some versions of glibc copy
/// into a record at a twentieth of the speed. The mesh copies so that it does not matter, and whoever is
/// compared with slow copies looks good.
const WITHIN_A_PAGE: usize = 2048;

/// A rustls connection over TCP, with the same cipher suite.
pub(crate) async fn bare(cluster: &Cluster, address: SocketAddr, time: Duration) -> Outcome<Sent> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let name = ServerName::try_from(node_server_name(EGRESS))?;
    let connector = TlsConnector::from(config(cluster, STOCK_ALPN)?);
    let mut tls = connector.connect(name, stream).await?;
    let memory = vec![0x5a; WITHIN_A_PAGE + PIECE];
    let piece = &memory[WITHIN_A_PAGE..];
    let start = Instant::now();
    let mut bytes = 0_u64;
    while start.elapsed() < time {
        tls.write_all(piece).await?;
        bytes += piece.len() as u64;
    }
    tls.shutdown().await?;
    let mut count = [0; 8];
    tls.read_exact(&mut count).await?;
    Sent::counted(bytes, count, start.elapsed())
}

/// A bulk flow on the `tcp` carrier, directly to the egress.
pub(crate) async fn direct(cluster: &Cluster, egress: SocketAddr, time: Duration) -> Outcome<Sent> {
    pump(cluster, (egress, None), time).await
}

/// The same through a relay.
pub(crate) async fn one_hop(cluster: &Cluster, relay: SocketAddr, time: Duration) -> Outcome<Sent> {
    let ticket = ticket(cluster, relay).await?;
    pump(cluster, (relay, Some(ticket)), time).await
}

async fn pump(
    cluster: &Cluster,
    (address, ticket): (SocketAddr, Option<[u8; 32]>),
    time: Duration,
) -> Outcome<Sent> {
    let config = config(cluster, lane_alpn(Lane::Bulk))?;
    let egress = cluster.peer(EGRESS, address);
    let request = open_flow(cluster, Target::Counts);
    let mut flow = MeasuredFlow::open(config, (address, ticket), &egress, request).await?;
    let piece = Bytes::from(vec![0x5a; PIECE]);
    let start = Instant::now();
    let mut bytes = 0_u64;
    while start.elapsed() < time {
        flow.send(piece.clone()).await?;
        bytes += piece.len() as u64;
    }
    flow.finish().await;
    let mut count = [0; 8];
    flow.read_exact(&mut count).await?;
    Sent::counted(bytes, count, start.elapsed())
}

fn config(cluster: &Cluster, alpn: &[u8]) -> Outcome<Arc<ClientConfig>> {
    let roots = tls::roots(&[cluster.authority()])?;
    Ok(Arc::new(tls::client(roots, Some(&cluster.identity(ENTRY)), &[alpn])?))
}
