//! The configurations of QUIC and of TLS over TCP that follow from a node's identity and the cluster's authorities.

use std::sync::Arc;

use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use rap_mesh_core::{Caller, View};
use rap_pki::{
    PeerIdentity,
    tls::{self, ClientAuth, Identity, Roots, TlsError},
};
use rap_proto::{
    Lane, Timestamp,
    key::LocalKey,
    wire::{CHANNEL_ALPN, CLIENT_ALPN, HOP_ALPN, channels_alpn, lane_alpn, through::THROUGH_ALPN},
};
use rustls_pki_types::CertificateDer;

use crate::{congestion::Steering, transport};

/// Handshakes that are buffered before the endpoint looks at them.
const MAX_INCOMING: usize = 1024;

/// One identity under one set of authorities.
pub(crate) struct NodeConfigs {
    pub(crate) server: quinn::ServerConfig,
    pub(crate) interactive: quinn::ClientConfig,
    pub(crate) media: quinn::ClientConfig,
    pub(crate) bulk: quinn::ClientConfig,
    pub(crate) hop: quinn::ClientConfig,
    pub(crate) tcp_server: Arc<rustls::ServerConfig>,
    tcp_interactive: Arc<rustls::ClientConfig>,
    tcp_media: Arc<rustls::ClientConfig>,
    tcp_bulk: Arc<rustls::ClientConfig>,
    pub(crate) tcp_hop: Arc<rustls::ClientConfig>,
    /// What this node signs vouchers with.
    pub(crate) key: LocalKey,
}

impl NodeConfigs {
    pub(crate) fn build(identity: &Identity, view: &View) -> Result<Self, TlsError> {
        let authorities: Vec<&[u8]> =
            view.trust.authorities.iter().map(|der| der.as_slice()).collect();
        let roots = tls::roots(&authorities)?;
        let lane = |lane| dialled(&roots, identity, lane_alpn(lane), transport::dialled_lane(lane));
        Ok(Self {
            server: accepted(&roots, identity)?,
            interactive: lane(Lane::Interactive)?,
            media: lane(Lane::Media)?,
            bulk: lane(Lane::Bulk)?,
            hop: dialled(&roots, identity, HOP_ALPN, transport::dialled_hop())?,
            tcp_server: Arc::new(tcp_accepted(&roots, identity)?),
            tcp_interactive: tcp_dialled(&roots, identity, lane_alpn(Lane::Interactive))?,
            tcp_media: tcp_dialled(&roots, identity, lane_alpn(Lane::Media))?,
            tcp_bulk: tcp_dialled(&roots, identity, lane_alpn(Lane::Bulk))?,
            tcp_hop: tcp_dialled(&roots, identity, HOP_ALPN)?,
            key: identity.key.clone(),
        })
    }

    pub(crate) const fn tcp_lane(&self, lane: Lane) -> &Arc<rustls::ClientConfig> {
        match lane {
            Lane::Interactive => &self.tcp_interactive,
            Lane::Media => &self.tcp_media,
            Lane::Bulk => &self.tcp_bulk,
        }
    }

    pub(crate) const fn lane(&self, lane: Lane) -> &quinn::ClientConfig {
        match lane {
            Lane::Interactive => &self.interactive,
            Lane::Media => &self.media,
            Lane::Bulk => &self.bulk,
        }
    }
}

/// A client's configuration: it trusts the cluster and shows no certificate.
pub(crate) fn client_config(authorities: &[Vec<u8>]) -> Result<quinn::ClientConfig, TlsError> {
    let config = tls::client(tls::roots(authorities)?, None, &[CLIENT_ALPN])?;
    Ok(quic_client(config, transport::dialled_client()))
}

/// The same for the channels of one lane, unless they are on the session's own connection.
pub(crate) fn channels_config(
    authorities: &[Vec<u8>],
    lane: Lane,
) -> Result<Option<quinn::ClientConfig>, TlsError> {
    let Some(alpn) = channels_alpn(lane) else { return Ok(None) };
    let config = tls::client(tls::roots(authorities)?, None, &[alpn])?;
    Ok(Some(quic_client(config, transport::dialled_channels(lane))))
}

