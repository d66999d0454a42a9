//! The asker's side of a relay: hop connections, and the flows that were set up over them.

mod heard;
mod looks;
mod onward;
mod reachable;

use std::{
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, atomic::AtomicBool},
    time::Duration,
};

use quinn::{Connection, ConnectionError, Endpoint};
use rap_mesh_core::{
    View,
    ended::{Close, DONE},
    paths::{ATTEMPT_STAGGER, DIRECT_DIAL_TIMEOUT},
    peers::Packets,
    refusals::refusal,
};
use rap_pki::node_server_name;
use rap_proto::{
    Lane, NodeId, RefusalCode,
    refusal::Refusal,
    snapshot::Peer,
    wire::hop::{Reply, Request},
};
use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::timeout,
};

use heard::KeptLines;
pub(crate) use heard::ask_peer;
use looks::knocking;
pub(crate) use looks::{NearSocket, look};
pub(crate) use onward::{OnwardRefused, set_up_onward, set_up_stream_onward};
pub(crate) use reachable::{Line, keep_reachable, keep_reachable_on_quic};

use crate::{
    frames::{read_frame, write_frame},
    mesh::{Mesh, close, code},
    pipe::{Inlet, Outlet},
    pool::{Pool, Pooled},
    race::race,
    tcp::{self, Secured},
    tls::caller,
};

/// The most relays that one node is connected to.
const MAX_HOPS: usize = 256;
/// How long a relay may take to answer a request.
pub(crate) const HOP_REPLY_TIMEOUT: Duration = Duration::from_secs(2);
/// The most requests in flight to one relay that may wait there, fewer than it takes of all: one
/// that waits for the next relay, or for a node that is called, must not keep this node from
/// refreshing what it has there.
pub(crate) const MAX_WAITING: usize = 48;

pub(crate) struct Hops {
    pool: Pool<NodeId, Hop>,
    /// To nodes that no datagram reaches.
    lines: KeptLines,
}

/// The second part is counted: the pool has one, and each flow that was set up over it.
#[derive(Clone)]
pub(crate) struct Hop(Connection, Arc<Shared>);

/// What all who ask over one connection share.
struct Shared {
    /// The places of requests that may wait.
    places: Semaphore,
    /// The node showed that it knows no heartbeat. It keeps its release for as long as the connection lasts.
    is_older: AtomicBool,
    /// Those that were counted so far.
    packets: Mutex<Packets>,
}

impl Pooled for Hop {
    fn is_usable(&self) -> bool {
        self.0.close_reason().is_none()
    }
}

impl Hop {
    /// Where the relay is, as plain as its family allows.
    pub(crate) fn remote(&self) -> SocketAddr {
        let remote = self.0.remote_address();
        SocketAddr::new(remote.ip().to_canonical(), remote.port())
    }

    /// The address that the relay sees this node at, where the kernel says so.
    pub(crate) fn own(&self) -> Option<IpAddr> {
        let own = self.0.local_ip().map(|own| own.to_canonical());
        own.filter(|own| !own.is_unspecified())
    }
}

impl Default for Hops {
    fn default() -> Self {
        Self { pool: Pool::new(MAX_HOPS), lines: KeptLines::default() }
    }
}

/// A flow at a relay. Dropping it tells the relay.
pub(crate) struct RelayedFlow {
    mesh: Arc<Mesh>,
    hop: Hop,
    flow: u64,
    relay: NodeId,
    /// Where to send, instead of to the target.
    pub(crate) address: SocketAddr,
}

/// What came of a refresh.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refreshed {
    Kept,
    /// The relay says that it has no such flow.
    Gone,
    /// The flow may be there.
    Unanswered,
}

impl Hops {
    /// Ends the connections to relays that the view no longer trusts.
    pub(crate) fn apply(&self, view: &View) {
        for (relay, hop) in self.pool.ready() {
            if view.peer(relay).is_none() {
                close(&hop.0, Close::Refused(RefusalCode::PeerNotTrusted));
            }
        }
        self.lines.apply(view);
    }
}

/// Asks `relay` for a flow between this socket and `target`.
pub(crate) async fn set_up(
    mesh: &Arc<Mesh>,
    relay: NodeId,
    target: NodeId,
    lane: Lane,
    from: &impl NearSocket,
) -> Result<RelayedFlow, Refusal> {
    let hop = connected(mesh, relay).await?;
    let (from_port, hop_port) = (from.port(), Some(mesh.knocker.port()));
    let request = Request::SetUpFlow { target, lane, from_port, hop_port };
    match ask_for_flow(&hop, &request, HOP_REPLY_TIMEOUT, from).await? {
        Reply::FlowReady { flow, port } => {
            let address = SocketAddr::new(hop.0.remote_address().ip(), port);
            Ok(RelayedFlow { mesh: mesh.clone(), hop, flow, relay, address })
        }
        Reply::Refused(refusal) => Err(refusal),
        _ => Err(refusal(RefusalCode::Malformed)),
    }
}

