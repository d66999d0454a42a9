//! What TLS proved about a connection, handed to every request on it.

use std::any::Any;

use actix_tls::accept::rustls_0_23::TlsStream;
use actix_web::{dev::Extensions, rt::net::TcpStream};
use rap_pki::PeerIdentity;
use rap_proto::wire::node_api::ENROLL_EXPORTER_LABEL;

/// A connection's client certificate, which TLS verified against the cluster's CA, and the
/// value that only its two ends can export (RFC 8446, section 7.5).
#[derive(Debug, Clone)]
pub(crate) struct PeerTls {
    pub(crate) identity: Option<PeerIdentity>,
    pub(crate) exported: Option<[u8; 32]>,
}

/// The server's `on_connect` hook.
pub(crate) fn remember(connection: &dyn Any, extensions: &mut Extensions) {
    let Some(stream) = connection.downcast_ref::<TlsStream<TcpStream>>() else { return };
    let (_, session) = stream.get_ref();
    let identity = session
        .peer_certificates()
        .and_then(<[_]>::first)
        .and_then(|leaf| PeerIdentity::from_leaf(leaf).ok());
    let exported = session.export_keying_material([0; 32], ENROLL_EXPORTER_LABEL, None).ok();
    extensions.insert(PeerTls { identity, exported });
}
