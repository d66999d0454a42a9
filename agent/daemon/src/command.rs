//! The command line.

mod carriers;
mod peers;

use std::{
    env,
    io::{self, IsTerminal as _, Write as _},
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use clap::{Args, Parser, Subcommand, ValueEnum};
use rap_node_agent::{
    AgentState, AuthorityStatus, BusChoice, ConnectionStatus, ControlStatus, ControlUrl,
    DriverChoice, JoinOptions, Joined, MeshReport, RelayedReport, RunEvent, RunOptions,
    StatusReport,
    config::{Config, Settings},
    join, run, status,
    telemetry::{self, TelemetryGuard},
};
use rap_proto::{
    Authority, ClusterId, Digest, Name, NodeId,
    secret::{JoinSecret, Secret},
};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::signal::unix::{SignalKind, signal};

use crate::notify;

/// Exit codes: 0 done, 1 failed, 2 wrong usage, 3 still waiting for approval.
const WAITING: u8 = 3;

/// Makes this host a node of a secure access fabric.
#[derive(Parser)]
#[command(name = "rap-node-agent", version, propagate_version = true)]
#[command(after_help = "Every option can also be set by its environment variable, or in \
    /etc/rap/node-agent.toml under the option's name with underscores. A flag wins over the \
    environment, the environment over the file.")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
    /// The configuration file [default: /etc/rap/node-agent.toml, when it exists]
    #[arg(long, global = true, env = "RAP_NODE_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    settings: Settings,
}

#[derive(Subcommand)]
enum Command {
    /// Enroll this host, with a line that an administrator made by `rap token create-join`.
    Join(JoinArguments),
    /// Run the agent; what the service unit does.
    Run,
    /// Ask the running agent how it is.
    Status(StatusArguments),
    /// Ask the running agent why a node is used or not.
    Why(WhyArguments),
    /// Check the configuration and say what it amounts to.
    CheckConfig,
}

#[derive(Args)]
struct JoinArguments {
    /// A server of the control plane, as https://HOST[:PORT]; repeat or separate by commas to name others, of
    /// which some are asked where the first does not answer
    #[arg(
        long,
        env = "RAP_NODE_CONTROL",
        value_name = "URL",
        value_delimiter = ',',
        required = true
    )]
    control: Vec<ControlUrl>,
    /// The fingerprint of the cluster's CA, as sha256: and 64 hexadecimal digits
    #[arg(long, env = "RAP_NODE_CA", value_name = "FINGERPRINT", value_parser = fingerprint)]
    ca: Digest,
    /// The join token, usable once; in the environment it does not show in the process list
    #[arg(long, env = "RAP_NODE_TOKEN", hide_env_values = true, value_name = "TOKEN")]
    token: String,
    /// The node's name [default: the host's]
    #[arg(long, env = "RAP_NODE_NAME")]
    name: Option<Name>,
    /// How many seconds to wait for an approver
    #[arg(long, env = "RAP_NODE_WAIT_S", value_name = "SECONDS", default_value_t = 3_600)]
    wait_s: u32,
}

#[derive(Args)]
struct StatusArguments {
    /// Say nothing; exit 0 when the agent runs and serves, 1 otherwise
    #[arg(long)]
    check: bool,
    /// How to show it
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

#[derive(Args)]
struct WhyArguments {
    /// The node that is asked about.
    node: NodeId,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    Text,
    Json,
}

type Failure = Box<dyn std::error::Error>;

pub(crate) fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match perform(arguments) {
        Ok(code) => code,
        Err(error) => {
            // Standard error may be gone; there is nobody left to tell.
            let _ = writeln!(io::stderr(), "rap-node-agent: {error}");
            ExitCode::FAILURE
        }
    }
}

fn perform(arguments: Arguments) -> Result<ExitCode, Failure> {
    let file = Settings::from_file(arguments.config.as_deref())?;
    let program = env::current_exe()?;
    let beside = program.parent().unwrap_or(Path::new("/"));
    let config = arguments.settings.over(file).complete(beside)?;
    match arguments.command {
        Command::Join(join) => enroll(join, config),
        Command::Run => serve(config),
        Command::Status(how) => show(&how, &config),
        Command::Why(WhyArguments { node }) => explain(node, &config),
        Command::CheckConfig => check(&config),
    }
}