/// The same over TCP: for the connection that a session begins with, for its channels, and for its
/// through flows.
pub(crate) fn tcp_client_configs(
    authorities: &[Vec<u8>],
) -> Result<[Arc<rustls::ClientConfig>; 3], TlsError> {
    let roots = tls::roots(authorities)?;
    let config = |alpn| tls::client(roots.clone(), None, &[alpn]).map(Arc::new);
    let mut through = tls::client(roots.clone(), None, &[THROUGH_ALPN])?;
    // Nobody on the client's network needs to know which egress it speaks with.
    through.enable_sni = false;
    Ok([config(CLIENT_ALPN)?, config(CHANNEL_ALPN)?, Arc::new(through)])
}

/// The node at the other end, when it showed a node certificate.
pub(crate) fn caller(connection: &quinn::Connection) -> Option<Caller> {
    let chain = connection.peer_identity()?.downcast::<Vec<CertificateDer<'static>>>().ok()?;
    let PeerIdentity { cluster, node, key, .. } = PeerIdentity::from_leaf(chain.first()?).ok()?;
    Some(Caller { cluster, node, key })
}

/// The end of the certificate that the node at the other end showed.
pub(crate) fn certificate_until(connection: &quinn::Connection) -> Option<Timestamp> {
    let chain = connection.peer_identity()?.downcast::<Vec<CertificateDer<'static>>>().ok()?;
    PeerIdentity::from_leaf(chain.first()?).ok().map(|identity| identity.not_after)
}

fn accepted(roots: &Roots, identity: &Identity) -> Result<quinn::ServerConfig, TlsError> {
    let lanes = Lane::ALL.iter().map(|lane| lane_alpn(*lane));
    let channels = Lane::ALL.iter().filter_map(|lane| channels_alpn(*lane));
    let alpn: Vec<&[u8]> =
        [CLIENT_ALPN, HOP_ALPN].into_iter().chain(lanes).chain(channels).collect();
    let config = tls::server(identity, ClientAuth::Optional(roots.clone()), &alpn)?;
    let crypto = QuicServerConfig::try_from(config)
        .expect("the ring provider has the suite that QUIC's first packets use");
    let mut config = quinn::ServerConfig::with_crypto(Arc::new(crypto));
    config.transport_config(transport::accepted(&Steering::default())).max_incoming(MAX_INCOMING);
    Ok(config)
}

fn tcp_accepted(roots: &Roots, identity: &Identity) -> Result<rustls::ServerConfig, TlsError> {
    let lanes = Lane::ALL.iter().map(|lane| lane_alpn(*lane));
    let others = [CLIENT_ALPN, CHANNEL_ALPN, HOP_ALPN, THROUGH_ALPN];
    let alpn: Vec<&[u8]> = others.into_iter().chain(lanes).collect();
    tls::server(identity, ClientAuth::Optional(roots.clone()), &alpn)
}

fn tcp_dialled(
    roots: &Roots,
    identity: &Identity,
    alpn: &[u8],
) -> Result<Arc<rustls::ClientConfig>, TlsError> {
    Ok(Arc::new(tls::client(roots.clone(), Some(identity), &[alpn])?))
}

fn dialled(
    roots: &Roots,
    identity: &Identity,
    alpn: &[u8],
    transport: Arc<quinn::TransportConfig>,
) -> Result<quinn::ClientConfig, TlsError> {
    Ok(quic_client(tls::client(roots.clone(), Some(identity), &[alpn])?, transport))
}

fn quic_client(
    config: rustls::ClientConfig,
    transport: Arc<quinn::TransportConfig>,
) -> quinn::ClientConfig {
    let crypto = QuicClientConfig::try_from(config)
        .expect("the ring provider has the suite that QUIC's first packets use");
    let mut config = quinn::ClientConfig::new(Arc::new(crypto));
    config.transport_config(transport);
    config
}
