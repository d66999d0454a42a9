//! The program's configuration: flag, then environment (`RAP_NODE_*`), then file, then default.

use std::{
    fs, io,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use rap_mesh::Carrier;
use rap_mesh_core::peers::Kind;
use serde::Deserialize;

use crate::{
    options::{DEFAULT_DRAIN_LIMIT, DEFAULT_PORT, MAX_DRAIN_LIMIT, MetricsAt},
    telemetry::LogFormat,
};

/// Where the file is looked for when no other place is named.
pub const DEFAULT_FILE: &str = "/etc/rap/node-agent.toml";
pub const DEFAULT_STATE_DIR: &str = "/var/lib/rap-node-agent";
const MAX_FILE_BYTES: u64 = 64 * 1024;
const MAX_PATH_BYTES: usize = 1_024;
/// The most addresses that can be advertised.
pub const MAX_ADVERTISED: usize = rap_proto::wire::node_api::MAX_ADDRESSES;

/// What the file may say; each part is also a flag and an environment variable.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, clap::Args)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Where the agent keeps its keys and state [default: /var/lib/rap-node-agent]
    #[arg(long, global = true, env = "RAP_NODE_STATE_DIR", value_name = "DIRECTORY")]
    pub state_dir: Option<PathBuf>,
    /// The address and port that the node listens on, UDP and TCP [default: 0.0.0.0:4433]
    #[arg(long, global = true, env = "RAP_NODE_LISTEN", value_name = "ADDRESS:PORT")]
    pub listen: Option<SocketAddr>,
    /// Where other nodes reach this one, best first; found out when absent
    #[arg(
        long,
        global = true,
        env = "RAP_NODE_ADVERTISE",
        value_name = "ADDRESS:PORT",
        value_delimiter = ','
    )]
    pub advertise: Option<Vec<SocketAddr>>,
    /// What to send flows to other nodes on, quic or tcp [default: what suits each lane]
    #[arg(long, global = true, env = "RAP_NODE_CARRIER", value_name = "CARRIER")]
    pub carrier: Option<CarrierName>,
    /// How many peers to keep, as a thin, normal or relay node does [default: by the node's roles]
    #[arg(long, global = true, env = "RAP_NODE_PEERS", value_name = "KIND")]
    pub peers: Option<KindName>,
    /// The program rap-stream-worker [default: beside this program]
    #[arg(long, global = true, env = "RAP_NODE_WORKER", value_name = "PROGRAM")]
    pub worker: Option<PathBuf>,
    /// How many seconds open sessions may go on after a stop was asked for [default: 10]
    #[arg(long, global = true, env = "RAP_NODE_DRAIN_LIMIT_S", value_name = "SECONDS")]
    pub drain_limit_s: Option<u64>,
    /// Where the agent's metrics can be read, as ADDRESS:PORT or unix:PATH [default: nowhere]
    #[arg(long, global = true, env = "RAP_NODE_METRICS", value_name = "PLACE")]
    pub metrics: Option<MetricsAt>,
    /// Let other hosts read the metrics, too: `metrics` need not be on the loopback
    #[arg(long, global = true, env = "RAP_NODE_METRICS_FOR_OTHER_HOSTS", value_name = "BOOL")]
    pub metrics_for_other_hosts: Option<bool>,
    /// For tests only: carry connections by sending datagrams to this address of the loopback
    #[arg(
        long,
        global = true,
        hide = true,
        env = "RAP_NODE_RECORDING_DRIVER_FOR_TESTS",
        value_name = "ADDRESS:PORT"
    )]
    pub recording_driver_for_tests: Option<SocketAddr>,
    /// What to log, such as `info` or `rap_node_agent=debug,info` [default: info]
    #[arg(long, global = true, env = "RAP_NODE_LOG", value_name = "FILTER")]
    pub log: Option<String>,
    /// How to log: text or json [default: text]
    #[arg(long, global = true, env = "RAP_NODE_LOG_FORMAT", value_name = "FORMAT")]
    pub log_format: Option<LogFormat>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum CarrierName {
    /// QUIC, over UDP.
    Quic,
    /// TLS, over TCP.
    Tcp,
}

