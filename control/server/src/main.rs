//! `rap-control`: the control plane as a program.

use std::{path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand};
use mimalloc::MiMalloc;
use rap_bus::nats_authority::{Revocations, ServerOptions};
use rap_control::{
    backup::{self, BackupError, Kept},
    config::{self, Flags, Store, StoreFlags},
    replica::{self, Change},
    serve, telemetry,
};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// What is appended, folded and answered is made on one thread and dropped on another: of what an
/// event of many writers took this process, glibc's allocator was a third.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// The control plane of the Secure Access Fabric.
#[derive(Debug, Parser)]
#[command(name = "rap-control", version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve the API until SIGTERM or SIGINT
    Run(Flags),
    /// Read the configuration, say what is wrong with it, and change nothing
    CheckConfig(Flags),
    /// Bring the database's schema up to date, and let the server's role do what it needs alone
    ///
    /// With `--owner-database`, the role of `database` can neither change nor remove an event. It
    /// changes nothing in a database that is up to date, so that it can be run before each update.
    Migrate {
        #[command(flatten)]
        store: StoreFlags,
        /// The same database as the role that owns its tables; without it, `database` is that role's
        #[arg(
            long,
            env = "RAP_CONTROL_OWNER_DATABASE",
            value_name = "URL",
            hide_env_values = true
        )]
        owner_database: Option<String>,
    },
    /// Say which replicas sign the authority beat, or change that, from a replica's own host
    #[command(subcommand)]
    Replica(Replica),
    /// Write everything of the log that a restore needs into an empty folder, and prove it
    ///
    /// The cluster's keys are not in it: copy the state directory too, and keep the two apart.
    Backup {
        #[command(flatten)]
        store: StoreFlags,
        #[arg(value_name = "DIR")]
        folder: PathBuf,
    },
    /// Prove a backup, and store it in an empty database
    ///
    /// The state directory must be the one of the backup's cluster. Nodes that saw a longer log
    /// than the backup holds freeze this control plane: see docs/operations.md.
    Restore {
        #[command(flatten)]
        store: StoreFlags,
        #[arg(value_name = "DIR")]
        folder: PathBuf,
    },
    /// Write the events before a position into an empty folder that verifies by itself
    ///
    /// `rap audit verify DIR` checks it. The database keeps its rows.
    Archive {
        #[command(flatten)]
        store: StoreFlags,
        /// The first position that is left out
        #[arg(long, value_name = "POSITION")]
        before: u64,
        #[arg(value_name = "DIR")]
        folder: PathBuf,
    },
    /// Print a nats-server configuration that trusts this cluster
    NatsConfig {
        /// Where the cluster's keys are
        #[arg(long, env = "RAP_CONTROL_STATE_DIR", default_value = "/var/lib/rap-control")]
        state_dir: PathBuf,
        /// Where the server listens
        #[arg(long, default_value = "127.0.0.1:4222")]
        listen: std::net::SocketAddr,
        /// Where the server keeps account tokens
        #[arg(long, default_value = "/var/lib/nats/rap")]
        resolver_dir: PathBuf,
    },
}

#[derive(Debug, Subcommand)]
enum Replica {
    /// List the replicas, and how many of them make a quorum
    Ls(Flags),
    /// Add this host's replica
    Add(Flags),
    /// Remove a replica
    Rm {
        /// The replica's key, as `ls` shows it
        key: rap_proto::KeyId,
        #[command(flatten)]
        flags: Flags,
    },
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Run(flags) => run(flags),
        Command::CheckConfig(flags) => check(flags),
        Command::Migrate { store, owner_database } => migrate(store, owner_database.as_deref()),
        Command::Replica(command) => replica(command),
        Command::Backup { store, folder } => {
            at_rest(store, async |store| backup::backup(store, &folder).await, "backed up")
        }
        Command::Restore { store, folder } => {
            at_rest(store, async |store| backup::restore(store, &folder).await, "restored")
        }
        Command::Archive { store, before, folder } => {
            at_rest(store, async |store| backup::archive(store, before, &folder).await, "archived")
        }
        Command::NatsConfig { state_dir, listen, resolver_dir } => {
            nats_config(&state_dir, listen, resolver_dir)
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("rap-control: {message}");
            ExitCode::FAILURE
        }
    }
}

