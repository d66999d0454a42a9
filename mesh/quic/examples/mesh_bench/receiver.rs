//! The processes that receive, and the relays. Each prints its address and runs until its input
//! closes.

use std::{
    collections::BTreeMap,
    io,
    net::{Ipv4Addr, SocketAddr},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use futures_util::{FutureExt as _, future::BoxFuture};
use quinn::crypto::rustls::QuicServerConfig;
use rap_mesh::{
    ByteStream, DialRequest, Dialed, Dialer, MeshEndpoint, MeshLimits, MeshOptions, NoLeases,
};
use rap_pki::tls::{self, ClientAuth};
use rap_proto::{NodeId, Timestamp, refusal::Refusal};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf};

use crate::{
    Outcome,
    cluster::{Cluster, EGRESS, RELAY, SECOND},
    sender::STOCK_ALPN,
};

pub(crate) async fn run(arguments: &[String]) -> Outcome<()> {
    let [kind, made_at, rest @ ..] = arguments else { return Err("what to receive?".into()) };
    let cluster = Cluster::new(Timestamp::from_unix_millis(made_at.parse()?));
    let mut addresses = BTreeMap::new();
    if let [next] = rest {
        let node = if kind == "first" { SECOND } else { EGRESS };
        addresses.insert(node, next.parse::<SocketAddr>()?);
    }
    match kind.as_str() {
        "stock" => {
            let endpoint = stock(&cluster)?;
            println!("{}", endpoint.local_addr()?);
            tokio::select! {
                served = serve_stock(endpoint) => served,
                () = until_input_closes() => Ok(()),
            }
        }
        "egress" => serve_node(&cluster, EGRESS, &addresses).await,
        "relay" | "first" => serve_node(&cluster, RELAY, &addresses).await,
        "second" => serve_node(&cluster, SECOND, &addresses).await,
        other => Err(format!("nothing receives as `{other}`").into()),
    }
}

async fn serve_node(
    cluster: &Cluster,
    node: NodeId,
    addresses: &BTreeMap<NodeId, SocketAddr>,
) -> Outcome<()> {
    let options = MeshOptions {
        listen: (Ipv4Addr::LOCALHOST, 0).into(),
        identity: cluster.identity(node),
        dialer: Arc::new(Counting),
        leases: Arc::new(NoLeases::default()),
        marks: Vec::new(),
        limits: MeshLimits::default(),
        carrier: None,
    };
    let (endpoint, mut events) = MeshEndpoint::bind(options, cluster.view(node, addresses))?;
    println!("{}", endpoint.local_addr()?);
    let report = async {
        while let Some(event) = events.recv().await {
            eprintln!("{event:?}");
        }
    };
    tokio::select! {
        () = report => Ok(()),
        () = until_input_closes() => Ok(()),
    }
}

async fn until_input_closes() {
    let mut rest = Vec::new();
    // Whatever comes, the parent closing it is what is waited for.
    let _ = tokio::io::stdin().read_to_end(&mut rest).await;
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

/// "Dials" a resource that counts.
struct Counting;

impl Dialer for Counting {
    fn dial(&self, _: DialRequest) -> BoxFuture<'_, Result<Dialed, Refusal>> {
        async { Ok(Dialed::without_worker(Count::default())) }.boxed()
    }
}

/// Takes everything; after the end it gives the number of bytes, once.
#[derive(Default)]
struct Count {
    bytes: u64,
    ended: bool,
    told: bool,
    reader: Option<Waker>,
}

impl ByteStream for Count {}

impl AsyncWrite for Count {
    fn poll_write(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.bytes += bytes.len() as u64;
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.ended = true;
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for Count {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.ended {
            self.reader = Some(context.waker().clone());
            return Poll::Pending;
        }
        if !self.told {
            self.told = true;
            buffer.put_slice(&self.bytes.to_be_bytes());
        }
        Poll::Ready(Ok(()))
    }
}
