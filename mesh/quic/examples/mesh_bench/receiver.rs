//! The processes that receive, the relays and the entries. Each prints its address and runs until
//! its input closes.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
};

use quinn::crypto::rustls::QuicServerConfig;
use rap_mesh::{BulkThreads, Carrier, MeshEndpoint, MeshLimits, MeshOptions, NoLeases};
use rap_pki::tls::{self, ClientAuth};
use rap_proto::{NodeId, Timestamp};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::TlsAcceptor;

use crate::{
    Outcome,
    cluster::{Cluster, EGRESS},
    sender::STOCK_ALPN,
    target::Resource,
};

/// What a receiver on TCP reads at once, as the mesh does.
const READ_BUFFER: usize = 64 * 1024;

/// The words are: what it is, when the cluster was made, and of a node its number, the carrier that
/// it may use, and the numbers and addresses of those that it knows.
pub(crate) async fn run(words: &[String]) -> Outcome<()> {
    let [kind, made_at, rest @ ..] = words else { return Err("what to receive?".into()) };
    let cluster = Cluster::new(Timestamp::from_unix_millis(made_at.parse()?));
    match (kind.as_str(), rest) {
        ("stock", []) => {
            let endpoint = stock(&cluster)?;
            println!("{}", endpoint.local_addr()?);
            until_input_closes(serve_stock(endpoint)).await
        }
        ("bare", []) => {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
            println!("{}", listener.local_addr()?);
            let config = tls::server(&cluster.identity(EGRESS), ClientAuth::None, &[STOCK_ALPN])?;
            until_input_closes(serve_bare(listener, Arc::new(config).into())).await
        }
        ("node", [number, carrier, others @ ..]) => {
            let mut addresses = BTreeMap::new();
            for other in others {
                let (number, address) = other.split_once('=').ok_or("no address")?;
                addresses.insert(NodeId::from_u128(number.parse()?), address.parse()?);
            }
            let node = NodeId::from_u128(number.parse()?);
            serve_node(&cluster, node, carrier_named(carrier), &addresses).await
        }
        other => Err(format!("nothing receives as {other:?}").into()),
    }
}

fn carrier_named(name: &str) -> Option<Carrier> {
    [Carrier::Quic, Carrier::Tcp].into_iter().find(|carrier| carrier.as_str() == name)
}

async fn serve_node(
    cluster: &Cluster,
    node: NodeId,
    carrier: Option<Carrier>,
    addresses: &BTreeMap<NodeId, SocketAddr>,
) -> Outcome<()> {
    let bulk = BulkThreads::start()?;
    let options = MeshOptions {
        listen: (Ipv4Addr::LOCALHOST, 0).into(),
        identity: cluster.identity(node),
        dialer: Arc::new(Resource),
        leases: Arc::new(NoLeases::default()),
        marks: Vec::new(),
        limits: MeshLimits::default(),
        bulk: bulk.handle(),
        carrier,
    };
    let (endpoint, mut events) = MeshEndpoint::bind(options, cluster.view(node, addresses))?;
    println!("{}", endpoint.local_addr()?);
    until_input_closes(async {
        while events.recv().await.is_some() {}
        Ok(())
    })
    .await
}

async fn until_input_closes(serving: impl Future<Output = Outcome<()>>) -> Outcome<()> {
    let mut rest = Vec::new();
    tokio::select! {
        served = serving => served,
        // Whatever comes, the parent closing it is what is waited for.
        _ = async { tokio::io::stdin().read_to_end(&mut rest).await } => Ok(()),
    }
}

fn stock(cluster: &Cluster) -> Outcome<quinn::Endpoint> {
    let config = tls::server(&cluster.identity(EGRESS), ClientAuth::None, &[STOCK_ALPN])?;
    let config = quinn::ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(config)?));
    Ok(quinn::Endpoint::server(config, (Ipv4Addr::LOCALHOST, 0).into())?)
}

/// Counts what each stream brings, and answers with the count.
async fn serve_stock(endpoint: quinn::Endpoint) -> Outcome<()> {
    while let Some(incoming) = endpoint.accept().await {
        let connection = incoming.await?;
        tokio::spawn(async move {
            while let Ok((mut send, mut recv)) = connection.accept_bi().await {
                let mut count = 0_u64;
                while let Ok(Some(chunk)) = recv.read_chunk(usize::MAX, true).await {
                    count += chunk.bytes.len() as u64;
                }
                // A sender that is gone does not want the count.
                let _ = send.write_all(&count.to_be_bytes()).await;
                let _ = send.finish();
            }
        });
    }
    Ok(())
}

/// The same on TLS over TCP, read in pieces as large as the mesh reads them: without, rustls asks
/// the kernel for 4 KiB each time, and whoever is compared with that looks good.
async fn serve_bare(listener: TcpListener, acceptor: TlsAcceptor) -> Outcome<()> {
    loop {
        let (stream, _) = listener.accept().await?;
        tokio::spawn(count_bare(acceptor.clone(), stream));
    }
}

async fn count_bare(acceptor: TlsAcceptor, stream: TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut tls = acceptor.accept(BufReader::with_capacity(READ_BUFFER, stream)).await?;
    let (mut count, mut buffer) = (0_u64, vec![0; READ_BUFFER]);
    loop {
        match tls.read(&mut buffer).await? {
            0 => break,
            length => count += length as u64,
        }
    }
    tls.write_all(&count.to_be_bytes()).await?;
    tls.shutdown().await
}