impl From<CarrierName> for Carrier {
    fn from(name: CarrierName) -> Self {
        match name {
            CarrierName::Quic => Self::Quic,
            CarrierName::Tcp => Self::Tcp,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum KindName {
    /// Few, asked seldom.
    Thin,
    Normal,
    /// Many, asked often.
    Relay,
}

impl From<KindName> for Kind {
    fn from(name: KindName) -> Self {
        match name {
            KindName::Thin => Self::Thin,
            KindName::Normal => Self::Normal,
            KindName::Relay => Self::Relay,
        }
    }
}

/// Settings with every default filled in, and checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    pub state_dir: PathBuf,
    pub listen: SocketAddr,
    pub advertise: Vec<SocketAddr>,
    pub carrier: Option<CarrierName>,
    pub peers: Option<KindName>,
    pub worker: PathBuf,
    pub drain_limit: Duration,
    pub metrics: Option<MetricsAt>,
    pub metrics_for_other_hosts: bool,
    pub recording_driver_for_tests: Option<SocketAddr>,
    pub log: String,
    pub log_format: LogFormat,
}

#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("cannot read {path}: {error}")]
    Unreadable { path: PathBuf, error: io::Error },
    #[error("{path}: {message}")]
    Malformed { path: PathBuf, message: String },
    #[error("{name}: {message}")]
    Invalid { name: &'static str, message: String },
}

impl Settings {
    /// From a file. A file that was not named may be absent.
    pub fn from_file(named: Option<&Path>) -> Result<Self, ConfigError> {
        let path = named.unwrap_or(Path::new(DEFAULT_FILE));
        let unreadable = |error| ConfigError::Unreadable { path: path.to_owned(), error };
        match fs::metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound && named.is_none() => {
                return Ok(Self::default());
            }
            Err(error) => return Err(unreadable(error)),
            Ok(metadata) if metadata.len() > MAX_FILE_BYTES => {
                let message = format!("larger than {MAX_FILE_BYTES} bytes");
                return Err(ConfigError::Malformed { path: path.to_owned(), message });
            }
            Ok(_) => {}
        }
        let text = fs::read_to_string(path).map_err(unreadable)?;
        toml::from_str(&text).map_err(|error| ConfigError::Malformed {
            path: path.to_owned(),
            message: error.to_string(),
        })
    }

    /// These settings, and where they are silent the others.
    #[must_use]
    pub fn over(self, others: Self) -> Self {
        Self {
            state_dir: self.state_dir.or(others.state_dir),
            listen: self.listen.or(others.listen),
            advertise: self.advertise.or(others.advertise),
            carrier: self.carrier.or(others.carrier),
            peers: self.peers.or(others.peers),
            worker: self.worker.or(others.worker),
            drain_limit_s: self.drain_limit_s.or(others.drain_limit_s),
            metrics: self.metrics.or(others.metrics),
            metrics_for_other_hosts: self
                .metrics_for_other_hosts
                .or(others.metrics_for_other_hosts),
            recording_driver_for_tests: self
                .recording_driver_for_tests
                .or(others.recording_driver_for_tests),
            log: self.log.or(others.log),
            log_format: self.log_format.or(others.log_format),
        }
    }

    /// Fills in defaults and checks every value. `beside` is the directory of this program.
    pub fn complete(self, beside: &Path) -> Result<Config, ConfigError> {
        let default_listen = SocketAddr::from(([0, 0, 0, 0], DEFAULT_PORT));
        let config = Config {
            state_dir: self.state_dir.unwrap_or_else(|| PathBuf::from(DEFAULT_STATE_DIR)),
            listen: self.listen.unwrap_or(default_listen),
            advertise: self.advertise.unwrap_or_default(),
            carrier: self.carrier,
            peers: self.peers,
            worker: self.worker.unwrap_or_else(|| beside.join("rap-stream-worker")),
            drain_limit: self.drain_limit_s.map_or(DEFAULT_DRAIN_LIMIT, Duration::from_secs),
            metrics: self.metrics,
            metrics_for_other_hosts: self.metrics_for_other_hosts.unwrap_or_default(),
            recording_driver_for_tests: self.recording_driver_for_tests,
            log: self.log.unwrap_or_else(|| "info".to_owned()),
            log_format: self.log_format.unwrap_or_default(),
        };
        config.check()?;
        Ok(config)
    }
}

impl Config {
    fn check(&self) -> Result<(), ConfigError> {
        let invalid = |name, message: String| Err(ConfigError::Invalid { name, message });
        for (name, path) in [("state_dir", &self.state_dir), ("worker", &self.worker)] {
            if let Err(message) = check_path(path) {
                return invalid(name, message.to_owned());
            }
        }
        if self.listen.port() == 0 {
            return invalid("listen", "other nodes need to know the port".to_owned());
        }
        if self.advertise.len() > MAX_ADVERTISED {
            return invalid("advertise", format!("at most {MAX_ADVERTISED} addresses"));
        }
        let unreachable =
            |at: &SocketAddr| at.port() == 0 || at.ip().is_unspecified() || at.ip().is_multicast();
        if let Some(address) = self.advertise.iter().find(|address| unreachable(address)) {
            return invalid("advertise", format!("{address} cannot be reached"));
        }
        if self.drain_limit > MAX_DRAIN_LIMIT {
            return invalid("drain_limit_s", format!("at most {}", MAX_DRAIN_LIMIT.as_secs()));
        }
        if let Err(message) = self.check_metrics() {
            return invalid("metrics", message);
        }
        if let Some(to) = self.recording_driver_for_tests.filter(|to| !to.ip().is_loopback()) {
            let message = format!("{to} is not on the loopback");
            return invalid("recording_driver_for_tests", message);
        }
        if let Err(error) = tracing_subscriber::EnvFilter::try_new(&self.log) {
            return invalid("log", error.to_string());
        }
        Ok(())
    }

