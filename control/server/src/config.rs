//! The program's configuration: flag, then `RAP_CONTROL_*`, then the file, then the default.

use std::{
    env, fs, io,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    path::{Path, PathBuf},
};

use clap::Args;
use rap_control_core::rate::{ParseRateError, Rate, Rates};
use rap_proto::{
    ControlUrl, ParseControlUrlError,
    wire::node_api::{MAX_BUS_AUTHORITY_BYTES, MAX_SERVERS},
};
use serde::Deserialize;

use crate::options::{BusChoice, ControlOptions, DEFAULT_PORT, Limits, LogChoice, StreamLimits};

/// Read when it exists; another one is named by `--config`.
pub const DEFAULT_FILE: &str = "/etc/rap/control.toml";
const DEFAULT_STATE_DIR: &str = "/var/lib/rap-control";
/// The largest configuration file, in bytes.
const MAX_FILE_BYTES: u64 = 64 * 1024;
/// The most names and servers that may be configured.
const MAX_ENTRIES: usize = 16;
const DEFAULT_WORKERS: usize = 2;
const MAX_WORKERS: usize = 64;
/// The most event streams that may be configured: each is a connection, and a file of the process.
const MOST_STREAMS: usize = 100_000;

/// What flags and the environment say; clap reads both.
#[derive(Debug, Clone, Default, Args)]
pub struct Flags {
    /// The configuration file [default: /etc/rap/control.toml, when it exists]
    #[arg(long, env = "RAP_CONTROL_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Where to listen; without it, port 8443 of every address
    #[arg(long, env = "RAP_CONTROL_LISTEN", value_name = "ADDRESS")]
    pub listen: Option<SocketAddr>,
    /// Where the metrics can be read, over HTTP without a login [default: nowhere]
    #[arg(long, env = "RAP_CONTROL_METRICS", value_name = "ADDRESS")]
    pub metrics: Option<SocketAddr>,
    /// Let other hosts read the metrics, too: `metrics` need not be on the loopback
    #[arg(
        long,
        env = "RAP_CONTROL_METRICS_FOR_OTHER_HOSTS",
        value_name = "BOOL",
        num_args = 0..=1,
        default_missing_value = "true"
    )]
    pub metrics_for_other_hosts: Option<bool>,
    /// Where the cluster's keys are [default: /var/lib/rap-control]
    #[arg(long, env = "RAP_CONTROL_STATE_DIR", value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
    /// The event log: postgres://user@host:port/database; on another machine with
    /// ?sslmode=verify-full&sslrootcert=FILE
    #[arg(long, env = "RAP_CONTROL_DATABASE", value_name = "URL", hide_env_values = true)]
    pub database: Option<String>,
    /// A NATS server, nats://host:port or tls://host:port; repeat or separate by commas
    #[arg(long, env = "RAP_CONTROL_NATS", value_name = "URL", value_delimiter = ',')]
    pub nats: Vec<String>,
    /// The CA certificates (PEM) of NATS servers at tls:// [default: the cluster's own CA]
    #[arg(long, env = "RAP_CONTROL_NATS_CA", value_name = "FILE")]
    pub nats_ca: Option<PathBuf>,
    /// The NATS servers as nodes reach them, when that differs
    #[arg(long, env = "RAP_CONTROL_NATS_ADVERTISED", value_name = "URL", value_delimiter = ',')]
    pub nats_advertised: Vec<String>,
    /// A DNS name or IP address under which clients and nodes reach this server
    #[arg(long = "name", env = "RAP_CONTROL_NAMES", value_name = "NAME", value_delimiter = ',')]
    pub names: Vec<String>,
    /// Where nodes and rap reach a server of the cluster, https://HOST:PORT: this one and each other one;
    /// repeat or separate by commas
    #[arg(long = "server", env = "RAP_CONTROL_SERVERS", value_name = "URL", value_delimiter = ',')]
    pub servers: Vec<ControlUrl>,
    /// Threads that answer requests [default: 2]
    #[arg(long, env = "RAP_CONTROL_WORKERS", value_name = "COUNT")]
    pub workers: Option<usize>,
    /// Requests a second and at once of one user [default: 50/200]
    #[arg(long, env = "RAP_CONTROL_RATE_USER", value_name = "RATE")]
    pub rate_user: Option<Rate>,
    /// The same of one API token, within its user's [default: 25/100]
    #[arg(long, env = "RAP_CONTROL_RATE_API_TOKEN", value_name = "RATE")]
    pub rate_api_token: Option<Rate>,
    /// The same of one address without a credential; raise it behind a proxy [default: 10/100]
    #[arg(long, env = "RAP_CONTROL_RATE_ADDRESS", value_name = "RATE")]
    pub rate_address: Option<Rate>,
    /// The same of one node [default: 10/50]
    #[arg(long, env = "RAP_CONTROL_RATE_NODE", value_name = "RATE")]
    pub rate_node: Option<Rate>,
    /// Event streams that may be open at once [default: 10000]
    #[arg(long, env = "RAP_CONTROL_MAX_STREAMS", value_name = "COUNT")]
    pub max_streams: Option<usize>,
    /// The same of one user, whatever the user shows [default: 64]
    #[arg(long, env = "RAP_CONTROL_MAX_STREAMS_PER_USER", value_name = "COUNT")]
    pub max_streams_per_user: Option<usize>,
}