fn logs(config: &Config, cluster: Option<ClusterId>) -> Result<TelemetryGuard, Failure> {
    Ok(telemetry::init(config.log_format, &config.log, cluster)?)
}

fn enroll(arguments: JoinArguments, config: Config) -> Result<ExitCode, Failure> {
    let _logs = logs(&config, None)?;
    let name = match arguments.name {
        Some(name) => name,
        None => host_name()?,
    };
    let shown = name.clone();
    let mut servers = arguments.control.into_iter();
    let options = JoinOptions {
        control: servers.next().ok_or("--control: it names no server")?,
        others: servers.collect(),
        ca: arguments.ca,
        token: Secret::<JoinSecret>::parse(&arguments.token)
            .map_err(|_| "--token: not a join token; it starts with rapj_")?,
        name,
        listen: config.listen,
        advertise: config.advertise,
        state_dir: config.state_dir,
        wait: Duration::from_secs(arguments.wait_s.into()),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let joined = runtime.block_on(join(options, |node, fingerprint| {
        say(&format!(
            "Node {node} waits for approval. Its key's fingerprint is\n\n    {fingerprint}\n\n\
             An administrator approves exactly this host with\n\n    \
             rap node approve {shown} --fingerprint {fingerprint}\n"
        ));
    }))?;
    match joined {
        Joined::Enrolled { node } => {
            say(&format!("This host is node {node} now. Start the agent: `rap-node-agent run`."));
            Ok(ExitCode::SUCCESS)
        }
        Joined::Pending { node, .. } => {
            say(&format!(
                "Node {node} still waits for approval. `rap-node-agent run` goes on waiting."
            ));
            Ok(ExitCode::from(WAITING))
        }
    }
}

fn serve(config: Config) -> Result<ExitCode, Failure> {
    let _logs = logs(&config, rap_node_agent::cluster(&config.state_dir)?)?;
    raise_file_limit();
    let options = RunOptions {
        state_dir: config.state_dir,
        listen: config.listen,
        advertise: config.advertise,
        worker: config.worker,
        bus: BusChoice::Credentials,
        carrier: config.carrier.map(Into::into),
        peers: config.peers.map(Into::into),
        drain_limit: config.drain_limit,
        driver: match config.recording_driver_for_tests {
            Some(to) => DriverChoice::RecordingForTests { to },
            None => DriverChoice::None,
        },
        metrics: config.metrics,
    };
    run(options, shutdown(), |event| match event {
        RunEvent::Pending { node, fingerprint } => {
            tracing::warn!(%node, %fingerprint, "waiting for approval");
            notify::ready("waiting for approval");
        }
        RunEvent::Running(ready) => {
            tracing::info!(node = %ready.node, cluster = %ready.cluster, "the agent runs");
            notify::ready("running");
        }
        RunEvent::Draining => {
            tracing::info!("draining; open sessions may finish");
            notify::stopping();
        }
    })?;
    tracing::info!("the agent stopped");
    Ok(ExitCode::SUCCESS)
}

/// A channel at an egress holds two descriptors at least, the worker's connection and the target's
/// socket, and a relayed flow two sockets: the usual soft limit of 1,024 would be reached long before
/// the limits of the mesh.
fn raise_file_limit() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::warn!(%error, "the limit of open files stays as it is");
    }
}

