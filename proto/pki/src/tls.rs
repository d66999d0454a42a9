//! rustls configurations: TLS 1.3 only, the `ring` provider, the cluster's CA as the only root.
//!
//! Sessions are never resumed: a resumed handshake skips the peer's certificate, and with it
//! expiry and revocation.

mod pinned;

use std::sync::Arc;

use rap_proto::{Digest, key::LocalKey};
use rustls::{
    CipherSuite, ClientConfig, ConfigBuilder, ConfigSide, RootCertStore, ServerConfig,
    WantsVerifier,
    client::Resumption,
    crypto::CryptoProvider,
    server::{NoServerSessionStorage, VerifierBuilderError, WebPkiClientVerifier},
    version::TLS13,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

/// The certificates that a verifier trusts.
pub type Roots = Arc<RootCertStore>;

/// What this side presents: its chain (DER, leaf first) and the leaf's key.
#[derive(Debug, Clone)]
pub struct Identity {
    pub chain: Vec<Vec<u8>>,
    pub key: LocalKey,
}

/// What a server asks of its clients.
#[derive(Debug, Clone)]
pub enum ClientAuth {
    /// No certificate.
    None,
    /// None, or one that verifies against these roots: a wrong one ends the handshake. Whoever
    /// needs a node behind the connection checks that a certificate was presented.
    Optional(Roots),
}

#[derive(Debug, Clone, thiserror::Error)]
pub enum TlsError {
    #[error("no usable trust root: {0}")]
    Roots(rustls::Error),
    #[error("the client verifier cannot be built: {0}")]
    Verifier(#[from] VerifierBuilderError),
    #[error("the certificate and its key cannot be used: {0}")]
    Identity(rustls::Error),
}

/// The `ring` provider, passed to each configuration so that nothing is process-wide. AES-128-GCM
/// comes first, the suite that every implementation has (RFC 8446, section 9.1): its longer
/// sibling costs more for each byte and protects no better as long as the key exchange is of 128
/// bits.
pub fn provider() -> Arc<CryptoProvider> {
    let mut provider = rustls::crypto::ring::default_provider();
    provider
        .cipher_suites
        .sort_by_key(|suite| suite.suite() != CipherSuite::TLS13_AES_128_GCM_SHA256);
    Arc::new(provider)
}

/// Trusts exactly these CA certificates (DER).
pub fn roots<C: AsRef<[u8]>>(authorities: &[C]) -> Result<Roots, TlsError> {
    let mut store = RootCertStore::empty();
    for der in authorities {
        store.add(CertificateDer::from(der.as_ref())).map_err(TlsError::Roots)?;
    }
    if store.is_empty() {
        return Err(TlsError::Roots(rustls::Error::General("no authority given".to_owned())));
    }
    Ok(Arc::new(store))
}

/// A server that presents `identity` and speaks one of `alpn`.
pub fn server(
    identity: &Identity,
    client_auth: ClientAuth,
    alpn: &[&[u8]],
) -> Result<ServerConfig, TlsError> {
    let builder = tls13(ServerConfig::builder_with_provider(provider()));
    let builder = match client_auth {
        ClientAuth::None => builder.with_no_client_auth(),
        ClientAuth::Optional(roots) => builder.with_client_cert_verifier(
            WebPkiClientVerifier::builder_with_provider(roots, provider())
                .clear_root_hint_subjects()
                .allow_unauthenticated()
                .build()?,
        ),
    };
    let mut config =
        builder.with_single_cert(chain(identity), key(identity)).map_err(TlsError::Identity)?;
    config.alpn_protocols = protocols(alpn);
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}

/// A client that trusts `roots`, and presents `identity` when it is asked for one.
pub fn client(
    roots: Roots,
    identity: Option<&Identity>,
    alpn: &[&[u8]],
) -> Result<ClientConfig, TlsError> {
    let builder =
        tls13(ClientConfig::builder_with_provider(provider())).with_root_certificates(roots);
    let config = match identity {
        None => builder.with_no_client_auth(),
        Some(identity) => builder
            .with_client_auth_cert(chain(identity), key(identity))
            .map_err(TlsError::Identity)?,
    };
    Ok(finish_client(config, alpn))
}

/// A client that knows its cluster by nothing but the CA certificate's SHA-256: the server must
/// present that certificate in its chain, and its own must verify against it under the name that
/// was dialled.
pub fn pinned_client(authority: Digest, alpn: &[&[u8]]) -> ClientConfig {
    let config = tls13(ClientConfig::builder_with_provider(provider()))
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(pinned::PinnedAuthority::new(authority)))
        .with_no_client_auth();
    finish_client(config, alpn)
}

fn tls13<S: ConfigSide>(
    builder: ConfigBuilder<S, rustls::WantsVersions>,
) -> ConfigBuilder<S, WantsVerifier> {
    builder.with_protocol_versions(&[&TLS13]).expect("the ring provider has TLS 1.3 suites")
}

fn finish_client(mut config: ClientConfig, alpn: &[&[u8]]) -> ClientConfig {
    config.alpn_protocols = protocols(alpn);
    config.resumption = Resumption::disabled();
    config
}

fn protocols(alpn: &[&[u8]]) -> Vec<Vec<u8>> {
    alpn.iter().map(|protocol| protocol.to_vec()).collect()
}

fn chain(identity: &Identity) -> Vec<CertificateDer<'static>> {
    identity.chain.iter().map(|der| CertificateDer::from(der.clone())).collect()
}

fn key(identity: &Identity) -> PrivateKeyDer<'static> {
    PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(identity.key.to_der().to_vec()))
}
