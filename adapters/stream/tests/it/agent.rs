//! The agent's side of the contract, as small as it can be.

use std::{
    io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::Duration,
};

use rap_adapter_contract::{
    ControlEvent, ControlRequest, Open, OpenReply, Request, frame, limit::FORMAT,
};
use rap_proto::{RefusalCode, ResourceKind, refusal::Refusal};
use rap_stream_worker::{Options, WorkerError, run};
use serde::{Serialize, de::DeserializeOwned};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, UnixStream},
    sync::mpsc,
    task::JoinHandle,
    time::timeout,
};

/// Longer than anything here takes; a test that waits so long has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A worker in this process, with its control connection attached.
pub(crate) struct Worker {
    pub(crate) control: Option<UnixStream>,
    pub(crate) socket: PathBuf,
    pub(crate) stops: mpsc::Sender<Duration>,
    pub(crate) task: JoinHandle<Result<(), WorkerError>>,
    _directory: TempDir,
}

pub(crate) fn private_directory() -> TempDir {
    tempfile::Builder::new().permissions(PermissionsExt::from_mode(0o700)).tempdir().unwrap()
}

impl Worker {
    pub(crate) async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    pub(crate) async fn start_with(change: impl FnOnce(&mut Options)) -> Self {
        let mut worker = Self::start_unattached(change);
        let (control, hello) = attach(&worker.socket).await;
        assert!(matches!(hello, ControlEvent::Hello { format: FORMAT, .. }), "{hello:?}");
        worker.control = Some(control);
        worker
    }

    pub(crate) fn start_unattached(change: impl FnOnce(&mut Options)) -> Self {
        let directory = private_directory();
        let mut options = Options::new(directory.path().join("stream.sock"));
        change(&mut options);
        let socket = options.socket.clone();
        let (stops, receiver) = mpsc::channel(4);
        let task = tokio::spawn(run(options, receiver));
        Self { control: None, socket, stops, task, _directory: directory }
    }

    /// Opens a channel to `host:port` that may be local.
    pub(crate) async fn open(&self, host: &str, port: u16) -> Result<UnixStream, Refusal> {
        self.ask(open(host, port, true)).await
    }

    pub(crate) async fn ask(&self, open: Open) -> Result<UnixStream, Refusal> {
        let mut stream = connect(&self.socket).await;
        send(&mut stream, &Request::Open(open)).await.unwrap();
        match receive(&mut stream).await.unwrap() {
            OpenReply::Opened => Ok(stream),
            OpenReply::Refused(refusal) => Err(refusal),
            OpenReply::Handed => panic!("a socket that nobody asked for"),
        }
    }

    pub(crate) async fn refused(&self, open: Open) -> RefusalCode {
        self.ask(open).await.expect_err("the channel opened").code
    }

    /// How many channels are open, as the worker counts them.
    pub(crate) async fn open_channels(&mut self) -> u32 {
        let control = self.control.as_mut().unwrap();
        send(control, &ControlRequest::Ping { number: 5 }).await.unwrap();
        match receive(control).await.unwrap() {
            ControlEvent::Pong { number: 5, open_channels } => open_channels,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) async fn wait_for_open_channels(&mut self, expected: u32) {
        let reached = async { while self.open_channels().await != expected {} };
        timeout(PATIENCE, reached).await.expect("the count is reached");
    }

    pub(crate) async fn ended(self) -> Result<(), WorkerError> {
        timeout(PATIENCE, self.task).await.expect("the worker ends").unwrap()
    }
}

pub(crate) fn open(host: &str, port: u16, allow_local: bool) -> Open {
    Open {
        channel: 1,
        kind: ResourceKind::Tcp,
        host: host.to_owned(),
        port,
        allow_local,
        traceparent: None,
        takes_socket: false,
    }
}

/// Connects once the worker listens.
pub(crate) async fn connect(socket: &Path) -> UnixStream {
    let connecting = async {
        loop {
            match UnixStream::connect(socket).await {
                Ok(stream) => return stream,
                Err(error) => {
                    let early = [io::ErrorKind::NotFound, io::ErrorKind::ConnectionRefused];
                    assert!(early.contains(&error.kind()), "{error}");
                    tokio::task::yield_now().await;
                }
            }
        }
    };
    timeout(PATIENCE, connecting).await.expect("the worker listens")
}

pub(crate) async fn attach(socket: &Path) -> (UnixStream, ControlEvent) {
    let mut control = connect(socket).await;
    send(&mut control, &Request::Control { format: FORMAT }).await.unwrap();
    let answer = receive(&mut control).await.unwrap();
    (control, answer)
}

pub(crate) async fn send<T: Serialize>(stream: &mut UnixStream, message: &T) -> io::Result<()> {
    stream.write_all(&frame::encode(message)).await
}

pub(crate) async fn receive<T: DeserializeOwned>(stream: &mut UnixStream) -> io::Result<T> {
    let reading = async {
        let mut head = [0; 4];
        stream.read_exact(&mut head).await?;
        let mut body = vec![0; frame::body_length(head).unwrap()];
        stream.read_exact(&mut body).await?;
        Ok(frame::decode(&body).unwrap())
    };
    timeout(PATIENCE, reading).await.expect("a frame arrives")
}

/// A target on loopback.
pub(crate) async fn target() -> (TcpListener, u16) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, port)
}
