//! One node's endpoint: binding, accepting, new views, renewal, leaving.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::{Arc, Mutex, PoisonError, RwLock},
    time::Duration,
};

use quinn::{AsyncUdpSocket, Connection, Endpoint, Incoming, crypto::rustls::HandshakeData};
use rap_mesh_core::{
    View,
    carrier::Carrier,
    ended::Close,
    holes::Limits,
    resume::{Budget, MAX_DETACHED_BYTES},
    shape::Direction,
};
use rap_pki::{
    PeerIdentity,
    tls::{Identity, TlsError},
};
use rap_proto::{
    Lane, Leased, NodeId, RefusalCode, Signer as _,
    observation::EndReason,
    wire::{CLIENT_ALPN, HOP_ALPN, channels_alpn, lane_alpn},
};
use tokio::{net::TcpListener, runtime::Handle, sync::Semaphore, time::timeout};
use tokio_util::sync::CancellationToken;

use crate::{
    Dialer, Leases, MeshEvents, MeshLimits, MeshStatus,
    clock::Clock,
    congestion::Steering,
    egress::{self, Meetings, TokenCache},
    entry::{self, Clients, Tickets, Ways},
    event::EventSender,
    fencing::Fencing,
    hops::Hops,
    kept::KeptFlows,
    lanes::Lanes,
    mesh::{Mesh, Tasks, close, locked},
    network::{self, Kernel, Network},
    pipe::Store,
    reachable::{self, Knocker, Lines},
    relay::{self, Looks, Reachable, Relay},
    relays::RelayOrders,
    shaping::{self, Shaping},
    tally::{Limit, Tally},
    tcp::{self, Controllers},
    tls::NodeConfigs,
    transport,
};

/// A handshake that is not complete by then is dropped.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// How often another port is chosen that is free for UDP and TCP.
const PORT_ATTEMPTS: u32 = 16;

pub struct MeshOptions {
    /// The one UDP socket of the node; it listens for TCP on the same port.
    pub listen: SocketAddr,
    /// The node's certificate chain and key.
    pub identity: Identity,
    pub dialer: Arc<dyn Dialer>,
    pub leases: Arc<dyn Leases>,
    /// The fence's marks, as they were kept.
    pub marks: Vec<Leased>,
    pub limits: MeshLimits,
    /// Where bulk runs. On a runtime of its own, a key never waits in a queue behind it: the kernel
    /// gives a thread that mostly sleeps its turn at once.
    pub bulk: Handle,
    /// Use this carrier alone for flows to egresses. By itself, a node uses what suits each lane.
    pub carrier: Option<Carrier>,
}

#[derive(Debug, thiserror::Error)]
pub enum BindError {
    #[error("cannot listen on {address}: {error}")]
    Socket { address: SocketAddr, error: io::Error },
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The certificate and the snapshot belong to different nodes.
    #[error("the certificate does not belong to node {expected}")]
    WrongIdentity { expected: NodeId },
}

/// A running endpoint. Clones are the same endpoint; it stops when the last one is dropped.
#[derive(Clone)]
pub struct MeshEndpoint {
    running: Arc<Running>,
}

struct Running {
    mesh: Arc<Mesh>,
    identity: Mutex<Identity>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.mesh.leaving.cancel();
        self.mesh.lanes.close(Close::Ended(EndReason::NodeLeft));
        self.mesh.endpoint.close(crate::mesh::code(Close::Ended(EndReason::NodeLeft).code()), b"");
    }
}

