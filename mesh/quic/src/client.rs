//! The client's side: one connection to an entry, and channels on it or beside it.
//!
//! Where the network lets QUIC through, the session is a QUIC connection; its bulk channels are TLS connections of
//! their own, when the entry can be reached on TCP as well. Pictures, and bulk that is on QUIC, have a QUIC
//! connection each beside the session's. Where the network does not let it through, the session and all its
//! channels are on TCP. A network that ceases to let it through is noticed ([`ClientSession::in_doubt`]) long before
//! the connection is given up.
//!
//! ```text
//! let session = client::connect(options).await?;
//! let channel = session.open(OpenChannel { channel: Stream, lane: Interactive, … }).await?;
//! … read and write the channel, `session.refresh(token)` before the grant runs out …
//! session.close().await;
//! ```

mod channel;
mod doubted;
mod lanes;
mod lasting;
mod session;
mod through;

use std::{
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use lanes::LaneConnections;
use quinn::{Connection, Endpoint};
use rap_mesh_core::{
    carrier::Carrier,
    ended::Close,
    refusals::{refusal, worth_trying_elsewhere},
};
use rap_pki::tls::TlsError;
use rap_proto::{Signer, refusal::Refusal};

pub use crate::pieces::PIECES;
pub use channel::{BEST_WRITE, Channel, ChannelEnded, ChannelReader, ChannelWriter, end_reason};
pub use rap_proto::wire::client::OpenChannel;
pub use session::{ClientSession, OpenError, RefreshError, SessionEnd};

use crate::{
    Network,
    network::{Kernel, endpoint},
    race::race,
    tcp::{self, Secured},
    tls,
};

/// An address that has not answered by then is given up.
pub const DIAL_TIMEOUT: Duration = Duration::from_secs(4);
/// The delay before the next address joins the race.
const ADDRESS_STAGGER: Duration = Duration::from_millis(200);
/// How long QUIC is alone before TCP joins the race.
const TCP_DELAY: Duration = Duration::from_millis(800);
/// The most addresses that are tried, over all entries.
const MAX_ADDRESSES: usize = 32;

/// One entry as the control plane names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EntryAddress {
    /// The name in the entry's certificate.
    pub server_name: String,
    /// Best first.
    pub addresses: Vec<SocketAddr>,
}

impl EntryAddress {
    /// Whether this is one of its addresses, as a socket for both families may write it.
    pub fn is_at(&self, address: SocketAddr) -> bool {
        let plain = |address: SocketAddr| (address.ip().to_canonical(), address.port());
        self.addresses.iter().any(|known| plain(*known) == plain(address))
    }
}

pub struct ConnectOptions {
    /// Tried in order; the next joins when one does not answer or cannot serve the session.
    pub entries: Vec<EntryAddress>,
    /// The cluster's CA certificates, DER.
    pub authorities: Vec<Vec<u8>>,
    /// The access token's envelope, as control gave it.
    pub token: Vec<u8>,
    /// The key that the token is bound to.
    pub key: Arc<dyn Signer>,
    /// Use this carrier alone. By itself, a client uses both.
    pub carrier: Option<Carrier>,
    /// Let bulk run end to end with the egress, where the entry opens ways there.
    pub through: bool,
}