/// A stream that a relay carries once it is connected to.
pub(crate) struct RelayedStream {
    pub(crate) address: SocketAddr,
    pub(crate) ticket: [u8; 32],
}

/// Asks `relay` for a stream between this node and `target`: over the hop that is warm or can be
/// made, or on TCP where no datagram gets through.
pub(crate) async fn set_up_stream(
    mesh: &Arc<Mesh>,
    relay: NodeId,
    target: NodeId,
    lane: Lane,
) -> Result<RelayedStream, Refusal> {
    let request = Request::SetUpStream { target, lane };
    let (reply, address) = ask_somehow(mesh, relay, &request, HOP_REPLY_TIMEOUT).await?;
    RelayedStream::of(reply, address)
}

/// The same where no datagram gets through.
pub(crate) async fn set_up_stream_on_tcp(
    mesh: &Mesh,
    relay: NodeId,
    target: NodeId,
    lane: Lane,
) -> Result<RelayedStream, Refusal> {
    let request = Request::SetUpStream { target, lane };
    let (reply, address) = ask_on_tcp(mesh, relay, &request, HOP_REPLY_TIMEOUT).await?;
    RelayedStream::of(reply, address)
}

impl RelayedStream {
    fn of(reply: Reply, address: SocketAddr) -> Result<Self, Refusal> {
        match reply {
            Reply::StreamReady { ticket } => Ok(Self { address, ticket }),
            Reply::Refused(refusal) => Err(refusal),
            _ => Err(refusal(RefusalCode::Malformed)),
        }
    }
}

/// Asks on QUIC, and on TCP when that brings no answer. Returns where the relay was found as well.
async fn ask_somehow(
    mesh: &Arc<Mesh>,
    relay: NodeId,
    request: &Request,
    limit: Duration,
) -> Result<(Reply, SocketAddr), Refusal> {
    let Ok(hop) = connected(mesh, relay).await else {
        return ask_on_tcp(mesh, relay, request, limit).await;
    };
    match ask_within(&hop, request, limit).await {
        Ok(reply) => Ok((reply, hop.0.remote_address())),
        // Asked twice by each relay on the way, the last one would be asked many times.
        Err(refused) if request.leads_on() && hop.is_usable() => Err(refused),
        // A hop can have died unnoticed.
        Err(_) => ask_on_tcp(mesh, relay, request, limit).await,
    }
}

async fn ask_on_tcp(
    mesh: &Mesh,
    relay: NodeId,
    request: &Request,
    limit: Duration,
) -> Result<(Reply, SocketAddr), Refusal> {
    let (Secured { mut outlet, mut inlet, .. }, address) = connected_on_tcp(mesh, relay).await?;
    let exchange = async {
        write_frame(&mut outlet, request).await.ok()?;
        outlet.finish().await;
        read_frame(&mut inlet).await.ok()
    };
    let reply = timeout(limit, exchange).await.ok().flatten();
    let reply = reply.ok_or_else(|| refusal(RefusalCode::PathUnavailable))?;
    Ok((reply, address))
}

/// A TLS connection to a relay, and the address that it leads to.
async fn connected_on_tcp(mesh: &Mesh, relay: NodeId) -> Result<(Secured, SocketAddr), Refusal> {
    if !mesh.has_tcp {
        return Err(refusal(RefusalCode::PathUnavailable));
    }
    let view = mesh.view();
    let peer = view.peer(relay).ok_or_else(|| refusal(RefusalCode::PeerNotTrusted))?;
    let config = mesh.configs().tcp_hop.clone();
    let attempts = peer.addresses.iter().zip(0_u32..).map(|(address, place)| {
        let connecting = tcp::within(tcp::connect(config.clone(), *address, peer));
        (ATTEMPT_STAGGER * place, async move { Ok((connecting.await?, *address)) })
    });
    let raced = race::<_, _, std::io::Error>(attempts.collect()).await;
    raced.map_err(|_| refusal(RefusalCode::PathUnavailable))
}

impl RelayedFlow {
    /// Keeps the flow alive, over a new hop connection when the old one was lost.
    pub(crate) fn refresh(&self) -> impl Future<Output = Refreshed> + Send + use<> {
        let (mesh, relay, flow) = (self.mesh.clone(), self.relay, self.flow);
        async move {
            let asking = async {
                let hop = connected(&mesh, relay).await?;
                ask(&hop, &Request::RefreshFlow { flow }).await
            };
            match asking.await {
                Ok(Reply::Done) => Refreshed::Kept,
                Ok(_) => Refreshed::Gone,
                Err(_) => Refreshed::Unanswered,
            }
        }
    }

    /// Resolves when the hop connection that set the flow up is lost. True when the relay closed
    /// it: then the flow is gone as well.
    pub(crate) fn hop_lost(&self) -> impl Future<Output = bool> + Send + use<> {
        let hop = self.hop.0.clone();
        async move { matches!(hop.closed().await, ConnectionError::ApplicationClosed(_)) }
    }
}