/// Of the same flags and file, what the commands over a log at rest need.
#[derive(Debug, Clone, Default, Args)]
pub struct StoreFlags {
    /// The configuration file [default: /etc/rap/control.toml, when it exists]
    #[arg(long, env = "RAP_CONTROL_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Where the cluster's keys are [default: /var/lib/rap-control]
    #[arg(long, env = "RAP_CONTROL_STATE_DIR", value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
    /// The event log: postgres://user@host:port/database
    #[arg(long, env = "RAP_CONTROL_DATABASE", value_name = "URL", hide_env_values = true)]
    pub database: Option<String>,
}

/// A log and the keys that belong to it.
#[derive(Clone)]
pub struct Store {
    pub state_dir: PathBuf,
    pub database: String,
}

/// What the file says; every key is optional.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    listen: Option<SocketAddr>,
    metrics: Option<SocketAddr>,
    metrics_for_other_hosts: Option<bool>,
    state_dir: Option<PathBuf>,
    database: Option<String>,
    #[serde(default)]
    nats: Vec<String>,
    #[serde(default)]
    nats_advertised: Vec<String>,
    nats_ca: Option<PathBuf>,
    #[serde(default)]
    names: Vec<String>,
    #[serde(default)]
    servers: Vec<String>,
    workers: Option<usize>,
    rate_user: Option<String>,
    rate_api_token: Option<String>,
    rate_address: Option<String>,
    rate_node: Option<String>,
    max_streams: Option<usize>,
    max_streams_per_user: Option<usize>,
}

#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("{path}: {error}")]
    Io { path: PathBuf, error: io::Error },
    #[error("{path}: {message}")]
    Malformed { path: PathBuf, message: String },
    #[error("{path}: larger than {MAX_FILE_BYTES} bytes")]
    TooLarge { path: PathBuf },
    #[error("`{setting}` is not set: {hint}")]
    Missing { setting: &'static str, hint: &'static str },
    #[error("`{setting}`: {message}")]
    Invalid { setting: &'static str, message: String },
}

const NO_DATABASE: ConfigError = ConfigError::Missing {
    setting: "database",
    hint: "postgres://user@host:port/database; `rap dev` runs without one",
};

/// Merges flags, environment, file and defaults, and checks the result.
pub fn load(flags: Flags) -> Result<ControlOptions, ConfigError> {
    let file = file(flags.config.as_deref())?;
    let options = merge(flags, file)?;
    check(&options)?;
    Ok(options)
}