impl MeshEndpoint {
    /// Opens the socket and serves what the view allows. The endpoint's tasks run in the tokio
    /// runtime that this is called in, but for bulk's.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn bind(options: MeshOptions, view: View) -> Result<(Self, MeshEvents), BindError> {
        Self::bind_on(Arc::new(Kernel), options, view)
    }

    /// The same on a network that is not the machine's.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn bind_on(
        network: Arc<dyn Network>,
        options: MeshOptions,
        view: View,
    ) -> Result<(Self, MeshEvents), BindError> {
        let MeshOptions { listen, identity, dialer, leases, marks, limits, bulk, carrier } =
            options;
        check_identity(&identity, &view)?;
        let configs = NodeConfigs::build(&identity, &view)?;
        let (endpoint, socket, listener) = open(&*network, listen, &configs, &bulk)
            .map_err(|error| BindError::Socket { address: listen, error })?;
        let local =
            socket.local_addr().map_err(|error| BindError::Socket { address: listen, error })?;
        let view = with_self(view, &identity, &endpoint);
        let (events, receiver) = EventSender::channel();
        let store = || {
            let detached = Budget::new(limits.detached_flows, MAX_DETACHED_BYTES);
            Store::new(detached, limits.kept_bytes)
        };
        let tasks = Tasks::on(Handle::current());
        // One limit for those that are accepted and those that are made because a relay called.
        let tcp_places = Arc::new(Semaphore::new(limits.connections));
        let clock = Clock::by(network.calendar());
        let mesh = Arc::new(Mesh {
            endpoint,
            network,
            has_tcp: listener.is_some(),
            knocker: Knocker { socket, local },
            clock,
            views: rap_watch::Sender::new(Arc::new(view)),
            configs: RwLock::new(Arc::new(configs)),
            dialer,
            fencing: Fencing::new(leases, marks),
            limits,
            carrier,
            events,
            tally: Tally::default(),
            controllers: Controllers::default(),
            reports: Mutex::default(),
            path_audit: Mutex::default(),
            entry: Mutex::default(),
            clients: Clients::default(),
            tickets: Tickets::default(),
            ways: Ways::default(),
            egress: Mutex::default(),
            tokens: TokenCache::default(),
            kept: KeptFlows::new(limits.lasting_flows, store()),
            kept_channels: KeptFlows::new(limits.lasting_flows, store()),
            lanes: Lanes::new(store()),
            hops: Hops::default(),
            relay: Relay::new(limits.relayed, clock),
            reachable: Reachable::default(),
            lines: Lines::new(tcp_places.clone()),
            looks: Looks::new(Limits::LOOKS),
            knocked_flows: Looks::new(Limits::KNOCKED_FLOWS),
            meetings: Meetings::default(),
            relays: RelayOrders::default(),
            shaping: Shaping::default(),
            leaving: CancellationToken::new(),
            bulk: tasks.beside(bulk),
            tasks,
        });
        mesh.spawn(accept(mesh.clone()));
        if let Some(listener) = listener {
            mesh.bulk.spawn(tcp::accept(mesh.clone(), listener, tcp_places));
        }
        mesh.spawn(relay::sweep(mesh.clone()));
        mesh.spawn(relay::drive(mesh.clone()));
        mesh.spawn(reachable::keep(mesh.clone()));
        mesh.shaping.apply(mesh.clock.moment(), &mesh.view().bandwidth);
        mesh.spawn(shaping::drive(mesh.clone()));
        let running = Arc::new(Running { mesh, identity: Mutex::new(identity) });
        Ok((Self { running }, receiver))
    }

    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.running.mesh.endpoint.local_addr()
    }

    /// Acts by a newer snapshot from now on. What it no longer allows ends at once: sessions
    /// that were ended or lost their grant, connections of revoked nodes, relayed flows.
    pub fn apply(&self, view: View) -> Result<(), TlsError> {
        let view = with_self(view, &locked(&self.running.identity), &self.running.mesh.endpoint);
        let view = Arc::new(view);
        let before = self.running.mesh.views.send_replace(view.clone());
        if before.trust.authorities != view.trust.authorities {
            self.configure(&locked(&self.running.identity).clone(), &view)?;
        }
        if before.bandwidth != view.bandwidth {
            let now = self.running.mesh.clock.moment();
            self.running.mesh.shaping.apply(now, &view.bandwidth);
        }
        self.running.mesh.lanes.apply(&before, &view);
        self.running.mesh.hops.apply(&view);
        self.running.mesh.relay.apply(&self.running.mesh, &view);
        Ok(())
    }

    /// Shows a renewed certificate from now on. Running connections keep theirs.
    pub fn renew(&self, identity: Identity) -> Result<(), BindError> {
        let view = self.running.mesh.view();
        check_identity(&identity, &view)?;
        self.configure(&identity, &view)?;
        let view = with_self((*view).clone(), &identity, &self.running.mesh.endpoint);
        self.running.mesh.views.send_replace(Arc::new(view));
        *locked(&self.running.identity) = identity;
        Ok(())
    }

    pub fn status(&self) -> MeshStatus {
        let (entry_sessions, absent_sessions) = {
            let sessions = locked(&self.running.mesh.entry);
            (sessions.len(), sessions.absent())
        };
        MeshStatus {
            entry_sessions,
            absent_sessions,
            egress_sessions: locked(&self.running.mesh.egress).active(),
            relayed_flows: self.running.mesh.relay.flows(),
            relayed: self.running.mesh.relay.forwarded(),
            reachable_nodes: self.running.mesh.reachable.nodes(),
            late_connections: self.running.mesh.reachable.late(),
            reachable_at: self.running.mesh.lines.relays(),
            lanes: self.running.mesh.lanes.status(),
            tcp_flows: self.running.mesh.lanes.streams(),
            through_flows: self.running.mesh.ways.len(),
            tcp_moves: self.running.mesh.lanes.moves(),
            bbr: self.running.mesh.network.bbr(),
            controllers: self.running.mesh.controllers.read(),
            carriers: self.running.mesh.lanes.carriers(&self.running.mesh),
            classes: self.running.mesh.shaping.status(self.running.mesh.clock.moment()),
            shaped_up: self.running.mesh.shaping.counts(Direction::Up),
            shaped_down: self.running.mesh.shaping.counts(Direction::Down),
            dropped_events: self.running.mesh.events.dropped(),
            counted: self.running.mesh.tally.read(),
        }
    }

    /// Leaves: ends every session as `node_left`, reports each end, and closes the socket. Takes
    /// at most `grace` for the reports, so the events have to be read meanwhile.
    pub async fn shut_down(&self, grace: Duration) {
        self.running.mesh.leaving.cancel();
        let _ = timeout(grace, self.running.mesh.tasks.end()).await;
        self.running.mesh.lanes.close(Close::Ended(EndReason::NodeLeft));
        let code = crate::mesh::code(Close::Ended(EndReason::NodeLeft).code());
        self.running.mesh.endpoint.close(code, b"");
        self.running.mesh.relay.clear();
        let _ = timeout(grace, self.running.mesh.endpoint.wait_idle()).await;
    }

    /// Waits until every event so far has been taken, and every start and end of a session that waited for
    /// room. Never, where nobody takes them.
    pub async fn events_taken(&self) {
        entry::tell_all(&self.running.mesh).await;
        self.running.mesh.events.taken().await;
    }

    pub(crate) fn mesh(&self) -> &Arc<Mesh> {
        &self.running.mesh
    }

    fn configure(&self, identity: &Identity, view: &View) -> Result<(), TlsError> {
        let configs = NodeConfigs::build(identity, view)?;
        self.running.mesh.endpoint.set_server_config(Some(configs.server.clone()));
        *self.running.mesh.configs.write().unwrap_or_else(PoisonError::into_inner) =
            Arc::new(configs);
        Ok(())
    }
}

