//! What a caller of the library says.

use std::{
    fmt,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
};

use rap_bus::{Bus, NatsAuthority};
use rap_events::MemoryLog;

use crate::{
    clock,
    custody::{Custody, CustodyError},
};

/// The default port of the API.
pub const DEFAULT_PORT: u16 = 8443;

/// What [`crate::serve`] needs.
#[derive(Debug, Clone)]
pub struct ControlOptions {
    /// Port 0 takes a free one.
    pub listen: SocketAddr,
    /// Holds the cluster's keys; made with mode 0700 when absent.
    pub state_dir: PathBuf,
    pub log: LogChoice,
    pub bus: BusChoice,
    /// The DNS names and IP addresses in the server's certificate.
    pub names: Vec<String>,
    /// Threads that answer requests.
    pub workers: usize,
}

/// Where the events are.
#[derive(Clone)]
pub enum LogChoice {
    /// A log within this process, which ends with it.
    Local(Arc<MemoryLog>),
    /// `postgres://user@host:port/database`.
    Postgres(String),
}

/// What carries doorbells and observations.
#[derive(Clone)]
pub enum BusChoice {
    /// A bus within this process.
    Local(Arc<dyn Bus>),
    /// NATS servers that trust [`nats_authority`].
    Nats {
        /// As this server reaches them, `nats://host:port`.
        servers: Vec<String>,
        /// As nodes reach them; empty means the same.
        advertised: Vec<String>,
    },
}

impl fmt::Debug for LogChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A database's URL can hold a password.
        f.write_str(match self {
            Self::Local(_) => "Local",
            Self::Postgres(_) => "Postgres",
        })
    }
}

impl fmt::Debug for BusChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Local(_) => "Local",
            Self::Nats { .. } => "Nats",
        })
    }
}

/// The issuer of the cluster's NATS tokens, from the keys in the state directory, which are made
/// when it has none. Its [`NatsAuthority::server_config`] configures a `nats-server`.
pub fn nats_authority(state_dir: &Path) -> Result<NatsAuthority, CustodyError> {
    Ok(Custody::open(state_dir, clock::now())?.nats_authority())
}