    /// They name nobody, and still say how many people work here and when.
    fn check_metrics(&self) -> Result<(), String> {
        match &self.metrics {
            None => Ok(()),
            Some(MetricsAt::Unix(path)) => check_path(path).map_err(str::to_owned),
            Some(MetricsAt::Tcp(at)) if at.port() == 0 => {
                Err("whoever reads them needs to know the port".to_owned())
            }
            Some(MetricsAt::Tcp(at)) if !at.ip().is_loopback() && !self.metrics_for_other_hosts => {
                Err(format!("{at} is not on the loopback; metrics_for_other_hosts allows it"))
            }
            Some(MetricsAt::Tcp(_)) => Ok(()),
        }
    }
}

/// Absolute, and of characters that need no escape in a unit file, a shell line or a log.
fn check_path(path: &Path) -> Result<(), &'static str> {
    let text = path.to_str().ok_or("not text")?;
    let allowed = |c: u8| c.is_ascii_alphanumeric() || b"/._-+@".contains(&c);
    if !path.is_absolute() {
        Err("not an absolute path")
    } else if text.len() > MAX_PATH_BYTES {
        Err("too long")
    } else if !text.bytes().all(allowed) {
        Err("only letters, digits and / . _ - + @ are allowed")
    } else if text.split('/').any(|part| part == "..") {
        Err("it must not contain ..")
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn complete(text: &str) -> Result<Config, String> {
        let settings: Settings = toml::from_str(text).map_err(|error| error.to_string())?;
        settings.complete(Path::new("/usr/bin")).map_err(|error| error.to_string())
    }

    #[test]
    fn an_empty_file_is_a_whole_configuration() {
        let config = complete("").unwrap();
        assert_eq!(config.state_dir, Path::new(DEFAULT_STATE_DIR));
        assert_eq!(config.listen.port(), DEFAULT_PORT);
        assert_eq!(config.worker, Path::new("/usr/bin/rap-stream-worker"));
        assert_eq!((config.drain_limit, config.log_format), (DEFAULT_DRAIN_LIMIT, LogFormat::Text));
    }

    #[test]
    fn what_is_nearer_wins() {
        let file: Settings =
            toml::from_str("listen = \"10.0.0.1:1\"\nlog = \"warn\"\ndrain_limit_s = 3").unwrap();
        let flags = Settings { listen: Some("10.0.0.2:2".parse().unwrap()), ..Settings::default() };
        let config = flags.over(file).complete(Path::new("/usr/bin")).unwrap();
        assert_eq!(config.listen, "10.0.0.2:2".parse().unwrap());
        assert_eq!((config.log.as_str(), config.drain_limit), ("warn", Duration::from_secs(3)));
    }

    #[test]
    fn the_kind_of_peers_is_as_it_is_written_or_follows_from_the_roles() {
        assert_eq!(complete("").unwrap().peers, None);
        for (name, kind) in [("thin", Kind::Thin), ("normal", Kind::Normal), ("relay", Kind::Relay)]
        {
            let config = complete(&format!("peers = \"{name}\"")).unwrap();
            assert_eq!(config.peers.map(Kind::from), Some(kind));
        }
    }

    #[test]
    fn metrics_are_nowhere_or_on_this_host_unless_others_are_let_in() {
        assert_eq!(complete("").unwrap().metrics, None);
        for place in ["127.0.0.1:9433", "[::1]:9433", "unix:/run/rap/metrics.sock"] {
            let config = complete(&format!("metrics = \"{place}\"")).unwrap();
            assert_eq!(config.metrics.map(|at| at.to_string()).as_deref(), Some(place));
        }
        let text = "metrics = \"10.0.0.1:9433\"\nmetrics_for_other_hosts = true";
        assert!(complete(text).is_ok());
    }

    #[test]
    fn values_outside_their_alphabet_are_refused_by_name() {
        let cases = [
            ("state_dir = \"relative\"", "state_dir"),
            ("state_dir = \"/a/../b\"", "state_dir"),
            ("state_dir = \"/a b\"", "state_dir"),
            ("worker = \"/bin/x\\\"\\nExecStart=/bin/sh\"", "worker"),
            ("worker = \"/bin/$(id)\"", "worker"),
            ("listen = \"0.0.0.0:0\"", "listen"),
            ("listen = \"localhost:1\"", "listen"),
            ("advertise = [\"0.0.0.0:1\"]", "advertise"),
            ("advertise = [\"224.0.0.1:1\"]", "advertise"),
            ("drain_limit_s = 601", "drain_limit_s"),
            ("metrics = \"localhost:9\"", "metrics"),
            ("metrics = \"127.0.0.1:0\"", "metrics"),
            ("metrics = \"10.0.0.1:9\"", "metrics"),
            ("metrics = \"unix:relative\"", "metrics"),
            ("recording_driver_for_tests = \"10.0.0.1:9\"", "recording_driver_for_tests"),
            ("peers = \"fat\"", "peers"),
            ("log = \"a=b=c\"", "log"),
            ("log_format = \"xml\"", "log_format"),
            ("unknown = 1", "unknown"),
        ];
        for (text, name) in cases {
            let error = complete(text).unwrap_err();
            assert!(error.contains(name), "{text}: {error}");
        }
        let many = (1..=9).map(|port| format!("\"10.0.0.1:{port}\"")).collect::<Vec<_>>();
        assert!(complete(&format!("advertise = [{}]", many.join(","))).is_err());
    }

    #[test]
    fn a_file_that_was_named_must_be_there_and_be_small() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("agent.toml");
        assert!(matches!(Settings::from_file(Some(&path)), Err(ConfigError::Unreadable { .. })));
        fs::write(&path, "log = \"debug\"").unwrap();
        assert_eq!(Settings::from_file(Some(&path)).unwrap().log.as_deref(), Some("debug"));
        fs::write(&path, "#".repeat(MAX_FILE_BYTES as usize + 1)).unwrap();
        assert!(matches!(Settings::from_file(Some(&path)), Err(ConfigError::Malformed { .. })));
    }
}
