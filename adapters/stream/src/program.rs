//! The program `rap-stream-worker`: started by the node agent, never by hand.

use std::{io, path::PathBuf, process::ExitCode, time::Duration};

use clap::Parser;
use rap_adapter_contract::limit::MAX_CHANNELS;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::mpsc,
};
use tracing_subscriber::EnvFilter;

use crate::{Options, run};

/// How long open channels may finish after the first SIGTERM or SIGINT; the second ends them.
const SIGNAL_GRACE: Duration = Duration::from_secs(10);

/// The byte-stream adapter worker of a node agent.
///
/// The agent starts it and speaks to it over a Unix socket. It dials ssh, web and tcp resources
/// that the agent names, and exits when the agent's control connection closes.
#[derive(Parser)]
#[command(name = "rap-stream-worker", version)]
struct Arguments {
    /// Where to listen: a path in a directory of mode 0700 that belongs to this user.
    #[arg(long, env = "RAP_WORKER_SOCKET")]
    socket: PathBuf,
    /// The most channels open at once.
    #[arg(long, env = "RAP_WORKER_MAX_CHANNELS", default_value_t = MAX_CHANNELS)]
    max_channels: usize,
    /// What to log, as in `info` or `rap_stream_worker=debug`. JSON lines on standard error.
    #[arg(long, env = "RAP_LOG")]
    log: Option<String>,
}

/// Serves as the command line says until the worker's end. The whole process is its own: it sets
/// up logging and takes the signals. `default_log` is what is logged when nothing else is asked
/// for.
pub fn main(default_log: &str) -> ExitCode {
    let arguments = Arguments::parse();
    let filter = arguments.log.as_deref().and_then(|log| EnvFilter::try_new(log).ok());
    let filter = filter.unwrap_or_else(|| EnvFilter::new(default_log));
    tracing_subscriber::fmt().json().with_env_filter(filter).with_writer(io::stderr).init();
    raise_file_limit();
    match serve(Options { max_channels: arguments.max_channels, ..Options::new(arguments.socket) })
    {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(%error, "the worker stopped");
            ExitCode::FAILURE
        }
    }
}

#[tokio::main]
async fn serve(options: Options) -> Result<(), Box<dyn std::error::Error>> {
    let (sender, stops) = mpsc::channel(4);
    let terminate = signal(SignalKind::terminate())?;
    let interrupt = signal(SignalKind::interrupt())?;
    tokio::spawn(forward_signals(terminate, interrupt, sender));
    run(options, stops).await?;
    Ok(())
}

async fn forward_signals(
    mut terminate: Signal,
    mut interrupt: Signal,
    sender: mpsc::Sender<Duration>,
) {
    let mut grace = SIGNAL_GRACE;
    loop {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        if sender.send(grace).await.is_err() {
            return;
        }
        grace = Duration::ZERO;
    }
}

/// Each channel whose bytes pass here holds six descriptors, two sockets and two pipes; the usual soft
/// limit of 1,024 would be a sixth of what the contract promises.
fn raise_file_limit() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::warn!(%error, "the limit of open files stays as it is");
    }
}
