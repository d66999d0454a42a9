//! One adapter worker's process, and the channels through it.

use std::{
    collections::BTreeMap,
    env,
    fs::{self, DirBuilder},
    io,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    process::Stdio,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use rap_adapter_contract::{
    ControlEvent, ControlRequest, Request,
    frame::{body_length, decode, encode},
    limit::FORMAT,
};
use rap_proto::SessionId;
use serde::{Serialize, de::DeserializeOwned};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{UnixStream, unix::OwnedReadHalf},
    process::{Child, Command},
    sync::mpsc,
    time::sleep,
};
use tokio_util::sync::CancellationToken;

use crate::random;

/// The longest path of a Unix socket (sun_path, with its end).
const MAX_SOCKET_PATH: usize = 107;
/// How often a fresh worker's socket is looked for.
const CONNECT_EVERY: Duration = Duration::from_millis(10);
/// The orders that wait for a worker.
pub(crate) const ORDERS: usize = 8;

/// The only part of the agent's environment that a worker sees.
const LOG: &str = "RAP_LOG";
/// What the name of a worker's directory starts with.
const PREFIX: &str = "w-";

/// Removes the directories of workers whose agent was killed.
pub(crate) fn remove_leftovers(run_dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(run_dir)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(PREFIX) {
            fs::remove_dir_all(entry.path())?;
        }
    }
    Ok(())
}

/// A worker that serves: how to reach it, and who uses it.
#[derive(Debug)]
pub(crate) struct WorkerHandle {
    pub(crate) socket: PathBuf,
    /// Fires when the process is dead or dying.
    pub(crate) died: CancellationToken,
    sessions: Mutex<BTreeMap<SessionId, u32>>,
    channels: AtomicU64,
}

impl WorkerHandle {
    pub(crate) fn new(socket: PathBuf, died: CancellationToken) -> Self {
        Self { socket, died, sessions: Mutex::default(), channels: AtomicU64::new(0) }
    }

    /// How many sessions have a channel open.
    pub(crate) fn sessions(&self) -> u32 {
        u32::try_from(self.locked().len()).unwrap_or(u32::MAX)
    }