/// What only the named files and addresses tell.
fn check(options: &ControlOptions) -> Result<(), ConfigError> {
    let invalid = |setting, message: String| Err(ConfigError::Invalid { setting, message });
    if let LogChoice::Postgres(url) = &options.log
        && let Err(error) = rap_log_postgres::check(url)
    {
        return invalid("database", error.to_string());
    }
    let BusChoice::Nats { servers, advertised, ca } = &options.bus else { return Ok(()) };
    for (setting, servers) in [("nats", servers), ("nats_advertised", advertised)] {
        if !servers.iter().all(|url| url.starts_with("nats://") || url.starts_with("tls://")) {
            return invalid(setting, "nats://host:port or tls://host:port".to_owned());
        }
    }
    let Some(path) = ca else { return Ok(()) };
    if !servers.iter().any(|url| url.starts_with("tls://")) {
        return invalid("nats_ca", "no server in `nats` is at tls://".to_owned());
    }
    match rap_pki::pem::read(path) {
        Ok(all) if all.iter().map(Vec::len).sum::<usize>() > MAX_BUS_AUTHORITY_BYTES => {
            let message =
                format!("its certificates take more than {MAX_BUS_AUTHORITY_BYTES} bytes");
            invalid("nats_ca", message)
        }
        Ok(_) => Ok(()),
        Err(error) => invalid("nats_ca", format!("{}: {error}", path.display())),
    }
}

/// Merges them for a command over a log at rest.
pub fn load_store(flags: StoreFlags) -> Result<Store, ConfigError> {
    let file = file(flags.config.as_deref())?;
    let state_dir = flags.state_dir.or(file.state_dir);
    Ok(Store {
        state_dir: state_dir.unwrap_or_else(|| PathBuf::from(DEFAULT_STATE_DIR)),
        database: flags.database.or(file.database).ok_or(NO_DATABASE)?,
    })
}

fn file(named: Option<&Path>) -> Result<File, ConfigError> {
    match named {
        Some(path) => read(path),
        None if Path::new(DEFAULT_FILE).exists() => read(Path::new(DEFAULT_FILE)),
        None => Ok(File::default()),
    }
}

fn merge(flags: Flags, file: File) -> Result<ControlOptions, ConfigError> {
    let limits = Limits {
        rates: rates(&flags, &file)?,
        streams: streams(&flags, &file)?,
        ..Limits::default()
    };
    let metrics = metrics(&flags, &file)?;
    let servers_of_control = servers_of_control(&flags, &file)?;
    let list = |flag: Vec<String>, file: Vec<String>| if flag.is_empty() { file } else { flag };
    let database = flags.database.or(file.database).ok_or(NO_DATABASE)?;
    let servers = list(flags.nats, file.nats);
    if servers.is_empty() {
        return Err(ConfigError::Missing {
            setting: "nats",
            hint: "nats://host:port; `rap-control nats-config` prints that server's configuration",
        });
    }
    let advertised = list(flags.nats_advertised, file.nats_advertised);
    let names = list(flags.names, file.names);
    let names = if names.is_empty() { own_names() } else { names };
    for (setting, entries) in
        [("nats", &servers), ("nats_advertised", &advertised), ("names", &names)]
    {
        if entries.len() > MAX_ENTRIES {
            let message = format!("at most {MAX_ENTRIES} of them");
            return Err(ConfigError::Invalid { setting, message });
        }
    }
    if names.is_empty() {
        return Err(ConfigError::Missing {
            setting: "names",
            hint: "the DNS names or addresses under which this server is reached",
        });
    }
    let workers = flags.workers.or(file.workers).unwrap_or(DEFAULT_WORKERS);
    if workers == 0 || workers > MAX_WORKERS {
        let message = format!("from 1 to {MAX_WORKERS}");
        return Err(ConfigError::Invalid { setting: "workers", message });
    }
    let everywhere = SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), DEFAULT_PORT);
    Ok(ControlOptions {
        listen: flags.listen.or(file.listen).unwrap_or(everywhere),
        metrics,
        state_dir: flags
            .state_dir
            .or(file.state_dir)
            .unwrap_or_else(|| PathBuf::from(DEFAULT_STATE_DIR)),
        log: LogChoice::Postgres(database),
        bus: BusChoice::Nats { servers, advertised, ca: flags.nats_ca.or(file.nats_ca) },
        names,
        servers: servers_of_control,
        workers,
        limits,
    })
}

