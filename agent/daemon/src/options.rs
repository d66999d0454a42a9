//! What a caller of the library says: where things are, and nothing about how they work.

use std::{fmt, net::SocketAddr, path::PathBuf, str::FromStr, sync::Arc, time::Duration};

use rap_bus::Bus;
use rap_mesh::Carrier;
use rap_mesh_core::peers::Kind;
use rap_proto::{
    Digest, Name, NodeId,
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

/// The control plane's address: `https://`, a DNS name or IP address, and optionally a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ControlUrl {
    host: String,
    port: u16,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the control plane's address is written https://HOST[:PORT], without path, user or query")]
pub struct ParseControlUrlError;

impl ControlUrl {
    /// The port when none is written.
    pub const DEFAULT_PORT: u16 = 8443;

    /// A DNS name or an IP address; an IPv6 address without its brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    pub fn port(&self) -> u16 {
        self.port
    }
}

impl FromStr for ControlUrl {
    type Err = ParseControlUrlError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let rest = text.strip_prefix("https://").ok_or(ParseControlUrlError)?;
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let (host, port) = match rest.strip_prefix('[') {
            Some(bracketed) => {
                let (host, after) = bracketed.split_once(']').ok_or(ParseControlUrlError)?;
                host.parse::<std::net::Ipv6Addr>().map_err(|_| ParseControlUrlError)?;
                (host, after.strip_prefix(':').or((after.is_empty()).then_some("")))
            }
            None => match rest.split_once(':') {
                Some((host, port)) => (check_host(host)?, Some(port)),
                None => (check_host(rest)?, Some("")),
            },
        };
        let port = match port.ok_or(ParseControlUrlError)? {
            "" if !rest.ends_with(':') => Self::DEFAULT_PORT,
            digits if digits.bytes().all(|c| c.is_ascii_digit()) => {
                digits.parse().ok().filter(|port| *port != 0).ok_or(ParseControlUrlError)?
            }
            _ => return Err(ParseControlUrlError),
        };
        Ok(Self { host: host.to_owned(), port })
    }
}

impl fmt::Display for ControlUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "https://[{}]:{}", self.host, self.port)
        } else {
            write!(f, "https://{}:{}", self.host, self.port)
        }
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

/// Letters, digits, hyphens and dots only: nothing that a header, log or file must escape.
fn check_host(host: &str) -> Result<&str, ParseControlUrlError> {
    let label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && label.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let well_formed = host.len() <= 253 && host.split('.').all(label);
    if well_formed { Ok(host) } else { Err(ParseControlUrlError) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn control_urls_have_one_shape() {
        let good = [
            ("https://control.example", "https://control.example:8443"),
            ("https://control.example:443/", "https://control.example:443"),
            ("https://10.0.0.1:8443", "https://10.0.0.1:8443"),
            ("https://[::1]:9000", "https://[::1]:9000"),
            ("https://[fd00::1]", "https://[fd00::1]:8443"),
        ];
        for (text, shown) in good {
            assert_eq!(text.parse::<ControlUrl>().unwrap().to_string(), shown);
        }
        let bad = [
            "",
            "http://control.example",
            "https://",
            "https://user@host",
            "https://host/path",
            "https://host:0",
            "https://host:99999",
            "https://host:",
            "https://[::1",
            "https://[::1]x",
            "https://ho st",
            "https://host\r\nX: y",
            "https://host;rm",
            "https://-host",
            "https://a..b",
        ];
        for text in bad {
            assert_eq!(text.parse::<ControlUrl>(), Err(ParseControlUrlError), "{text:?}");
        }
    }
}
