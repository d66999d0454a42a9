//! What a caller of the library says: where things are, and nothing about how they work.

use std::{fmt, net::SocketAddr, path::PathBuf, str::FromStr, sync::Arc, time::Duration};

use rap_bus::Bus;
use rap_mesh::Carrier;
use rap_mesh_core::peers::Kind;
use rap_proto::{
    ControlUrl, Digest, Name, NodeId,
    secret::{JoinSecret, Secret},
};
use serde::{Deserialize, Deserializer, de::Error as _};

/// The default port of a node, UDP and TCP.
pub const DEFAULT_PORT: u16 = 4433;
/// How long open sessions may go on after the agent was asked to stop.
pub const DEFAULT_DRAIN_LIMIT: Duration = Duration::from_secs(10);
/// The longest drain that can be asked for.
pub const MAX_DRAIN_LIMIT: Duration = Duration::from_secs(600);

/// What [`join`](crate::join) needs: the parts of the join line, and where to keep the result.
#[derive(Debug)]
pub struct JoinOptions {
    pub control: ControlUrl,
    /// More servers of the same control plane, of which any are asked where the first does not answer; at most
    /// [`MAX_SERVERS`](rap_proto::wire::node_api::MAX_SERVERS).
    pub others: Vec<ControlUrl>,
    /// The SHA-256 of the cluster's CA certificate (DER): there is no trust on first use.
    pub ca: Digest,
    pub token: Secret<JoinSecret>,
    pub name: Name,
    /// Where the node's QUIC endpoint will listen.
    pub listen: SocketAddr,
    /// Where other nodes reach it, best first; empty means what the host's routes say.
    pub advertise: Vec<SocketAddr>,
    /// Made with mode 0700 when absent. It must not hold another enrollment.
    pub state_dir: PathBuf,
    /// How long to wait for an approver. The enrollment survives the end of the wait: `run`
    /// goes on asking.
    pub wait: Duration,
}

/// What became of an enrollment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Joined {
    /// Certificates and keys are in the state directory; the agent can run.
    Enrolled { node: NodeId },
    /// Nobody approved it within the wait.
    Pending { node: NodeId, fingerprint: Digest },
}

/// What [`run`](crate::run) and [`start`](crate::start) need.
#[derive(Debug, Clone)]
pub struct RunOptions {
    /// The directory that [`join`](crate::join) filled.
    pub state_dir: PathBuf,
    /// Where the node listens, UDP and TCP.
    pub listen: SocketAddr,
    /// Where other nodes reach it, best first; empty means what the host's routes say.
    pub advertise: Vec<SocketAddr>,
    /// What flows to other nodes are sent on; `None`: what suits each lane.
    pub carrier: Option<Carrier>,
    /// As which kind of node it keeps peers; `None`: as its roles say.
    pub peers: Option<Kind>,
    /// The program `rap-stream-worker`.
    pub worker: PathBuf,
    pub bus: BusChoice,
    /// How long open sessions may go on after a stop was asked for.
    pub drain_limit: Duration,
    pub driver: DriverChoice,
    /// Where the agent's metrics can be read; `None`: nowhere.
    pub metrics: Option<MetricsAt>,
}

/// Where metrics are read, as HTTP: `ADDRESS:PORT` or `unix:PATH`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MetricsAt {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a place for metrics is written ADDRESS:PORT or unix:PATH")]
pub struct ParseMetricsAtError;

/// What carries connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DriverChoice {
    /// Nothing: the node is never ready to carry one.
    #[default]
    None,
    /// Datagrams to an address of this host, which a test listens on.
    RecordingForTests { to: SocketAddr },
}

/// What carries doorbells and observations.
#[derive(Clone)]
pub enum BusChoice {
    /// The NATS servers that the node's credentials name.
    Credentials,
    /// A bus within this process, as `rap dev` and tests use.
    Local(Arc<dyn Bus>),
}

impl fmt::Debug for BusChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Credentials => "Credentials",
            Self::Local(_) => "Local",
        })
    }
}

impl FromStr for MetricsAt {
    type Err = ParseMetricsAtError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.strip_prefix("unix:") {
            Some(path) => Ok(Self::Unix(PathBuf::from(path))),
            None => text.parse().map(Self::Tcp).map_err(|_| ParseMetricsAtError),
        }
    }
}

impl fmt::Display for MetricsAt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl<'de> Deserialize<'de> for MetricsAt {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}