/// As nodes are told them.
fn servers_of_control(flags: &Flags, file: &File) -> Result<Vec<ControlUrl>, ConfigError> {
    let invalid = |message| ConfigError::Invalid { setting: "servers", message };
    let servers = if flags.servers.is_empty() {
        let parse = |text: &String| text.parse();
        let parsed: Result<_, ParseControlUrlError> = file.servers.iter().map(parse).collect();
        parsed.map_err(|error| invalid(error.to_string()))?
    } else {
        flags.servers.clone()
    };
    match servers.len() {
        0..=MAX_SERVERS => Ok(servers),
        _ => Err(invalid(format!("at most {MAX_SERVERS} of them"))),
    }
}

/// Nowhere, or on this host, unless others are let in.
fn metrics(flags: &Flags, file: &File) -> Result<Option<SocketAddr>, ConfigError> {
    let Some(at) = flags.metrics.or(file.metrics) else { return Ok(None) };
    let for_others = flags.metrics_for_other_hosts.or(file.metrics_for_other_hosts);
    let message = match at {
        _ if at.port() == 0 => "port 0 is no port that anybody could ask at".to_owned(),
        _ if at.ip().is_loopback() || for_others.unwrap_or_default() => return Ok(Some(at)),
        _ => format!("{at} is not on the loopback; metrics_for_other_hosts allows it"),
    };
    Err(ConfigError::Invalid { setting: "metrics", message })
}

fn rates(flags: &Flags, file: &File) -> Result<Rates, ConfigError> {
    let rate = |setting, flag: Option<Rate>, file: &Option<String>, default| match (flag, file) {
        (Some(rate), _) => Ok(rate),
        (None, Some(text)) => text.parse().map_err(|error: ParseRateError| ConfigError::Invalid {
            setting,
            message: error.to_string(),
        }),
        (None, None) => Ok(default),
    };
    let usual = Rates::default();
    Ok(Rates {
        user: rate("rate_user", flags.rate_user, &file.rate_user, usual.user)?,
        api_token: rate(
            "rate_api_token",
            flags.rate_api_token,
            &file.rate_api_token,
            usual.api_token,
        )?,
        address: rate("rate_address", flags.rate_address, &file.rate_address, usual.address)?,
        node: rate("rate_node", flags.rate_node, &file.rate_node, usual.node)?,
    })
}

fn streams(flags: &Flags, file: &File) -> Result<StreamLimits, ConfigError> {
    let usual = StreamLimits::default();
    let count = |setting, flag: Option<usize>, file: Option<usize>, usual| {
        let count = flag.or(file).unwrap_or(usual);
        if (1..=MOST_STREAMS).contains(&count) {
            return Ok(count);
        }
        let message = format!("from 1 to {MOST_STREAMS}");
        Err(ConfigError::Invalid { setting, message })
    };
    Ok(StreamLimits {
        open: count("max_streams", flags.max_streams, file.max_streams, usual.open)?,
        open_per_user: count(
            "max_streams_per_user",
            flags.max_streams_per_user,
            file.max_streams_per_user,
            usual.open_per_user,
        )?,
        ..usual
    })
}

fn read(path: &Path) -> Result<File, ConfigError> {
    let failed = |error| ConfigError::Io { path: path.to_owned(), error };
    if fs::metadata(path).map_err(failed)?.len() > MAX_FILE_BYTES {
        return Err(ConfigError::TooLarge { path: path.to_owned() });
    }
    let text = fs::read_to_string(path).map_err(failed)?;
    toml::from_str(&text).map_err(|error| {
        // The message alone: the full error quotes the line, which may hold a password.
        let message = error.message().to_owned();
        ConfigError::Malformed { path: path.to_owned(), message }
    })
}

