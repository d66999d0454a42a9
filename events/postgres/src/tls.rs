//! Who must prove what on the way to the database, and the tail's side of TLS.
//!
//! The URL says it, as `libpq` reads it: `sslmode=verify-full` with `sslrootcert`, or nothing for
//! a server on this machine. Whatever encrypts without knowing to whom is refused.

use std::{
    future::Future,
    io,
    net::IpAddr,
    path::{Path, PathBuf},
    pin::Pin,
    str::FromStr as _,
    sync::Arc,
    task::{Context, Poll},
};

use rap_pki::{pem, tls};
use rustls::{
    ClientConfig,
    pki_types::{InvalidDnsNameError, ServerName},
};
use sqlx::postgres::{PgConnectOptions, PgSslMode};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_postgres::{
    Config, Socket,
    config::{Host, SslMode},
    tls::{ChannelBinding, MakeTlsConnect, TlsConnect, TlsStream},
};
use tokio_rustls::TlsConnector;

use crate::ConnectError;

/// The parameters of a URL that are about TLS.
const MODE: &str = "sslmode";
const AUTHORITY: &str = "sslrootcert";

/// Where the database is, for the pool, for the reader, the tail, the appender and the teller.
#[derive(Clone)]
pub(crate) struct Place {
    pub(crate) pool: PgConnectOptions,
    pub(crate) tail: Config,
    pub(crate) writer: Config,
    pub(crate) teller: Config,
    pub(crate) reader: Config,
    /// How the server proves who it is; `None` on this machine.
    pub(crate) tls: Option<Arc<ClientConfig>>,
}

impl Place {
    /// Reads a URL, and the CA certificates that it names.
    pub(crate) fn read(url: &str) -> Result<Self, ConnectError> {
        let (bare, parameters) = split(url)?;
        let pool = PgConnectOptions::from_str(url).map_err(|_| ConnectError::Url)?;
        let tail = Config::from_str(&bare).map_err(|_| ConnectError::Url)?;
        match parameters.mode.as_deref() {
            None | Some("disable") => match remote_host(&pool, &tail) {
                Some(host) => Err(ConnectError::Insecure { host }),
                None => Ok(Self::new(pool.ssl_mode(PgSslMode::Disable), tail, None)),
            },
            Some("verify-full") => {
                let path = parameters.authority.ok_or(ConnectError::NoAuthority)?;
                let tls = Some(Arc::new(verified(&path)?));
                let pool = pool.ssl_mode(PgSslMode::VerifyFull).ssl_root_cert(&path);
                let mut tail = tail;
                tail.ssl_mode(SslMode::Require);
                Ok(Self::new(pool, tail, tls))
            }
            Some(_) => Err(ConnectError::Mode),
        }
    }
}

impl Place {
    fn new(pool: PgConnectOptions, tail: Config, tls: Option<Arc<ClientConfig>>) -> Self {
        let [writer, teller, reader] = [(); 3].map(|()| tail.clone());
        Self { pool, writer, teller, reader, tail, tls }
    }

    /// Lets the server of another machine prove itself once, to exactly the authorities of
    /// `sslrootcert`: the pool believes those of the system too.
    pub(crate) async fn check_server(&self) -> Result<(), ConnectError> {
        let Some(tls) = &self.tls else { return Ok(()) };
        let checked = self.tail.connect(Verified(Arc::clone(tls))).await;
        checked.map(drop).map_err(|error| ConnectError::Unavailable(reason(&error)))
    }
}