#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    #[error("no UDP socket can be opened: {0}")]
    Socket(io::Error),
    #[error("the cluster's certificates cannot be used: {0}")]
    Authorities(#[from] TlsError),
    /// No entry answered, or none proved that it belongs to the cluster.
    #[error("no entry can be reached: {0}")]
    Unreachable(String),
    /// An entry said no. The code decides what to do: a new token, or nothing.
    #[error(transparent)]
    Refused(#[from] Refusal),
}

/// Connects to the first entry that answers and accepts the token.
pub async fn connect(options: ConnectOptions) -> Result<ClientSession, ConnectError> {
    connect_over(&Kernel, options).await
}

/// The same over a network that is not the machine's.
pub async fn connect_over(
    network: &dyn Network,
    options: ConnectOptions,
) -> Result<ClientSession, ConnectError> {
    let mut endpoint = bind(network).map_err(ConnectError::Socket)?;
    endpoint.set_default_client_config(tls::client_config(&options.authorities)?);
    let [first, channels, through] = tls::tcp_client_configs(&options.authorities)?;
    let dialling = Dialling { endpoint, first, carrier: options.carrier };
    let lane_configs = lanes::lane_configs(&options.authorities)?;
    let mut entries = options.entries;
    let mut refused = None;
    loop {
        let (entry, line, address) = match dial(&dialling, &entries).await {
            Ok(dialled) => dialled,
            Err(unreachable) => return Err(refused.unwrap_or(unreachable)),
        };
        let joining = (options.carrier != Some(Carrier::Quic)).then(|| Joining {
            first: dialling.first.clone(),
            config: channels.clone(),
            through: options.through.then(|| through.clone()),
            address,
            server_name: entries[entry].server_name.clone(),
        });
        let lanes = LaneConnections::to(&entries[entry].server_name, &lane_configs);
        let shown = (options.token.clone(), options.key.clone());
        match ClientSession::introduce(line, (joining, lanes), shown).await {
            Err(ConnectError::Refused(refusal)) if worth_trying_elsewhere(refusal.code) => {
                entries.remove(entry);
                refused = Some(ConnectError::Refused(refusal));
            }
            outcome => return outcome,
        }
    }
}

fn bind(network: &dyn Network) -> io::Result<Endpoint> {
    let socket = network.udp((Ipv6Addr::UNSPECIFIED, 0).into());
    let socket = socket.or_else(|_| network.udp((Ipv4Addr::UNSPECIFIED, 0).into()));
    endpoint(network, None, socket?)
}

/// What every attempt needs.
struct Dialling {
    endpoint: Endpoint,
    first: Arc<rustls::ClientConfig>,
    carrier: Option<Carrier>,
}

/// The connection that a session begins with.
enum Line {
    Quic { endpoint: Endpoint, connection: Connection },
    Tcp { secured: Secured, rtt: Duration },
}

/// How a channel's own connection is made.
#[derive(Clone)]
struct Joining {
    /// Of a session's first stream.
    first: Arc<rustls::ClientConfig>,
    config: Arc<rustls::ClientConfig>,
    /// Of a through flow, unless there are to be none.
    through: Option<Arc<rustls::ClientConfig>>,
    address: SocketAddr,
    server_name: String,
}

/// The first entry (by index) that completes a handshake, and at which address it did.
async fn dial(
    dialling: &Dialling,
    entries: &[EntryAddress],
) -> Result<(usize, Line, SocketAddr), ConnectError> {
    let addresses = entries.iter().enumerate().flat_map(|(index, entry)| {
        entry.addresses.iter().map(move |address| (index, entry.server_name.as_str(), *address))
    });
    let addresses: Vec<_> = addresses.take(MAX_ADDRESSES).zip(0_u32..).collect();
    let mut attempts = Vec::new();
    for carrier in [Carrier::Quic, Carrier::Tcp] {
        if dialling.carrier.is_some_and(|only| only != carrier) {
            continue;
        }
        let delay = match (carrier, dialling.carrier) {
            (Carrier::Tcp, None) => TCP_DELAY,
            (Carrier::Quic | Carrier::Tcp, _) => Duration::ZERO,
        };
        attempts.extend(addresses.iter().map(|((index, name, address), place)| {
            let attempt = async move {
                Ok((*index, handshake(dialling, carrier, *address, name).await?, *address))
            };
            (delay + ADDRESS_STAGGER * *place, attempt)
        }));
    }
    attempts.sort_by_key(|(after, _)| *after);
    race(attempts).await.map_err(|errors: Vec<String>| {
        let first = errors.into_iter().next();
        ConnectError::Unreachable(first.unwrap_or_else(|| "none is known".to_owned()))
    })
}

async fn handshake(
    dialling: &Dialling,
    carrier: Carrier,
    address: SocketAddr,
    name: &str,
) -> Result<Line, String> {
    let connecting = async {
        match carrier {
            Carrier::Quic => {
                let endpoint = dialling.endpoint.clone();
                let connecting = endpoint.connect(address, name).map_err(|it| it.to_string())?;
                let connection = connecting.await.map_err(|error| error.to_string())?;
                Ok(Line::Quic { endpoint, connection })
            }
            Carrier::Tcp => on_tcp(dialling.first.clone(), address, name).await,
        }
    };
    in_time(connecting).await
}

async fn on_tcp(
    config: Arc<rustls::ClientConfig>,
    address: SocketAddr,
    name: &str,
) -> Result<Line, String> {
    let start = tokio::time::Instant::now();
    let connecting = tcp::connect_to(config, address, name);
    let secured = connecting.await.map_err(|error| error.to_string())?;
    // Two round trips: the connection, then TLS.
    Ok(Line::Tcp { secured, rtt: start.elapsed() / 2 })
}

async fn in_time(connecting: impl Future<Output = Result<Line, String>>) -> Result<Line, String> {
    let late = |_| Err(format!("no answer within {} s", DIAL_TIMEOUT.as_secs()));
    tokio::time::timeout(DIAL_TIMEOUT, connecting).await.unwrap_or_else(late)
}

/// What a connection that is gone says about why the entry did not take the client.
fn not_taken(close: Option<Close>) -> ConnectError {
    match close {
        Some(Close::Refused(code)) => ConnectError::Refused(refusal(code)),
        Some(Close::Done | Close::Ended(_)) => {
            ConnectError::Unreachable("the entry closed the connection".to_owned())
        }
        None => ConnectError::Unreachable("the entry did not answer".to_owned()),
    }
}