fn own_names() -> Vec<String> {
    let host = env::var("HOSTNAME").ok().or_else(|| fs::read_to_string("/etc/hostname").ok());
    host.map(|name| name.trim().to_ascii_lowercase())
        .filter(|name| !name.is_empty())
        .into_iter()
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn file(text: &str) -> File {
        toml::from_str(text).unwrap()
    }

    #[test]
    fn servers_are_written_as_nodes_ask_them() {
        let told = |text: &str| merge(Flags::default(), file(&format!("{FULL}\n{text}")));
        assert_eq!(told("").unwrap().servers, []);
        let servers = told(r#"servers = ["https://control-1.example", "https://[::1]:9"]"#);
        let servers: Vec<_> = servers.unwrap().servers.iter().map(ToString::to_string).collect();
        assert_eq!(servers, ["https://control-1.example:8443", "https://[::1]:9"]);
        for wrong in ["control-1.example", "http://control-1.example", "https://a/path"] {
            let refused = told(&format!("servers = [{wrong:?}]"));
            let setting = "servers";
            assert!(
                matches!(refused, Err(ConfigError::Invalid { setting: s, .. }) if s == setting)
            );
        }
    }

    const FULL: &str = r#"
        listen = "127.0.0.1:1"
        state_dir = "/file"
        database = "postgres://file"
        nats = ["nats://file:4222"]
        names = ["file.example"]
    "#;

    #[test]
    fn a_flag_wins_over_the_file_and_the_file_over_the_default() {
        let flags = Flags {
            listen: Some("127.0.0.1:2".parse().unwrap()),
            names: vec!["flag.example".to_owned()],
            ..Flags::default()
        };
        let options = merge(flags, file(FULL)).unwrap();
        assert_eq!(options.listen.port(), 2);
        assert_eq!(options.names, ["flag.example"]);
        assert_eq!(options.state_dir, Path::new("/file"));
        assert_eq!(options.workers, DEFAULT_WORKERS);
        assert_eq!(options.limits.rates, Rates::default());
        let minimal = "database = \"postgres://x\"\nnats = [\"nats://x:1\"]\nnames = [\"x\"]";
        let options = merge(Flags::default(), file(minimal)).unwrap();
        assert_eq!(options.listen.port(), DEFAULT_PORT);
        assert_eq!(options.state_dir, Path::new(DEFAULT_STATE_DIR));
    }

    #[test]
    fn another_machine_has_to_prove_itself_and_the_setting_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let ca = dir.path().join("ca.pem");
        let key = crate::custody::new_key();
        let authority = rap_pki::ClusterAuthority::create(
            rap_proto::ClusterId::from_u128(1),
            &key,
            [1; 16],
            crate::clock::now(),
        );
        fs::write(&ca, rap_pki::pem::encode([authority.certificate_der()])).unwrap();
        let large = dir.path().join("large.pem");
        let zeros = vec![0; MAX_BUS_AUTHORITY_BYTES + 1];
        fs::write(&large, rap_pki::pem::encode([&*zeros])).unwrap();
        let wrong = |flags: Flags| match merge(flags, file(FULL)).and_then(|all| check(&all)) {
            Err(ConfigError::Invalid { setting, .. }) => Some(setting),
            Err(other) => panic!("{other}"),
            Ok(()) => None,
        };
        let verified = format!("postgres://x/y?sslmode=verify-full&sslrootcert={}", ca.display());
        let flags = |database: &str, nats: &str, nats_ca: Option<&Path>| Flags {
            database: Some(database.to_owned()),
            nats: vec![nats.to_owned()],
            nats_ca: nats_ca.map(Path::to_owned),
            ..Flags::default()
        };
        let (local, plain, tls) = ("postgres://localhost/y", "nats://x:4222", "tls://x:4222");
        let missing = dir.path().join("missing.pem");
        for (database, nats, nats_ca, expected) in [
            (local, plain, None, None),
            (&*verified, tls, Some(&*ca), None),
            (&*verified, tls, None, None),
            ("postgres://x/y", plain, None, Some("database")),
            ("postgres://x/y?sslmode=require", plain, None, Some("database")),
            (local, "http://x", None, Some("nats")),
            (local, plain, Some(&*ca), Some("nats_ca")),
            (local, tls, Some(&*missing), Some("nats_ca")),
            (local, tls, Some(&*large), Some("nats_ca")),
        ] {
            assert_eq!(wrong(flags(database, nats, nats_ca)), expected, "{database} {nats}");
        }
    }

    #[test]
    fn metrics_are_nowhere_or_on_this_host_unless_others_are_let_in() {
        let metrics = |more: &str| {
            let merged = merge(Flags::default(), file(&format!("{FULL}\n{more}")));
            merged.map(|options| options.metrics.map(|at| at.to_string()))
        };
        assert_eq!(metrics("").unwrap(), None);
        let [own, other] = ["127.0.0.1:9432", "10.0.0.1:9432"];
        assert_eq!(metrics(&format!("metrics = \"{own}\"")).unwrap().unwrap(), own);
        let let_in = format!("metrics = \"{other}\"\nmetrics_for_other_hosts = true");
        assert_eq!(metrics(&let_in).unwrap().unwrap(), other);
        for place in [other, "0.0.0.0:9432", "127.0.0.1:0"] {
            let refused = metrics(&format!("metrics = \"{place}\""));
            let refused = refused.expect_err(place);
            assert!(matches!(refused, ConfigError::Invalid { setting: "metrics", .. }), "{place}");
        }
    }

    #[test]
    fn what_is_missing_or_unknown_is_named() {
        let missing = merge(Flags::default(), File::default()).unwrap_err();
        assert!(matches!(missing, ConfigError::Missing { setting: "database", .. }));
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("control.toml");
        fs::write(&path, "databse = \"postgres://canary\"").unwrap();
        let malformed = read(&path).unwrap_err().to_string();
        assert!(malformed.contains("databse") && !malformed.contains("canary"), "{malformed}");
        fs::write(&path, "x".repeat(MAX_FILE_BYTES as usize + 1)).unwrap();
        assert!(matches!(read(&path), Err(ConfigError::TooLarge { .. })));
        let rates = merge(Flags::default(), file(&format!("{FULL}\nrate_user = \"7/9\"")));
        assert_eq!(rates.unwrap().limits.rates.user, "7/9".parse().unwrap());
        let wrong = merge(Flags::default(), file(&format!("{FULL}\nrate_node = \"0/9\"")));
        assert!(matches!(wrong, Err(ConfigError::Invalid { setting: "rate_node", .. })));
        let streams = merge(Flags::default(), file(&format!("{FULL}\nmax_streams = 7"))).unwrap();
        assert_eq!(streams.limits.streams.open, 7);
        for count in [0, MOST_STREAMS + 1] {
            let flags = Flags { max_streams_per_user: Some(count), ..Flags::default() };
            let wrong = merge(flags, file(FULL));
            let setting = "max_streams_per_user";
            assert!(matches!(wrong, Err(ConfigError::Invalid { setting: s, .. }) if s == setting));
        }
        let url = |number| format!("https://control-{number}.example").parse().unwrap();
        for (count, fits) in [(MAX_SERVERS, true), (MAX_SERVERS + 1, false)] {
            let flags = Flags { servers: (0..count).map(url).collect(), ..Flags::default() };
            assert_eq!(merge(flags, file(FULL)).is_ok(), fits, "{count} servers");
        }
        let many = Flags { names: vec!["n".to_owned(); MAX_ENTRIES + 1], ..Flags::default() };
        assert!(matches!(merge(many, file(FULL)), Err(ConfigError::Invalid { .. })));
    }
}