impl Drop for RelayedFlow {
    fn drop(&mut self) {
        let (hop, flow) = (self.hop.clone(), self.flow);
        if hop.is_usable() {
            self.mesh.spawn(async move {
                // When this fails, the flow ends by its time to live.
                let _ = ask(&hop, &Request::CloseFlow { flow }).await;
            });
        }
    }
}

/// Closes the connection to a node, unless a flow that was set up over it still runs.
pub(crate) fn release(mesh: &Mesh, node: NodeId) {
    mesh.hops.lines.remove(node);
    mesh.hops.pool.remove_if(node, |hop| {
        let unused = Arc::strong_count(&hop.1) == 1;
        if unused {
            hop.0.close(code(DONE), b"");
        }
        unused
    });
}

/// The hop connection to a relay; made when there is none.
pub(crate) async fn connected(mesh: &Arc<Mesh>, relay: NodeId) -> Result<Hop, Refusal> {
    let dialling = mesh.clone();
    let dial = move || async move {
        let view = dialling.view();
        let peer = view.peer(relay).ok_or_else(|| refusal(RefusalCode::PeerNotTrusted))?;
        dial(&dialling, peer).await.ok_or_else(|| refusal(RefusalCode::PathUnavailable))
    };
    Ok(mesh.hops.pool.get(&mesh.tasks, relay, dial).await?.value)
}

async fn dial(mesh: &Arc<Mesh>, peer: &Peer) -> Option<Hop> {
    let configs = mesh.configs();
    let attempts = peer.addresses.iter().zip(0_u32..).map(|(address, place)| {
        let attempt = connect(&mesh.endpoint, configs.hop.clone(), *address, peer);
        (ATTEMPT_STAGGER * place, attempt)
    });
    let connection = race(attempts.collect()).await.ok()?;
    let (places, is_older) = (Semaphore::new(MAX_WAITING), AtomicBool::new(false));
    let packets = Mutex::default();
    Some(Hop(connection, Arc::new(Shared { places, is_older, packets })))
}

/// Connects to a peer and makes sure that it is the one that the view means.
pub(crate) async fn connect(
    endpoint: &Endpoint,
    config: quinn::ClientConfig,
    address: SocketAddr,
    peer: &Peer,
) -> Result<Connection, ()> {
    let name = node_server_name(peer.node);
    let connecting = endpoint.connect_with(config, address, &name).map_err(drop)?;
    let connection = match timeout(DIRECT_DIAL_TIMEOUT, connecting).await {
        Ok(Ok(connection)) => connection,
        Ok(Err(error)) => {
            tracing::debug!(node = %peer.node, %error, "no connection");
            return Err(());
        }
        Err(_) => return Err(()),
    };
    if caller(&connection).is_some_and(|it| it.node == peer.node && it.key == peer.key) {
        return Ok(connection);
    }
    close(&connection, Close::Refused(RefusalCode::PeerNotTrusted));
    Err(())
}

async fn ask(hop: &Hop, request: &Request) -> Result<Reply, Refusal> {
    ask_within(hop, request, HOP_REPLY_TIMEOUT).await
}

async fn ask_within(hop: &Hop, request: &Request, limit: Duration) -> Result<Reply, Refusal> {
    let reply = timeout(limit, exchange(hop, request)).await.ok().flatten();
    reply.ok_or_else(|| refusal(RefusalCode::PathUnavailable))
}

/// The same for a flow from this socket: the relay may want to hear a knock from it first.
async fn ask_for_flow(
    hop: &Hop,
    request: &Request,
    limit: Duration,
    from: &impl NearSocket,
) -> Result<Reply, Refusal> {
    let asking = async {
        let mut asked = Asked::ask(hop, request).await?;
        match asked.reply().await? {
            Reply::KnockHere { port, secret } => {
                let to = SocketAddr::new(hop.remote().ip(), port);
                knocking(asked.reply(), from, to, &secret).await
            }
            reply => Some(reply),
        }
    };
    let reply = timeout(limit, asking).await.ok().flatten();
    reply.ok_or_else(|| refusal(RefusalCode::PathUnavailable))
}

/// `None` when the other side does not answer, but ends the stream or the connection.
async fn exchange(hop: &Hop, request: &Request) -> Option<Reply> {
    Asked::ask(hop, request).await?.reply().await
}

/// A request that waits for its reply.
struct Asked<'h> {
    inlet: Inlet,
    _place: Option<SemaphorePermit<'h>>,
}

impl<'h> Asked<'h> {
    async fn ask(hop: &'h Hop, request: &Request) -> Option<Self> {
        let places = &hop.1.places;
        let _place = if request.may_wait() { Some(places.acquire().await.ok()?) } else { None };
        let (send, recv) = hop.0.open_bi().await.ok()?;
        let (mut send, inlet) = (Outlet::Quic(send), Inlet::Quic(recv));
        write_frame(&mut send, request).await.ok()?;
        // The request is complete; a relay that reads on finds the end.
        send.finish().await;
        Some(Self { inlet, _place })
    }

    async fn reply(&mut self) -> Option<Reply> {
        read_frame(&mut self.inlet).await.ok()
    }
}
