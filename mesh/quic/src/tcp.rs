//! TLS over TCP, on the port of the node's UDP socket: what a `tcp` carrier's flows, clients whose
//! network lets no UDP through, and relayed streams come in on.
//!
//! A connection begins with a TLS ClientHello, or with the preamble of a stream that this node was
//! asked to relay. Its ALPN says what it is for, with the same names as on QUIC.

mod ahead;
mod controllers;
mod sending;

use std::{future::Future, io, net::SocketAddr, sync::Arc, time::Duration};

use rap_mesh_core::{Caller, ended::Close};
use rap_pki::{PeerIdentity, node_server_name};
use rap_proto::{
    Lane, RefusalCode, Timestamp,
    snapshot::Peer,
    token::EXPORTER_LABEL,
    wire::{CHANNEL_ALPN, CLIENT_ALPN, HOP_ALPN, PREAMBLE, lane_alpn, through::THROUGH_ALPN},
};
use rustls_pki_types::ServerName;
use socket2::{SockRef, TcpKeepalive};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};

use crate::{
    egress, entry,
    frames::HELLO_TIMEOUT,
    mesh::Mesh,
    pipe::{Inlet, Outlet, pipe},
    relay,
    tally::Limit,
};

use ahead::ReadAhead;

pub use controllers::ControllerCounts;
pub(crate) use controllers::Controllers;
pub use sending::BbrSupport;
pub(crate) use sending::InLane;

pub(crate) type TlsIo = TlsStream<ReadAhead<TcpStream>>;

/// How long a TCP connection with its TLS handshake may take.
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_millis(1000);
/// A peer that says nothing is asked whether it is there: first after this, then again and again.
const KEEPALIVE: Duration = Duration::from_secs(5);
/// Bytes that are not acknowledged, and questions that are not answered, for this long mean that
/// the path is gone (RFC 5482).
const USER_TIMEOUT: Duration = Duration::from_secs(20);
/// How long to wait after the kernel had no descriptor or memory for a connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// The first byte of a TLS connection: a handshake record (RFC 8446, section 5.1).
const HANDSHAKE_RECORD: u8 = 22;

/// A TLS connection that was accepted or made.
pub(crate) struct Secured {
    pub(crate) outlet: Outlet,
    pub(crate) inlet: Inlet,
    pub(crate) remote: SocketAddr,
    /// The other side's node, when it showed a certificate of one.
    pub(crate) caller: Option<Caller>,
    /// The end of that certificate.
    pub(crate) certificate_until: Option<Timestamp>,
    /// This connection's exported value (RFC 8446, section 7.5).
    pub(crate) exported: [u8; 32],
}

impl Secured {
    fn new(io: TlsIo, place: Option<OwnedSemaphorePermit>) -> io::Result<Self> {
        let mut exported = [0; 32];
        let remote = io.get_ref().0.get_ref().peer_addr()?;
        let (shown, exporting) = match &io {
            TlsStream::Client(stream) => {
                let tls = stream.get_ref().1;
                (peer(tls), tls.export_keying_material(&mut exported, EXPORTER_LABEL, Some(b"")))
            }
            TlsStream::Server(stream) => {
                let tls = stream.get_ref().1;
                (peer(tls), tls.export_keying_material(&mut exported, EXPORTER_LABEL, Some(b"")))
            }
        };
        exporting.map_err(io::Error::other)?;
        let (outlet, inlet) = pipe(io, place);
        let (outlet, inlet) = (Outlet::Tcp(outlet), Inlet::Tcp(inlet));
        let (caller, certificate_until) = shown.unzip();
        Ok(Self { outlet, inlet, remote, caller, certificate_until, exported })
    }
}

/// Binds the port on which a node's UDP socket listens.
pub(crate) fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    use socket2::{Domain, Protocol, Socket, Type};
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    // A node that starts again takes its port back from connections that are not quite over.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(1024)?;
    TcpListener::from_std(socket.into())
}

