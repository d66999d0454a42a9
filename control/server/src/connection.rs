//! What TLS proved about a connection, handed to every request on it.

use std::{any::Any, io, net::Ipv4Addr, time::Duration};

use actix_tls::accept::rustls_0_23::TlsStream;
use actix_web::{
    HttpMessage as _, HttpRequest,
    dev::{Extensions, ServiceResponse},
    http::ConnectionType,
    rt::net::TcpStream,
};
use rap_control_core::rate::AddressBlock;
use rap_pki::PeerIdentity;
use rap_proto::wire::node_api::ENROLL_EXPORTER_LABEL;
use socket2::SockRef;

/// How much of a reply is made before some of it was sent, in bytes.
pub(crate) const MAX_WRITE_BUFFER_BYTES: usize = 16 * 1024;
/// How much the kernel holds of what it could not send yet, in bytes.
const MAX_UNSENT_BYTES: u32 = 64 * 1024;

/// A connection's client certificate, which TLS verified against the cluster's CA, and the
/// value that only its two ends can export (RFC 8446, section 7.5).
#[derive(Debug, Clone)]
pub(crate) struct PeerTls {
    pub(crate) identity: Option<PeerIdentity>,
    pub(crate) exported: Option<[u8; 32]>,
}

/// Who asks showed a valid login or API token: kept among what belongs to the request.
#[derive(Debug, Clone, Copy)]
struct Known;

/// Whoever asks this is somebody.
pub(crate) fn know(request: &HttpRequest) {
    request.extensions_mut().insert(Known);
}

/// A connection waits for more of a node that showed its certificate, and of a caller who is known. That
/// of anybody else is closed behind the answer: nobody has idle connections kept without a name.
pub(crate) fn close_behind_strangers(mut response: ServiceResponse) -> ServiceResponse {
    let request = response.request();
    let shown = request.conn_data::<PeerTls>().and_then(|tls| tls.identity.as_ref());
    if shown.is_none() && !request.extensions().contains::<Known>() {
        response.response_mut().head_mut().set_connection_type(ConnectionType::Close);
    }
    response
}

/// The server's `on_connect` hook. `unread` is how long the other end may take nothing.
pub(crate) fn remember(connection: &dyn Any, extensions: &mut Extensions, unread: Duration) {
    let Some(stream) = connection.downcast_ref::<TlsStream<TcpStream>>() else { return };
    let (socket, session) = stream.get_ref();
    if let Err(error) = bound(socket, unread) {
        tracing::warn!(%error, "a connection is not bounded");
    }
    let identity = session
        .peer_certificates()
        .and_then(<[_]>::first)
        .and_then(|leaf| PeerIdentity::from_leaf(leaf).ok());
    let exported = session.export_keying_material([0; 32], ENROLL_EXPORTER_LABEL, None).ok();
    extensions.insert(PeerTls { identity, exported });
}

/// Whoever does not read is held in little memory, and not for long: the kernel gives the
/// connection up when data stays unacknowledged, or unsent before a closed window, for that long.
fn bound(socket: &TcpStream, unread: Duration) -> io::Result<()> {
    let socket = SockRef::from(socket);
    socket.set_tcp_notsent_lowat(MAX_UNSENT_BYTES)?;
    socket.set_tcp_user_timeout(Some(unread))
}

/// Where a request comes from, by the connection alone: what headers say anybody can write.
pub(crate) fn address(request: &HttpRequest) -> AddressBlock {
    AddressBlock::of(request.peer_addr().map_or(Ipv4Addr::UNSPECIFIED.into(), |peer| peer.ip()))
}