    pub(crate) fn next_channel(&self) -> u64 {
        self.channels.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Counts one more channel of the session for as long as the result lives.
    pub(crate) fn use_by(self: &Arc<Self>, session: SessionId) -> InUse {
        *self.locked().entry(session).or_default() += 1;
        InUse { worker: self.clone(), session }
    }

    fn locked(&self) -> std::sync::MutexGuard<'_, BTreeMap<SessionId, u32>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One open channel of a session.
#[derive(Debug)]
pub(crate) struct InUse {
    worker: Arc<WorkerHandle>,
    session: SessionId,
}

impl Drop for InUse {
    fn drop(&mut self) {
        let mut sessions = self.worker.locked();
        if let Some(count) = sessions.get_mut(&self.session) {
            *count -= 1;
            if *count == 0 {
                sessions.remove(&self.session);
            }
        }
    }
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Order {
    Ping,
    Kill,
}

pub(crate) enum Event {
    Ready(Arc<WorkerHandle>),
    Pong,
    /// The process could not be started.
    NotStarted,
    /// The process is gone; the last event of its generation.
    Exited(String),
}

/// A process that was just started, in a directory of its own.
pub(crate) struct Process {
    child: Child,
    directory: PathBuf,
    socket: PathBuf,
    died: CancellationToken,
}

impl Process {
    /// Starts the program with a fresh private directory below `run_dir`.
    pub(crate) fn spawn(program: &Path, run_dir: &Path) -> io::Result<Self> {
        // Never the name of a directory that an older process may still hold.
        let directory =
            run_dir.join(format!("{PREFIX}{:08x}", u32::from_le_bytes(random::bytes())));
        let socket = directory.join("s");
        if socket.as_os_str().len() > MAX_SOCKET_PATH {
            let message = format!("{} is too long for a socket's path", socket.display());
            return Err(io::Error::new(io::ErrorKind::InvalidFilename, message));
        }
        DirBuilder::new().mode(0o700).create(&directory)?;
        let child = Command::new(program)
            .arg("--socket")
            .arg(&socket)
            .env_clear()
            .envs(env::var_os(LOG).map(|filter| (LOG, filter)))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .kill_on_drop(true)
            .process_group(0)
            .spawn()
            .inspect_err(|_| drop(fs::remove_dir_all(&directory)))?;
        Ok(Self { child, directory, socket, died: CancellationToken::new() })
    }

    pub(crate) fn id(&self) -> Option<u32> {
        self.child.id()
    }

    /// Watches over the process to its end. When `orders` closes, the process is killed.
    pub(crate) async fn attend(
        mut self,
        mut orders: mpsc::Receiver<Order>,
        events: mpsc::Sender<Event>,
    ) {
        let _fires = self.died.clone().drop_guard();
        let (requests, control_orders) = mpsc::channel(ORDERS);
        let control =
            control(self.socket.clone(), self.died.clone(), control_orders, events.clone());
        let mut control = std::pin::pin!(control);
        let (mut control_open, mut orders_open) = (true, true);
        let ended = loop {
            tokio::select! {
                biased;
                status = self.child.wait() => break match status {
                    Ok(status) => status.to_string(),
                    Err(error) => error.to_string(),
                },
                error = &mut control, if control_open => {
                    control_open = false;
                    tracing::warn!(%error, "the worker's control connection ended");
                    self.kill();
                }
                order = orders.recv(), if orders_open => match order {
                    // A full queue is a worker that does not answer; its time runs.
                    Some(Order::Ping) => drop(requests.try_send(ControlRequest::Ping { number: 0 })),
                    Some(Order::Kill) => self.kill(),
                    None => {
                        orders_open = false;
                        self.kill();
                    }
                },
            }
        };
        self.died.cancel();
        if let Err(error) = fs::remove_dir_all(&self.directory) {
            tracing::warn!(%error, "a worker's directory was not removed");
        }
        // An actor that is gone needs no report.
        let _ = events.send(Event::Exited(ended)).await;
    }

    fn kill(&mut self) {
        self.died.cancel();
        if let Err(error) = self.child.start_kill() {
            tracing::debug!(%error, "the worker was gone already");
        }
    }
}

/// Speaks with the worker until its control connection ends, and says how it ended.
async fn control(
    socket: PathBuf,
    died: CancellationToken,
    mut orders: mpsc::Receiver<ControlRequest>,
    events: mpsc::Sender<Event>,
) -> io::Error {
    let mut stream = connect(&socket).await;
    if let Err(error) = write_frame(&mut stream, &Request::Control { format: FORMAT }).await {
        return error;
    }
    let handle = Arc::new(WorkerHandle::new(socket, died));
    let (reader, mut writer) = stream.into_split();
    let reading = read_events(reader, handle, events);
    let writing = async {
        while let Some(order) = orders.recv().await {
            write_frame(&mut writer, &order).await?;
        }
        std::future::pending::<io::Result<()>>().await
    };
    tokio::select! {
        biased;
        error = reading => error,
        outcome = writing => match outcome {
            Err(error) => error,
            Ok(()) => io::ErrorKind::BrokenPipe.into(),
        },
    }
}

/// The supervisor bounds how long this may take.
async fn connect(socket: &Path) -> UnixStream {
    loop {
        match UnixStream::connect(socket).await {
            Ok(stream) => return stream,
            Err(_) => sleep(CONNECT_EVERY).await,
        }
    }
}

async fn read_events(
    mut reader: OwnedReadHalf,
    handle: Arc<WorkerHandle>,
    events: mpsc::Sender<Event>,
) -> io::Error {
    loop {
        let event = match read_frame(&mut reader).await {
            Ok(ControlEvent::Hello { .. }) => Event::Ready(handle.clone()),
            Ok(ControlEvent::Pong { .. }) => Event::Pong,
            Ok(ControlEvent::Stopping) => continue,
            Ok(ControlEvent::Refused(refusal)) => return io::Error::other(refusal),
            Err(error) => return error,
        };
        if events.send(event).await.is_err() {
            return io::ErrorKind::BrokenPipe.into();
        }
    }
}

pub(crate) async fn write_frame<T: Serialize>(
    stream: &mut (impl AsyncWrite + Unpin),
    message: &T,
) -> io::Result<()> {
    stream.write_all(&encode(message)).await
}

pub(crate) async fn read_frame<T: DeserializeOwned>(
    stream: &mut (impl AsyncRead + Unpin),
) -> io::Result<T> {
    let mut head = [0; 4];
    stream.read_exact(&mut head).await?;
    let length = body_length(head).map_err(io::Error::other)?;
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await?;
    decode(&body).map_err(io::Error::other)
}
