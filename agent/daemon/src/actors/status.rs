//! Answers `rap-node-agent status` on a Unix socket that only this user and root can use, and whoever
//! reads metrics, where that was asked for.

use std::{
    fs, io,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use actix::{Actor, AsyncContext as _, Context, WrapFuture as _};
use rustix::process::geteuid;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{UnixListener, UnixStream},
    time::timeout,
};

use crate::{MetricsAt, StatusReport, board::Board, clock::Clock, metrics, shell::MAILBOX};

/// The largest report.
const MAX_REPORT_BYTES: u64 = 4 * 1024 * 1024;
/// How long one answer may take; they are given one after the other.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);
/// How long to wait before the socket is opened again.
const LISTEN_RETRY: Duration = Duration::from_secs(60);
/// How long to wait after the system refused to accept.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

#[derive(Debug, thiserror::Error)]
pub enum StatusError {
    #[error("no agent answers at {path}: {error}")]
    NotRunning { path: PathBuf, error: io::Error },
    #[error("the agent's answer cannot be read: {0}")]
    Answer(String),
}

pub(crate) struct StatusActor {
    socket: PathBuf,
    board: Board,
    metrics: Option<MetricsAt>,
    clock: Clock,
}

impl StatusActor {
    pub(crate) fn new(
        run_dir: &Path,
        board: Board,
        metrics: Option<MetricsAt>,
        clock: Clock,
    ) -> Self {
        Self { socket: socket_in(run_dir), board, metrics, clock }
    }

    /// An agent whose status cannot be asked for still serves, so this is tried again quietly.
    fn open(&mut self, ctx: &mut Context<Self>) {
        match listen(&self.socket) {
            Ok(listener) => {
                let serving = serve(listener, self.board.clone());
                ctx.spawn(serving.into_actor(self));
            }
            Err(error) => {
                let path = self.socket.display();
                tracing::error!(%error, %path, "the status socket cannot be opened");
                ctx.run_later(LISTEN_RETRY, Self::open);
            }
        }
    }

    /// The same goes for metrics that cannot be read.
    fn open_metrics(&mut self, ctx: &mut Context<Self>) {
        let Some(at) = &self.metrics else { return };
        match metrics::bind(at) {
            Ok(listener) => {
                tracing::info!(%at, "metrics can be read");
                let serving = metrics::serve(listener, self.board.clone(), self.clock);
                ctx.spawn(serving.into_actor(self));
            }
            Err(error) => {
                tracing::error!(%error, %at, "metrics cannot be read");
                ctx.run_later(LISTEN_RETRY, Self::open_metrics);
            }
        }
    }
}

/// Asks the agent that runs on a state directory for its report.
pub async fn status(state_dir: &Path) -> Result<StatusReport, StatusError> {
    let path = socket_in(&state_dir.join("run"));
    let ask = async {
        let stream = UnixStream::connect(&path).await?;
        let mut bytes = Vec::new();
        stream.take(MAX_REPORT_BYTES).read_to_end(&mut bytes).await?;
        Ok(bytes)
    };
    let answer =
        timeout(ANSWER_TIMEOUT * 2, ask).await.unwrap_or(Err(io::ErrorKind::TimedOut.into()));
    let bytes = answer.map_err(|error| StatusError::NotRunning { path: path.clone(), error })?;
    serde_json::from_slice(&bytes).map_err(|error| StatusError::Answer(error.to_string()))
}

fn socket_in(run_dir: &Path) -> PathBuf {
    run_dir.join("status.sock")
}

fn listen(path: &Path) -> io::Result<UnixListener> {
    // The state directory is locked, so a socket that is there belongs to nobody.
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

async fn serve(listener: UnixListener, board: Board) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => match timeout(ANSWER_TIMEOUT, answer(stream, &board)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::debug!(%error, "a status request failed"),
                Err(_) => tracing::debug!("a status request took too long"),
            },
            Err(error) => {
                tracing::warn!(%error, "a status request was not accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn answer(mut stream: UnixStream, board: &Board) -> io::Result<()> {
    let peer = stream.peer_cred()?.uid();
    if !may_ask(peer, geteuid().as_raw()) {
        tracing::warn!(peer, "another user asked for the status and was refused");
        return Ok(());
    }
    let report = serde_json::to_vec(&board.read()).map_err(io::Error::other)?;
    stream.write_all(&report).await?;
    stream.shutdown().await
}

const fn may_ask(peer: u32, own: u32) -> bool {
    peer == own || peer == 0
}

impl Actor for StatusActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(MAILBOX);
        self.open(ctx);
        self.open_metrics(ctx);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_agents_own_user_and_root_may_ask() {
        assert!(may_ask(1000, 1000) && may_ask(0, 1000));
        assert!(!may_ask(1001, 1000) && !may_ask(1000, 0));
    }
}