/// Resolves at the first SIGTERM or SIGINT, and meanwhile tells the service manager that the
/// agent's own thread turns. A second signal ends the process at once.
async fn shutdown() {
    let (Ok(mut terminate), Ok(mut interrupt)) =
        (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        tracing::error!("signals cannot be heard");
        return std::future::pending().await;
    };
    let period = notify::watchdog().unwrap_or(Duration::from_secs(3_600));
    let mut watchdog = tokio::time::interval(period);
    loop {
        tokio::select! {
            biased;
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            _ = watchdog.tick() => notify::alive(),
        }
    }
    tokio::spawn(async move {
        tokio::select! {
            biased;
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::warn!("asked twice; leaving at once");
        std::process::exit(1);
    });
}

fn show(how: &StatusArguments, config: &Config) -> Result<ExitCode, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let report = runtime.block_on(status(&config.state_dir));
    if how.check {
        let serving = report.is_ok_and(|report| report.state == AgentState::Running);
        return Ok(if serving { ExitCode::SUCCESS } else { ExitCode::FAILURE });
    }
    let report = report?;
    match how.output {
        Output::Json => say(&serde_json::to_string_pretty(&report)?),
        Output::Text => say(&table(&report)),
    }
    Ok(ExitCode::SUCCESS)
}

fn explain(node: NodeId, config: &Config) -> Result<ExitCode, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let report = runtime.block_on(status(&config.state_dir))?;
    say(&peers::why(&report, node));
    Ok(ExitCode::SUCCESS)
}

fn check(config: &Config) -> Result<ExitCode, Failure> {
    let mut findings = Vec::new();
    if !config.worker.is_file() {
        findings.push(format!("worker: {} is not there", config.worker.display()));
    }
    say(&format!(
        "state_dir      {}\nlisten         {}\nadvertise      {}\nworker         {}\n\
         drain_limit_s  {}\nmetrics        {}\nlog            {}",
        config.state_dir.display(),
        config.listen,
        list(config.advertise.iter(), "(found out)"),
        config.worker.display(),
        config.drain_limit.as_secs(),
        config.metrics.as_ref().map_or_else(|| "(nowhere)".to_owned(), ToString::to_string),
        config.log,
    ));
    if findings.is_empty() { Ok(ExitCode::SUCCESS) } else { Err(findings.join("; ").into()) }
}

fn table(report: &StatusReport) -> String {
    let or_none = |value: Option<String>| value.unwrap_or_else(|| "-".to_owned());
    let state = serde_json::to_value(report.state).ok();
    let state = state.and_then(|value| value.as_str().map(str::to_owned));
    let snapshot = report.snapshot.as_ref();
    let rows = [
        ("name", report.name.to_string()),
        ("state", or_none(state)),
        ("node", or_none(report.node.map(|node| node.to_string()))),
        ("cluster", or_none(report.cluster.map(|cluster| cluster.to_string()))),
        ("fingerprint", report.fingerprint.to_string()),
        ("version", report.agent_version.clone()),
        ("started", report.started_at.to_string()),
        (
            "certificate",
            or_none(report.certificate.as_ref().map(|certificate| {
                format!("renewal {}, until {}", certificate.renewal, certificate.expires_at)
            })),
        ),
        (
            "snapshot",
            or_none(snapshot.map(|snapshot| {
                format!("version {}, until {}", snapshot.version, snapshot.expires_at)
            })),
        ),
        ("authority", authority(&report.authority)),
        ("roles", list(snapshot.iter().flat_map(|snapshot| &snapshot.roles), "-")),
        (
            "control",
            or_none(Some(match &report.control.last_error {
                Some(error) => format!("not reached: {error}"),
                None if report.control.reachable => "reached".to_owned(),
                None => "-".to_owned(),
            })),
        ),
        ("server", server(&report.control)),
        ("bus", if report.bus_connected { "connected" } else { "not connected" }.to_owned()),
        ("listening", or_none(report.mesh.listening.map(|address| address.to_string()))),
        ("sessions", sessions(&report.mesh)),
        ("relayed", relayed(&report.mesh.relayed)),
        ("moves", peers::moves(&report.mesh.tcp_moves)),
        ("controllers", peers::controllers(&report.mesh)),
        ("carriers", carriers::summary(&report.mesh.carriers)),
        ("reachable", reachable(&report.mesh)),
        ("peers", peers::summary(&report.peers)),
        (
            "worker",
            match (report.worker.serving, &report.worker.last_error) {
                (true, _) => format!("serving, restarted {} times", report.worker.restarts),
                (false, Some(error)) => format!("not serving: {error}"),
                (false, None) => "not serving".to_owned(),
            },
        ),
        ("connections", list(report.leases.connections.iter().map(connection), "-")),
        (
            "renewals",
            format!(
                "{} answered, {} refused, {} superseded",
                report.leases.renewed, report.leases.refused, report.leases.fenced
            ),
        ),
        ("spool", format!("{} waiting, {} left out", report.spool.waiting, report.spool.left_out)),
        ("capabilities", list(report.capabilities.iter(), "-")),
    ];
    rows.map(|(name, value)| format!("{name:<13} {value}")).join("\n")
        + &peers::lines(&report.peers)
}

