//! The client's side: one connection to an entry, and channels on it.
//!
//! ```text
//! let session = client::connect(options).await?;
//! let channel = session.open(OpenChannel { channel: Stream, lane: Interactive, traceparent: None }).await?;
//! … read and write the channel, `session.refresh(token)` before the grant runs out …
//! session.close().await;
//! ```

mod channel;
mod session;

use std::{
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use quinn::{Connection, ConnectionError, Endpoint};
use rap_mesh_core::{
    ended::Close,
    refusals::{refusal, worth_trying_elsewhere},
};
use rap_pki::tls::TlsError;
use rap_proto::{Signer, refusal::Refusal};

pub use channel::{Channel, ChannelEnded, ChannelReader, ChannelWriter, end_reason};
pub use rap_proto::wire::client::OpenChannel;
pub use session::{ClientSession, OpenError, RefreshError, SessionEnd};

use crate::{race::race, tls};

/// An address that has not answered by then is given up.
pub const DIAL_TIMEOUT: Duration = Duration::from_secs(4);
/// The delay before the next address joins the race.
const ADDRESS_STAGGER: Duration = Duration::from_millis(200);
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

pub struct ConnectOptions {
    /// Tried in order; the next joins when one does not answer or cannot serve the session.
    pub entries: Vec<EntryAddress>,
    /// The cluster's CA certificates, DER.
    pub authorities: Vec<Vec<u8>>,
    /// The access token's envelope, as control gave it.
    pub token: Vec<u8>,
    /// The key that the token is bound to.
    pub key: Arc<dyn Signer>,
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
    let mut endpoint = bind().map_err(ConnectError::Socket)?;
    endpoint.set_default_client_config(tls::client_config(&options.authorities)?);
    let mut entries = options.entries;
    let mut refused = None;
    loop {
        let (entry, connection) = match dial(&endpoint, &entries).await {
            Ok(dialled) => dialled,
            Err(unreachable) => return Err(refused.unwrap_or(unreachable)),
        };
        let introduced = ClientSession::introduce(
            endpoint.clone(),
            connection,
            options.token.clone(),
            options.key.clone(),
        );
        match introduced.await {
            Err(ConnectError::Refused(refusal)) if worth_trying_elsewhere(refusal.code) => {
                entries.remove(entry);
                refused = Some(ConnectError::Refused(refusal));
            }
            outcome => return outcome,
        }
    }
}

fn bind() -> io::Result<Endpoint> {
    Endpoint::client((Ipv6Addr::UNSPECIFIED, 0).into())
        .or_else(|_| Endpoint::client((Ipv4Addr::UNSPECIFIED, 0).into()))
}

/// The first entry (by index) that completes a handshake.
async fn dial(
    endpoint: &Endpoint,
    entries: &[EntryAddress],
) -> Result<(usize, Connection), ConnectError> {
    let addresses = entries.iter().enumerate().flat_map(|(index, entry)| {
        entry.addresses.iter().map(move |address| (index, entry.server_name.as_str(), *address))
    });
    let attempts = addresses
        .take(MAX_ADDRESSES)
        .zip(0_u32..)
        .map(|((index, name, address), place)| {
            let attempt = async move { Ok((index, handshake(endpoint, address, name).await?)) };
            (ADDRESS_STAGGER * place, attempt)
        })
        .collect();
    race(attempts).await.map_err(|errors: Vec<String>| {
        let first = errors.into_iter().next();
        ConnectError::Unreachable(first.unwrap_or_else(|| "none is known".to_owned()))
    })
}

async fn handshake(
    endpoint: &Endpoint,
    address: SocketAddr,
    name: &str,
) -> Result<Connection, String> {
    let connecting = endpoint.connect(address, name).map_err(|error| error.to_string())?;
    match tokio::time::timeout(DIAL_TIMEOUT, connecting).await {
        Ok(Ok(connection)) => Ok(connection),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("no answer within {} s", DIAL_TIMEOUT.as_secs())),
    }
}

/// What a connection that is gone says about why the entry did not take the client.
fn lost(error: Option<ConnectionError>) -> ConnectError {
    match error {
        Some(ConnectionError::ApplicationClosed(close)) => {
            match Close::from_code(close.error_code.into_inner()) {
                Some(Close::Refused(code)) => ConnectError::Refused(refusal(code)),
                _ => ConnectError::Unreachable("the entry closed the connection".to_owned()),
            }
        }
        Some(error) => ConnectError::Unreachable(error.to_string()),
        None => ConnectError::Unreachable("the entry did not answer".to_owned()),
    }
}
