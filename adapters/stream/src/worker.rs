//! The worker's life: accept connections, watch the control connection, stop.

use std::{path::PathBuf, sync::Arc, time::Duration};

use rap_adapter_contract::limit;
use tokio::{
    net::UnixListener,
    sync::{Semaphore, mpsc},
    time::{Instant, sleep, timeout_at},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    channel, control,
    socket::{self, SocketError},
    stop::Stop,
    target::Dialler,
};

/// How many connections may be between accept and their first frame; further ones wait in the
/// listener's queue.
pub const MAX_PENDING: usize = 64;
/// How long tasks may take to notice that they were cancelled.
const CANCEL_TIMEOUT: Duration = Duration::from_secs(1);
/// How long to wait after the system refused to accept, such as for want of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Where the worker listens and how much it takes on.
#[derive(Debug, Clone)]
pub struct Options {
    /// A path in a directory of mode 0700 that belongs to this process' user.
    pub socket: PathBuf,
    /// At most [`limit::MAX_CHANNELS`].
    pub max_channels: usize,
    pub dial_timeout: Duration,
    /// How long the first control connection may take to come.
    pub control_timeout: Duration,
}

impl Options {
    /// The contract's limits.
    pub fn new(socket: PathBuf) -> Self {
        Self {
            socket,
            max_channels: limit::MAX_CHANNELS,
            dial_timeout: Duration::from_millis(limit::DIAL_TIMEOUT_MS),
            control_timeout: Duration::from_millis(limit::CONTROL_TIMEOUT_MS),
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    #[error(transparent)]
    Socket(#[from] SocketError),
    /// Nobody wants this worker: the agent that started it is gone.
    #[error("no control connection came within {0:?}")]
    NoControl(Duration),
}

/// What every connection of the worker shares.
pub(crate) struct Shared {
    pub(crate) dialler: Dialler,
    /// One permit per channel that may be open.
    pub(crate) channels: Arc<Semaphore>,
    pub(crate) max_channels: usize,
    /// Taken by the one control connection and never given back.
    pub(crate) control: Semaphore,
    pub(crate) stop: Stop,
    /// Fires when the control connection came.
    pub(crate) attached: CancellationToken,
}

impl Shared {
    pub(crate) fn open_channels(&self) -> usize {
        self.max_channels.saturating_sub(self.channels.available_permits())
    }
}

/// Serves until the control connection closes or something asks the worker to stop. Each value
/// of `stops` asks so, with the time that open channels may take to finish.
pub async fn run(options: Options, mut stops: mpsc::Receiver<Duration>) -> Result<(), WorkerError> {
    let listener = socket::listen(&options.socket)?;
    let max_channels = options.max_channels.min(limit::MAX_CHANNELS);
    let shared = Arc::new(Shared {
        dialler: Dialler::new(options.dial_timeout),
        channels: Arc::new(Semaphore::new(max_channels)),
        max_channels,
        control: Semaphore::new(1),
        stop: Stop::default(),
        attached: CancellationToken::new(),
    });
    let tasks = TaskTracker::new();
    tracing::info!(max_channels, "the worker is listening");
    let result = tokio::select! {
        () = accept(&listener, &shared, &tasks) => Ok(()),
        () = shared.stop.asked() => Ok(()),
        () = control_missing(&shared, options.control_timeout) => {
            Err(WorkerError::NoControl(options.control_timeout))
        }
        () = signalled(&mut stops, &shared.stop) => Ok(()),
    };
    drop(listener);
    socket::remove(&options.socket);
    if result.is_ok() {
        finish(&shared, &tasks, &mut stops).await;
    }
    result
}

async fn accept(listener: &UnixListener, shared: &Arc<Shared>, tasks: &TaskTracker) {
    let pending = Arc::new(Semaphore::new(MAX_PENDING));
    loop {
        let Ok(permit) = Arc::clone(&pending).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                tasks.spawn(serve(Arc::clone(shared), stream, permit));
            }
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn serve(
    shared: Arc<Shared>,
    mut stream: tokio::net::UnixStream,
    pending: tokio::sync::OwnedSemaphorePermit,
) {
    if let Err(error) = socket::check_peer(&stream) {
        tracing::warn!(%error, "a connection was refused");
        return;
    }
    let first = tokio::select! {
        first = channel::first_frame(&mut stream) => first,
        () = shared.stop.now() => return,
    };
    drop(pending);
    match first {
        Some(rap_adapter_contract::Request::Control { format }) => {
            control::serve(&shared, stream, format).await;
        }
        Some(rap_adapter_contract::Request::Open(open)) => {
            channel::serve(&shared, stream, open).await;
        }
        None => {}
    }
}

async fn control_missing(shared: &Shared, patience: Duration) {
    let deadline = Instant::now() + patience;
    if timeout_at(deadline, shared.attached.cancelled()).await.is_ok() {
        std::future::pending::<()>().await;
    }
}

/// Passes the first demand to stop on. Never returns when there can be none.
async fn signalled(stops: &mut mpsc::Receiver<Duration>, stop: &Stop) {
    match stops.recv().await {
        Some(grace) => stop.ask(grace),
        None => std::future::pending().await,
    }
}

/// Lets channels finish until the deadline, then ends them.
async fn finish(shared: &Shared, tasks: &TaskTracker, stops: &mut mpsc::Receiver<Duration>) {
    tracing::info!(open_channels = shared.open_channels(), "the worker is stopping");
    let again = async {
        loop {
            signalled(stops, &shared.stop).await;
        }
    };
    tokio::select! {
        _ = shared.channels.acquire_many(u32::try_from(shared.max_channels).unwrap_or(u32::MAX)) => {}
        () = shared.stop.now() => {}
        () = again => {}
    }
    shared.stop.ask(Duration::ZERO);
    tasks.close();
    if tokio::time::timeout(CANCEL_TIMEOUT, tasks.wait()).await.is_err() {
        tracing::warn!("some channels did not end in time");
    }
    tracing::info!("the worker stopped");
}