/// An error with its causes: a refused certificate is one of those.
fn reason(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

#[derive(Default)]
struct Parameters {
    mode: Option<String>,
    authority: Option<PathBuf>,
}

/// The URL without its parameters about TLS, of which the tail's client knows only some, and
/// those parameters. Other spellings, which only the pool would understand, are refused.
fn split(url: &str) -> Result<(String, Parameters), ConnectError> {
    let Some((base, query)) = url.split_once('?') else {
        return Ok((url.to_owned(), Parameters::default()));
    };
    let mut parameters = Parameters::default();
    let mut others = Vec::new();
    for pair in query.split('&') {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        match name {
            MODE => parameters.mode = Some(value.to_owned()),
            AUTHORITY => parameters.authority = Some(PathBuf::from(decoded(value)?)),
            name if name.starts_with("ssl") => return Err(ConnectError::Url),
            _ => others.push(pair),
        }
    }
    let separator = if others.is_empty() { "" } else { "?" };
    Ok((format!("{base}{separator}{}", others.join("&")), parameters))
}

/// A value of a URL's query (RFC 3986, section 2.1).
fn decoded(value: &str) -> Result<String, ConnectError> {
    let mut bytes = Vec::new();
    let mut rest = value.bytes();
    while let Some(byte) = rest.next() {
        let mut digit = || rest.next().and_then(|digit| char::from(digit).to_digit(16));
        bytes.push(match byte {
            b'%' => match (digit(), digit()) {
                (Some(high), Some(low)) => u8::try_from(high * 16 + low).unwrap_or_default(),
                _ => return Err(ConnectError::Url),
            },
            plain => plain,
        });
    }
    String::from_utf8(bytes).map_err(|_| ConnectError::Url)
}

/// A host that is not this machine, as either client reads the URL.
fn remote_host(pool: &PgConnectOptions, tail: &Config) -> Option<String> {
    let of_pool = match pool.get_socket() {
        Some(_) => None,
        None => Some(pool.get_host().to_owned()),
    };
    let of_tail = tail.get_hosts().iter().filter_map(|host| match host {
        Host::Tcp(name) => Some(name.clone()),
        Host::Unix(_) => None,
    });
    let addresses = tail.get_hostaddrs().iter().map(IpAddr::to_string);
    of_pool.into_iter().chain(of_tail).chain(addresses).find(|host| !is_local(host))
}

fn is_local(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    // A path is a Unix socket's folder.
    host.starts_with('/')
        || host == "localhost"
        || bare.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// A client that believes a server of these authorities, under the name that was dialled.
fn verified(path: &Path) -> Result<ClientConfig, ConnectError> {
    let failed = |reason: String| ConnectError::Authority { path: path.to_owned(), reason };
    let authorities = pem::read(path).map_err(|error| failed(error.to_string()))?;
    let roots = tls::roots(&authorities).map_err(|error| failed(error.to_string()))?;
    tls::client(roots, None, &[]).map_err(|error| failed(error.to_string()))
}

/// Makes the tail's connections verified ones.
#[derive(Clone)]
pub(crate) struct Verified(pub(crate) Arc<ClientConfig>);

pub(crate) struct Handshake {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
}

/// A verified connection of the tail.
pub(crate) struct Encrypted(tokio_rustls::client::TlsStream<Socket>);

impl MakeTlsConnect<Socket> for Verified {
    type Stream = Encrypted;
    type TlsConnect = Handshake;
    type Error = InvalidDnsNameError;

    fn make_tls_connect(&mut self, host: &str) -> Result<Handshake, InvalidDnsNameError> {
        let name = ServerName::try_from(host.to_owned())?;
        Ok(Handshake { config: Arc::clone(&self.0), name })
    }
}

impl TlsConnect<Socket> for Handshake {
    type Stream = Encrypted;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Encrypted>> + Send>>;

    fn connect(self, socket: Socket) -> Self::Future {
        let connecting = TlsConnector::from(self.config).connect(self.name, socket);
        Box::pin(async move { connecting.await.map(Encrypted) })
    }
}

impl TlsStream for Encrypted {
    /// The server is known by its certificate; nothing is bound to it beyond that.
    fn channel_binding(&self) -> ChannelBinding {
        ChannelBinding::none()
    }
}

impl AsyncRead for Encrypted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, buffer)
    }
}

impl AsyncWrite for Encrypted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn refused(url: &str) -> ConnectError {
        Place::read(url).err().unwrap_or_else(|| panic!("{url} was accepted"))
    }

    #[test]
    fn this_machine_needs_no_tls_and_another_does() {
        for url in [
            "postgres://rap@%2Frun%2Fpostgresql/rap",
            "postgres://rap@localhost/rap?sslmode=disable",
            "postgres://rap@127.0.0.1:5433/rap",
            "postgres://rap@[::1]/rap?application_name=x",
            "postgres://rap@localhost/rap?host=/run/postgresql",
        ] {
            let place = Place::read(url).unwrap_or_else(|error| panic!("{url}: {error}"));
            assert!(place.tls.is_none());
        }
        for url in [
            "postgres://rap@db.example/rap",
            "postgres://rap@192.0.2.1/rap?sslmode=disable",
            "postgres://rap@localhost.example/rap",
            "postgres://rap@localhost/rap?host=db.example",
            "postgres://rap@localhost/rap?hostaddr=192.0.2.1",
        ] {
            let error = refused(url);
            assert!(matches!(error, ConnectError::Insecure { .. }), "{url}: {error:?}");
            assert!(error.to_string().contains("sslmode=verify-full"), "{error}");
        }
    }

    #[test]
    fn what_encrypts_without_knowing_to_whom_is_refused() {
        for mode in ["require", "prefer", "allow", "verify-ca", "VERIFY-FULL"] {
            let error = refused(&format!("postgres://rap@localhost/rap?sslmode={mode}"));
            assert!(matches!(error, ConnectError::Mode), "{mode}: {error:?}");
        }
        let error = refused("postgres://rap@db.example/rap?sslmode=verify-full");
        assert!(matches!(error, ConnectError::NoAuthority), "{error:?}");
        let error = refused("postgres://rap@db.example/rap?ssl-mode=disable");
        assert!(matches!(error, ConnectError::Url), "{error:?}");
    }

    #[test]
    fn the_authorities_are_read_and_bounded() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ca 1.pem");
        let name = path.display().to_string().replace(' ', "%20");
        let url =
            format!("postgres://x:canary@db.example/rap?sslmode=verify-full&sslrootcert={name}");
        let authority = |content: Option<Vec<u8>>| {
            if let Some(content) = content {
                std::fs::write(&path, content).unwrap();
            }
            match refused(&url) {
                error @ ConnectError::Authority { .. } => error.to_string(),
                other => panic!("{other:?}"),
            }
        };
        for content in [None, Some(b"no certificate".to_vec())] {
            let said = authority(content);
            assert!(said.contains("sslrootcert") && !said.contains("canary"), "{said}");
        }
        let longest = usize::try_from(pem::MAX_FILE_BYTES).unwrap();
        assert!(authority(Some(vec![b'-'; longest + 1])).contains("larger than"));
        assert!(!authority(Some(vec![b'-'; longest])).contains("larger than"));
    }
}