/// Serves connections for as long as the node runs.
pub(crate) async fn accept(mesh: Arc<Mesh>, listener: TcpListener, places: Arc<Semaphore>) {
    let handshakes = Arc::new(Semaphore::new(mesh.limits.handshakes));
    loop {
        let accepted = tokio::select! {
            biased;
            () = mesh.leaving.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let (stream, from) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::debug!(%error, "a TCP connection was not accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let (Ok(handshake), Ok(place)) =
            (handshakes.clone().try_acquire_owned(), places.clone().try_acquire_owned())
        else {
            mesh.tally.reached(Limit::TcpConnections);
            continue;
        };
        let task_mesh = mesh.clone();
        mesh.bulk.spawn(async move {
            adjust(&stream);
            let begun = timeout(HELLO_TIMEOUT, begin(&task_mesh, stream, place)).await;
            drop(handshake);
            match begun {
                Ok(Ok(Begun::Secured(secured, protocol))) => {
                    serve(task_mesh, secured, &protocol).await;
                }
                Ok(Ok(Begun::Relayed(stream, ticket, place))) => {
                    let came = task_mesh.tickets.came(&ticket, (stream, place));
                    if let Err((stream, place)) = came {
                        relay::join(task_mesh, stream, from, ticket, place).await;
                    }
                }
                Ok(Err(error)) => tracing::debug!(%error, "a TCP connection came to nothing"),
                Err(_) => {}
            }
        });
    }
}

/// Connects to a peer and makes sure that it is the one that the view means.
pub(crate) async fn connect(
    config: Arc<rustls::ClientConfig>,
    address: SocketAddr,
    peer: &Peer,
) -> io::Result<Secured> {
    secure_with(config, dialled(address).await?, peer).await
}

/// The same on a connection that is there, such as one through a relay.
pub(crate) async fn secure_with(
    config: Arc<rustls::ClientConfig>,
    stream: TcpStream,
    peer: &Peer,
) -> io::Result<Secured> {
    let secured = secure(config, stream, &node_server_name(peer.node)).await?;
    let meant = secured.caller.is_some_and(|it| it.node == peer.node && it.key == peer.key);
    if meant { Ok(secured) } else { Err(io::ErrorKind::PermissionDenied.into()) }
}

/// Connects to whoever proves that it is `name`.
pub(crate) async fn connect_to(
    config: Arc<rustls::ClientConfig>,
    address: SocketAddr,
    name: &str,
) -> io::Result<Secured> {
    secure(config, dialled(address).await?, name).await
}

/// A plain connection, with what every one of ours is set to.
pub(crate) async fn dialled(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address).await?;
    adjust(&stream);
    Ok(stream)
}

/// A [`CONNECT_TIMEOUT`] that ends in an error of its own.
pub(crate) async fn within<T>(connecting: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    timeout(CONNECT_TIMEOUT, connecting)
        .await
        .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

/// TLS with whoever proves at the other end that it is `name`.
pub(crate) async fn secure(
    config: Arc<rustls::ClientConfig>,
    stream: TcpStream,
    name: &str,
) -> io::Result<Secured> {
    let name = ServerName::try_from(name.to_owned()).map_err(io::Error::other)?;
    let stream = ReadAhead::new(stream);
    let tls = TlsConnector::from(config).connect(name, stream).await?;
    Secured::new(tls.into(), None)
}

/// Connects to a relay that called for it, and serves the lane that comes through as if it had been
/// accepted.
pub(crate) async fn connect_back(
    mesh: Arc<Mesh>,
    (relay, ticket): (SocketAddr, [u8; 32]),
    connecting: OwnedSemaphorePermit,
    place: OwnedSemaphorePermit,
) {
    let begun = timeout(HELLO_TIMEOUT, async {
        let stream = within(joined(relay, ticket)).await?;
        accept_tls(&mesh, stream, place).await
    });
    let begun = begun.await;
    drop(connecting);
    match begun {
        Ok(Ok((secured, protocol))) => {
            match Lane::ALL.iter().find(|lane| lane_alpn(**lane) == protocol) {
                Some(lane) => egress::serve_tcp(mesh, secured, *lane).await,
                None if protocol == THROUGH_ALPN => egress::serve_through(mesh, secured).await,
                // Clients of an entry and hops have no business behind a relay.
                None => {
                    mesh.refused(RefusalCode::Malformed, None);
                    refuse(secured, RefusalCode::Malformed);
                }
            }
        }
        Ok(Err(error)) => tracing::debug!(%error, "a connection back came to nothing"),
        Err(_) => {}
    }
}

/// A connection to a relay, or to an entry, that gave this ticket.
pub(crate) async fn joined(relay: SocketAddr, ticket: [u8; 32]) -> io::Result<TcpStream> {
    use tokio::io::AsyncWriteExt as _;
    let mut stream = dialled(relay).await?;
    stream.write_all(&[&PREAMBLE[..], &ticket].concat()).await?;
    Ok(stream)
}

enum Begun {
    Secured(Secured, Vec<u8>),
    /// The other side of a stream that this node relays.
    Relayed(TcpStream, [u8; 32], OwnedSemaphorePermit),
}

async fn begin(
    mesh: &Mesh,
    mut stream: TcpStream,
    place: OwnedSemaphorePermit,
) -> io::Result<Begun> {
    use tokio::io::AsyncReadExt as _;
    let mut first = [0];
    if stream.peek(&mut first).await? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    if first != [HANDSHAKE_RECORD] {
        let mut preamble = [0; PREAMBLE.len()];
        stream.read_exact(&mut preamble).await?;
        if preamble != *PREAMBLE {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let mut ticket = [0; 32];
        stream.read_exact(&mut ticket).await?;
        return Ok(Begun::Relayed(stream, ticket, place));
    }
    let (secured, protocol) = accept_tls(mesh, stream, place).await?;
    Ok(Begun::Secured(secured, protocol))
}

/// The accepting side of TLS, and the protocol that the other side asked for.
async fn accept_tls(
    mesh: &Mesh,
    stream: TcpStream,
    place: OwnedSemaphorePermit,
) -> io::Result<(Secured, Vec<u8>)> {
    let config = mesh.configs().tcp_server.clone();
    let stream = ReadAhead::new(stream);
    let tls = TlsAcceptor::from(config).accept(stream).await?;
    let protocol = tls.get_ref().1.alpn_protocol().unwrap_or_default().to_vec();
    Ok((Secured::new(tls.into(), Some(place))?, protocol))
}

async fn serve(mesh: Arc<Mesh>, secured: Secured, protocol: &[u8]) {
    match protocol {
        CLIENT_ALPN => entry::serve_tcp(mesh, secured).await,
        CHANNEL_ALPN => entry::join(mesh, secured).await,
        HOP_ALPN => relay::serve_tcp(mesh, secured).await,
        THROUGH_ALPN => egress::serve_through(mesh, secured).await,
        alpn => match Lane::ALL.iter().find(|lane| lane_alpn(**lane) == alpn) {
            Some(lane) => egress::serve_tcp(mesh, secured, *lane).await,
            None => refuse(secured, RefusalCode::Malformed),
        },
    }
}

/// Closes a connection that nothing was agreed on yet.
pub(crate) fn refuse(mut secured: Secured, code: RefusalCode) {
    secured.outlet.reset(Close::Refused(code).code());
}

fn peer<T>(tls: &rustls::ConnectionCommon<T>) -> Option<(Caller, Timestamp)> {
    let leaf = tls.peer_certificates()?.first()?;
    let PeerIdentity { cluster, node, key, not_after, .. } = PeerIdentity::from_leaf(leaf).ok()?;
    Some((Caller { cluster, node, key }, not_after))
}

fn adjust(stream: &TcpStream) {
    // A kernel that knows one of these less still carries the bytes.
    let _ = stream.set_nodelay(true);
    let socket = SockRef::from(stream);
    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE);
    let _ = socket.set_tcp_keepalive(&keepalive);
    let _ = socket.set_tcp_user_timeout(Some(USER_TIMEOUT));
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::net::Ipv4Addr;

    use super::*;

    /// What is not acknowledged is given up by the kernel: no loss of ours can be waited for here.
    #[tokio::test]
    async fn the_kernel_gives_up_a_peer_that_says_nothing_for_so_long() {
        let listener = listen((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        let stream = dialled(listener.local_addr().unwrap()).await.unwrap();
        let socket = SockRef::from(&stream);
        assert_eq!(socket.tcp_user_timeout().unwrap(), Some(USER_TIMEOUT));
        assert!(socket.keepalive().unwrap());
        assert_eq!(socket.tcp_keepalive_time().unwrap(), KEEPALIVE);
        assert_eq!(socket.tcp_keepalive_interval().unwrap(), KEEPALIVE);
    }
}