fn check(flags: Flags) -> Result<(), String> {
    let options = config::load(flags).map_err(|error| error.to_string())?;
    println!("listen     {}", options.listen);
    let metrics = options.metrics.map_or_else(|| "(nowhere)".to_owned(), |at| at.to_string());
    println!("metrics    {metrics}");
    println!("state_dir  {}", options.state_dir.display());
    println!("names      {}", options.names.join(", "));
    println!("workers    {}", options.workers);
    let rates = options.limits.rates;
    println!("rates      user {}, API token {}", rates.user, rates.api_token);
    println!("           address {}, node {}", rates.address, rates.node);
    let streams = options.limits.streams;
    println!("streams    {}, of one user {}", streams.open, streams.open_per_user);
    Ok(())
}

fn run(flags: Flags) -> Result<(), String> {
    let options = config::load(flags).map_err(|error| error.to_string())?;
    actix_rt::System::new().block_on(async {
        let cluster = rap_control::cluster(&options.state_dir);
        let cluster = cluster.map_err(|error| error.to_string())?;
        let _telemetry = telemetry::start("rap-control", cluster);
        raise_file_limit(options.limits.streams.open);
        let stop = stop_signal().map_err(|error| error.to_string())?;
        let mut running = serve(options, stop).await.map_err(|error| error.to_string())?;
        tracing::info!(address = %running.address, cluster = %running.cluster, "serving");
        println!("CA fingerprint  sha256:{}", running.ca_fingerprint);
        if let Some(code) = running.setup_code.take() {
            println!("Setup code      {}", code.reveal());
            println!("It is shown this once and makes the first platform owner.");
        }
        // Without a service manager there is nobody to tell.
        let _ = sd_notify::notify(false, &[sd_notify::NotifyState::Ready]);
        running.stopped().await.map_err(|error| error.to_string())
    })
}

/// Each event stream is a connection, and each connection a file; the usual soft limit is 1,024.
fn raise_file_limit(streams: usize) {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::warn!(%error, "the limit of open files stays as it is");
    }
    if limit.maximum.is_some_and(|most| most < streams as u64) {
        let most = limit.maximum;
        tracing::warn!(streams, ?most, "fewer files may be open than event streams");
    }
}

fn migrate(flags: StoreFlags, owner: Option<&str>) -> Result<(), String> {
    let server = config::load_store(flags).map_err(|error| error.to_string())?.database;
    let owner = owner.unwrap_or(&server);
    actix_rt::System::new()
        .block_on(rap_log_postgres::migrate(owner, &server))
        .map_err(|error| error.to_string())?;
    println!("the schema is up to date");
    Ok(())
}

fn replica(command: Replica) -> Result<(), String> {
    let (flags, change) = match command {
        Replica::Ls(flags) => (flags, None),
        Replica::Add(flags) => (flags, Some(Change::Add)),
        Replica::Rm { key, flags } => (flags, Some(Change::Remove(key))),
    };
    let options = config::load(flags).map_err(|error| error.to_string())?;
    let replicas = actix_rt::System::new()
        .block_on(async {
            match change {
                None => replica::list(&options).await,
                Some(change) => replica::change(&options, change).await,
            }
        })
        .map_err(|error| error.to_string())?;
    print!("{replicas}");
    Ok(())
}

/// Runs a command over a log that needs no server, and says what it did.
fn at_rest(
    flags: StoreFlags,
    run: impl AsyncFn(&Store) -> Result<Kept, BackupError>,
    done: &str,
) -> Result<(), String> {
    let store = config::load_store(flags).map_err(|error| error.to_string())?;
    let kept = actix_rt::System::new().block_on(async { run(&store).await });
    let Kept { size, root } = kept.map_err(|error| error.to_string())?;
    println!("{done}: {size} events, root {root}");
    Ok(())
}

fn nats_config(
    state_dir: &std::path::Path,
    listen: std::net::SocketAddr,
    resolver_dir: PathBuf,
) -> Result<(), String> {
    let authority = rap_control::nats_authority(state_dir).map_err(|error| error.to_string())?;
    let options = ServerOptions { listen, accounts: resolver_dir, tls: None };
    let text = authority
        .server_config(&options, &Revocations::new(), rap_control::now())
        .map_err(|error| error.to_string())?;
    print!("{text}");
    Ok(())
}

fn stop_signal() -> std::io::Result<impl Future<Output = ()> + Send + 'static> {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut terminate, mut interrupt) =
        (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    Ok(async move {
        tokio::select! {
            biased;
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        let _ = sd_notify::notify(false, &[sd_notify::NotifyState::Stopping]);
    })
}