fn check_identity(identity: &Identity, view: &View) -> Result<(), BindError> {
    let own = identity.chain.first().and_then(|leaf| PeerIdentity::from_leaf(leaf).ok());
    let fits = own.is_some_and(|own| own.node == view.node && own.cluster == view.cluster);
    if fits { Ok(()) } else { Err(BindError::WrongIdentity { expected: view.node }) }
}

/// The view with this node as a peer of its own, at the address where it reaches itself.
fn with_self(mut view: View, identity: &Identity, endpoint: &Endpoint) -> View {
    if let Ok(mut address) = endpoint.local_addr() {
        match address.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => address.set_ip(Ipv4Addr::LOCALHOST.into()),
            IpAddr::V6(ip) if ip.is_unspecified() => address.set_ip(Ipv6Addr::LOCALHOST.into()),
            IpAddr::V4(_) | IpAddr::V6(_) => {}
        }
        view.add_self(identity.key.public_key().id(), address);
    }
    view
}

/// What was opened: the UDP socket is the QUIC endpoint's own.
type Opened = (Endpoint, Arc<dyn AsyncUdpSocket>, Option<TcpListener>);

/// Takes one port for UDP and TCP. A free one that the kernel chose for UDP can be in use for TCP:
/// then another is chosen.
fn open(
    network: &dyn Network,
    listen: SocketAddr,
    configs: &NodeConfigs,
    bulk: &Handle,
) -> io::Result<Opened> {
    let (socket, listener) = on_one_port(network, listen, |address| {
        let _there = bulk.enter();
        network.tcp(address)
    })?;
    let endpoint = network::endpoint(network, Some(configs.server.clone()), socket.clone())?;
    Ok((endpoint, socket, listener))
}

fn on_one_port<T>(
    network: &dyn Network,
    listen: SocketAddr,
    mut on_tcp: impl FnMut(SocketAddr) -> io::Result<T>,
) -> io::Result<(Arc<dyn AsyncUdpSocket>, T)> {
    let mut attempts = if listen.port() == 0 { PORT_ATTEMPTS } else { 1 };
    loop {
        attempts -= 1;
        let socket = network.udp(listen)?;
        match on_tcp(socket.local_addr()?) {
            Err(error) if attempts > 0 && error.kind() == io::ErrorKind::AddrInUse => {}
            listener => return Ok((socket, listener?)),
        }
    }
}

