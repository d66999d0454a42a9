//! What a caller of the library says.

use std::{
    fmt,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use rap_bus::{Bus, NatsAuthority};
use rap_control_core::{beat::Pace, rate::Rates};
use rap_events::{BeatTable, Heads, LeaseTable, Log, SubjectKeys};
use rap_proto::{ClusterId, ControlUrl, wire::node_api::KEPT_IDLE};

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
    /// Where the metrics can be read, over HTTP without a login; `None`: nowhere.
    pub metrics: Option<SocketAddr>,
    /// Holds the cluster's keys; made with mode 0700 when absent.
    pub state_dir: PathBuf,
    pub log: LogChoice,
    pub bus: BusChoice,
    /// The DNS names and IP addresses in the server's certificate.
    pub names: Vec<String>,
    /// Where nodes and `rap` reach the servers of this cluster, this one and the others; empty tells them
    /// nothing. At most [`MAX_SERVERS`](rap_proto::wire::node_api::MAX_SERVERS).
    pub servers: Vec<ControlUrl>,
    /// Threads that answer requests.
    pub workers: usize,
    pub limits: Limits,
}

/// How much callers may ask for; each has a default.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// How often each may ask.
    pub rates: Rates,
    pub streams: StreamLimits,
    /// A connection whose other end takes nothing of what was sent is cut off after this long.
    pub unread: Duration,
    /// A connection on which nothing is asked is closed after this long; at once, of who is not known.
    pub kept_idle: Duration,
    /// How often the authority beat is made, and how long it is valid.
    pub beat: Pace,
}

/// How much the event streams may hold and ask for.
#[derive(Debug, Clone, Copy)]
pub struct StreamLimits {
    /// Open streams, and those of one user, whatever the user shows: logins or API tokens.
    pub open: usize,
    pub open_per_user: usize,
    /// How many events behind the end of the log a stream may begin.
    pub resume_events: u64,
    /// A bookmark is sent when nothing else was for this long; proxies are kept calm by it too.
    pub keep_alive: Duration,
}

/// Open event streams of a server.
const MAX_STREAMS: usize = 10_000;
/// Open event streams of one user.
const MAX_STREAMS_PER_USER: usize = 64;
/// How far behind the end of the log a stream may begin.
const MAX_RESUME_EVENTS: u64 = 100_000;
const KEEP_ALIVE: Duration = Duration::from_secs(15);
const UNREAD: Duration = Duration::from_secs(30);

impl Default for Limits {
    fn default() -> Self {
        Self {
            rates: Rates::default(),
            streams: StreamLimits::default(),
            unread: UNREAD,
            kept_idle: KEPT_IDLE,
            beat: Pace::default(),
        }
    }
}

impl Default for StreamLimits {
    fn default() -> Self {
        Self {
            open: MAX_STREAMS,
            open_per_user: MAX_STREAMS_PER_USER,
            resume_events: MAX_RESUME_EVENTS,
            keep_alive: KEEP_ALIVE,
        }
    }
}

/// Where the events are.
#[derive(Clone)]
pub enum LogChoice {
    /// A log within this process, which ends with it.
    Local(Arc<dyn LocalLog>),
    /// `postgres://user@host:port/database`; see [`rap_log_postgres::PostgresLog::connect`].
    Postgres(String),
}

/// A log that also keeps its leases, votes, sealed heads and subject keys, such as
/// [`rap_events::MemoryLog`].
pub trait LocalLog: Log + LeaseTable + BeatTable + Heads + SubjectKeys {}

impl<T: Log + LeaseTable + BeatTable + Heads + SubjectKeys> LocalLog for T {}

/// What carries doorbells and observations.
#[derive(Clone)]
pub enum BusChoice {
    /// A bus within this process.
    Local(Arc<dyn Bus>),
    /// NATS servers that trust [`nats_authority`].
    Nats {
        /// As this server reaches them, `nats://host:port` or `tls://host:port`.
        servers: Vec<String>,
        /// As nodes reach them; empty means the same.
        advertised: Vec<String>,
        /// The CA certificates, in PEM, by which servers at `tls://` prove themselves; nodes are
        /// told them. `None` means the cluster's own CA.
        ca: Option<PathBuf>,
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

/// The cluster of the keys in the state directory, which are made when it has none.
pub fn cluster(state_dir: &Path) -> Result<ClusterId, CustodyError> {
    Ok(Custody::open(state_dir, clock::now())?.cluster)
}