/// Which of control's servers is asked.
fn server(control: &ControlStatus) -> String {
    let ControlStatus { server, servers, server_changes, .. } = control;
    match server {
        Some(server) => format!("{server}, one of {servers}, {server_changes} changes"),
        None => "-".to_owned(),
    }
}

fn sessions(mesh: &MeshReport) -> String {
    format!(
        "{} as entry ({} absent), {} as egress, {} flows relayed, {} flows sent on tcp, {} through",
        mesh.entry_sessions,
        mesh.absent_sessions,
        mesh.egress_sessions,
        mesh.relayed_flows,
        mesh.tcp_flows,
        mesh.through_flows
    )
}

fn relayed(relayed: &RelayedReport) -> String {
    format!(
        "{} bytes, {} datagrams; {} dropped, {} times held back, {} waits, {} from strangers",
        relayed.bytes,
        relayed.datagrams,
        relayed.dropped_datagrams,
        relayed.held_back,
        relayed.waits,
        relayed.strangers
    )
}

fn reachable(mesh: &MeshReport) -> String {
    format!("at {} relays; {} egresses here", mesh.reachable_at, mesh.reachable_nodes)
}

fn authority(status: &AuthorityStatus) -> String {
    let quorum = match status.replicas {
        0 => String::new(),
        1 => ", one replica: no quorum".to_owned(),
        replicas => format!(", {} of {replicas} replicas make a quorum", status.needed),
    };
    match status.standing {
        Authority::Unheard => "no beat was heard".to_owned(),
        Authority::Healthy => format!("healthy, beat {}{quorum}", status.sequence),
        Authority::Degraded { since } => format!("degraded since {since}{quorum}"),
        Authority::Isolated { since } => format!("isolated, no beat since {since}{quorum}"),
    }
}

fn connection(status: &ConnectionStatus) -> String {
    let ConnectionStatus { connection, state, generation, .. } = status;
    match generation {
        Some(generation) => format!("{connection} {state} under {generation}"),
        None => format!("{connection} {state}"),
    }
}

fn list<T: ToString>(values: impl Iterator<Item = T>, empty: &str) -> String {
    let values: Vec<String> = values.map(|value| value.to_string()).collect();
    if values.is_empty() { empty.to_owned() } else { values.join(", ") }
}

fn fingerprint(text: &str) -> Result<Digest, String> {
    let digits = text.strip_prefix("sha256:").ok_or("it starts with sha256:")?;
    digits.parse().map_err(|error: rap_proto::digest::ParseDigestError| error.to_string())
}

fn host_name() -> Result<Name, Failure> {
    let uname = rustix::system::uname();
    let host = uname.nodename().to_string_lossy().to_lowercase();
    let label = host.split('.').next().unwrap_or_default().to_owned();
    label
        .parse()
        .map_err(|error| format!("the host's name cannot be used ({error}); give --name").into())
}

/// Prints a line, unless nobody reads any more.
fn say(text: &str) {
    let mut out = io::stdout().lock();
    let _ = writeln!(out, "{text}");
    if out.is_terminal() {
        let _ = out.flush();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        use clap::CommandFactory as _;
        Arguments::command().debug_assert();
    }

    #[test]
    fn fingerprints_name_their_algorithm() {
        let digits = "ab".repeat(32);
        assert!(fingerprint(&format!("sha256:{digits}")).is_ok());
        for wrong in [digits.clone(), format!("md5:{digits}"), "sha256:xyz".to_owned()] {
            assert!(fingerprint(&wrong).is_err(), "{wrong}");
        }
    }
}