/// An address as a socket of this kind wants it.
pub(crate) const fn on_the_wire(local: SocketAddr, address: SocketAddr) -> SocketAddr {
    match (local, address) {
        (SocketAddr::V6(_), SocketAddr::V4(v4)) => {
            SocketAddr::new(IpAddr::V6(v4.ip().to_ipv6_mapped()), v4.port())
        }
        _ => address,
    }
}

async fn accept(mesh: Arc<Mesh>) {
    let handshakes = Arc::new(Semaphore::new(mesh.limits.handshakes));
    loop {
        let incoming = tokio::select! {
            biased;
            () = mesh.leaving.cancelled() => return,
            incoming = mesh.endpoint.accept() => incoming,
        };
        let Some(incoming) = incoming else { return };
        let under_way = mesh.limits.handshakes.saturating_sub(handshakes.available_permits());
        let open = mesh.endpoint.open_connections();
        if mesh.limits.ask_for_proof(under_way, open) && !incoming.remote_address_validated() {
            // Only an address that was validated cannot be asked, which was just ruled out.
            let _ = incoming.retry();
            continue;
        }
        // Handshakes that have not begun yet are not among the connections, but bounded.
        let place = (open < mesh.limits.connections)
            .then(|| handshakes.clone().try_acquire_owned().ok())
            .flatten();
        let Some(place) = place else {
            mesh.tally.reached(Limit::QuicConnections);
            incoming.refuse();
            continue;
        };
        let task_mesh = mesh.clone();
        mesh.spawn(async move {
            let steering = Steering::default();
            let connection = handshake(&task_mesh, &steering, incoming).await;
            drop(place);
            if let Some(connection) = connection {
                serve(task_mesh, connection, &steering).await;
            }
        });
    }
}

async fn handshake(mesh: &Mesh, steering: &Steering, incoming: Incoming) -> Option<Connection> {
    let mut config = mesh.configs().server.clone();
    config.transport_config(transport::accepted(steering));
    let connecting = incoming.accept_with(Arc::new(config)).ok()?;
    match timeout(HANDSHAKE_TIMEOUT, connecting).await {
        Ok(Ok(connection)) => Some(connection),
        Ok(Err(error)) => {
            tracing::debug!(%error, "handshake failed");
            None
        }
        Err(_) => None,
    }
}

async fn serve(mesh: Arc<Mesh>, connection: Connection, steering: &Steering) {
    let Some(data) = connection.handshake_data() else { return };
    let protocol = data.downcast::<HandshakeData>().ok().and_then(|data| data.protocol);
    match protocol.as_deref() {
        Some(CLIENT_ALPN) => entry::serve(mesh, connection).await,
        Some(HOP_ALPN) => relay::serve(mesh, connection).await,
        Some(alpn) => {
            let is = |named: fn(Lane) -> Option<&'static [u8]>| {
                Lane::ALL.iter().copied().find(|lane| named(*lane) == Some(alpn))
            };
            if let Some(lane) = is(|lane| Some(lane_alpn(lane))) {
                steering.serve(lane);
                egress::serve(mesh, connection, lane).await;
            } else if let Some(lane) = is(channels_alpn) {
                steering.serve(lane);
                entry::join_lane(mesh, connection, lane).await;
            } else {
                close(&connection, Close::Refused(RefusalCode::Malformed));
            }
        }
        None => close(&connection, Close::Refused(RefusalCode::Malformed)),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    /// How often a port was tried when `taken` of them were in use for TCP, and what came of it.
    fn tries(listen: SocketAddr, taken: u32) -> (u32, Result<(), io::ErrorKind>) {
        let mut tries = 0;
        let found = on_one_port(&Kernel, listen, |_| {
            tries += 1;
            if tries <= taken { Err(io::ErrorKind::AddrInUse.into()) } else { Ok(()) }
        });
        let outcome = found.map(|(_, found)| found).map_err(|error| error.kind());
        (tries, outcome)
    }

    #[tokio::test]
    async fn another_port_is_chosen_so_often_and_a_configured_one_is_not_changed() {
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let in_use = Err(io::ErrorKind::AddrInUse);
        assert_eq!(tries(any, PORT_ATTEMPTS - 1), (PORT_ATTEMPTS, Ok(())));
        assert_eq!(tries(any, u32::MAX), (PORT_ATTEMPTS, in_use));
        let free = Kernel.udp(any).unwrap().local_addr().unwrap();
        assert_eq!(tries(free, 1), (1, in_use));
    }
}
