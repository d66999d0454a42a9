#![allow(clippy::unwrap_used)]

use std::{env, io::IoSlice, mem::MaybeUninit, os::fd::AsFd as _, process::Command};

use rap_adapter_contract::{OpenReply, frame::encode};
use rap_proto::{
    ChannelKind, OrganizationId, ResourceId, ResourceKind, SessionId,
    snapshot::{Resource, Target},
};
use rustix::{
    net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, Shutdown, sendmsg, shutdown},
    process::{self, Rlimit, getrlimit, setrlimit},
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream, UnixListener},
};

use super::*;
use crate::worker::read_frame;

const PATIENCE: Duration = Duration::from_secs(30);

/// The worker's side of the contract, as far as one channel needs it.
struct Worker {
    listener: UnixListener,
    handle: Arc<WorkerHandle>,
    serving: rap_watch::Sender<Option<Arc<WorkerHandle>>>,
    _directory: TempDir,
}

impl Worker {
    fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("s");
        let listener = UnixListener::bind(&socket).unwrap();
        let handle = Arc::new(WorkerHandle::new(socket, CancellationToken::new()));
        let serving = rap_watch::Sender::new(Some(handle.clone()));
        Self { listener, handle, serving, _directory: directory }
    }

    /// What the mesh gets when the worker makes of its open what `answer` does. The worker's end of
    /// the connection comes with it.
    async fn dial(
        &self,
        answer: impl AsyncFnOnce(&mut UnixStream),
    ) -> (Result<Dialed, Refusal>, UnixStream) {
        let dialer = WorkerDialer::new(self.serving.subscribe());
        let serving = async {
            let (mut stream, _) = self.listener.accept().await.unwrap();
            let asked: Request = read_frame(&mut stream).await.unwrap();
            assert!(matches!(asked, Request::Open(Open { takes_socket: true, .. })), "{asked:?}");
            answer(&mut stream).await;
            stream
        };
        tokio::join!(dialer.dial(request()), serving)
    }

    /// A channel whose socket is handed over: what the mesh gets, the worker's end of the connection
    /// and its copy of the socket, and the target.
    async fn hand(&self) -> (Dialed, UnixStream, TcpStream, TcpStream) {
        let target = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let copy = TcpStream::connect(target.local_addr().unwrap()).await.unwrap();
        let (far, _) = target.accept().await.unwrap();
        let (dialed, held) = self.dial(async |stream| hand(stream, &copy)).await;
        (dialed.unwrap(), held, copy, far)
    }
}

fn hand(stream: &UnixStream, socket: &TcpStream) {
    let sockets = [socket.as_fd()];
    let mut room = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut room);
    assert!(control.push(SendAncillaryMessage::ScmRights(&sockets)));
    let answer = encode(&OpenReply::Handed);
    sendmsg(stream, &[IoSlice::new(&answer)], &mut control, SendFlags::NOSIGNAL).unwrap();
}

fn request() -> DialRequest {
    let target = Target { host: "10.0.0.1".to_owned(), port: 22, allow_local: false };
    let resource = Resource {
        id: ResourceId::from_u128(1),
        organization: OrganizationId::from_u128(2),
        kind: ResourceKind::Tcp,
        target,
        users: Default::default(),
        carried: None,
    };
    let (session, channel) = (SessionId::from_u128(3), ChannelKind::Stream);
    DialRequest { session, resource, channel, traceparent: None }
}

async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    let waited = timeout(PATIENCE, future).await;
    waited.unwrap_or_else(|_| panic!("{what} did not come about"))
}

#[tokio::test]
async fn the_bytes_of_a_handed_channel_pass_by_the_targets_own_socket() {
    let worker = Worker::start();
    let (mut dialed, mut held, copy, mut far) = worker.hand().await;
    dialed.stream.write_all(b"question").await.unwrap();
    dialed.stream.shutdown().await.unwrap();
    let mut heard = Vec::new();
    within("the end up", far.read_to_end(&mut heard)).await.unwrap();
    assert_eq!(heard, b"question");
    far.write_all(b"answer").await.unwrap();
    drop(far);
    heard.clear();
    within("the end down", dialed.stream.read_to_end(&mut heard)).await.unwrap();
    assert_eq!(heard, b"answer");
    assert!(!dialed.stream.other_side_is_gone(), "the end is the target's");
    assert!((&mut dialed.worker_died).now_or_never().is_none(), "the worker is there");
    assert_eq!(worker.handle.sessions(), 1);

    drop(dialed);
    assert_eq!(within("the worker is told", held.read(&mut [0])).await.unwrap(), 0);
    assert_eq!(worker.handle.sessions(), 0);
    drop(copy);
}

#[tokio::test]
async fn an_end_that_the_worker_makes_is_none_of_the_targets() {
    let worker = Worker::start();
    let (mut dialed, held, copy, _far) = worker.hand().await;
    // As a worker does that is told to stop: the connection to the agent first.
    shutdown(&held, Shutdown::Both).unwrap();
    shutdown(&copy, Shutdown::Both).unwrap();
    let mut heard = Vec::new();
    within("the end", dialed.stream.read_to_end(&mut heard)).await.unwrap();
    assert!(dialed.stream.other_side_is_gone(), "the worker made it");
    within("the worker's end", dialed.worker_died).await;
}

#[tokio::test]
async fn a_handed_channel_ends_with_the_workers_process() {
    let worker = Worker::start();
    let (mut dialed, held, copy, _far) = worker.hand().await;
    assert!((&mut dialed.worker_died).now_or_never().is_none());
    // What the kernel does for a process that is killed; its supervisor has not noticed yet.
    drop((held, copy));
    within("the worker's end", &mut dialed.worker_died).await;
    assert!(dialed.stream.other_side_is_gone());

    let (dialed, _held, _copy, _far) = worker.hand().await;
    // And when the supervisor is the first to know.
    worker.handle.died.cancel();
    within("the worker's end", dialed.worker_died).await;
}

#[tokio::test]
async fn a_worker_of_before_passes_the_bytes_itself() {
    let worker = Worker::start();
    let answer = encode(&OpenReply::Opened);
    let (dialed, mut stream) = worker.dial(async |s| s.write_all(&answer).await.unwrap()).await;
    let mut dialed = dialed.unwrap();
    dialed.stream.write_all(b"question").await.unwrap();
    let mut heard = [0; 8];
    within("the bytes up", stream.read_exact(&mut heard)).await.unwrap();
    assert_eq!(&heard, b"question");
    shutdown(&stream, Shutdown::Write).unwrap();
    assert_eq!(within("the end down", dialed.stream.read(&mut [0])).await.unwrap(), 0);
    assert!(!dialed.stream.other_side_is_gone());
    assert!((&mut dialed.worker_died).now_or_never().is_none());
}

#[tokio::test]
async fn an_answer_without_its_socket_opens_nothing() {
    let worker = Worker::start();
    let answer = encode(&OpenReply::Handed);
    let (dialed, mut stream) = worker.dial(async |s| s.write_all(&answer).await.unwrap()).await;
    assert_eq!(dialed.unwrap_err().code, RefusalCode::WorkerUnavailable);
    assert_eq!(within("the close", stream.read(&mut [0])).await.unwrap(), 0);
    assert_eq!(worker.handle.sessions(), 0);
}

/// Set in the process that has too few descriptors.
const ALONE: &str = "RAP_TEST_WITHOUT_DESCRIPTORS";

/// In a process of its own: the limit is the whole process'.
#[test]
fn a_node_that_has_no_descriptor_left_says_so_and_does_not_blame_the_worker() {
    if env::var_os(ALONE).is_some() {
        return without_descriptors();
    }
    let name = "a_node_that_has_no_descriptor_left_says_so_and_does_not_blame_the_worker";
    let mut alone = Command::new(env::current_exe().unwrap());
    alone.args(["--exact", &format!("dialer::tests::{name}"), "--nocapture"]).env(ALONE, "1");
    let output = alone.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
}

fn without_descriptors() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let worker = Worker::start();
        let target = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let copy = TcpStream::connect(target.local_addr().unwrap()).await.unwrap();
        let (dialed, _held) = worker
            .dial(async |stream| {
                allow_descriptors(Some(0));
                hand(stream, &copy);
            })
            .await;
        refused_for_want_of_files(dialed, "the target's socket did not come");
        let dialer = WorkerDialer::new(worker.serving.subscribe());
        let begun = Instant::now();
        let dialed = dialer.dial(request()).await;
        refused_for_want_of_files(dialed, "the worker was not asked");
        assert!(begun.elapsed() < WORKER_WAIT, "no other worker is waited for");
        allow_descriptors(None);
        let (dialed, _held, ..) = worker.hand().await;
        drop(dialed);
    });
}

/// How many descriptors may be open; `None` for as many as there may ever be. Those that are, stay.
fn allow_descriptors(most: Option<u64>) {
    let maximum = getrlimit(process::Resource::Nofile).maximum;
    let current = most.or(maximum);
    setrlimit(process::Resource::Nofile, Rlimit { current, maximum }).unwrap();
}

fn refused_for_want_of_files(dialed: Result<Dialed, Refusal>, what: &str) {
    let refusal = dialed.err().unwrap();
    assert_eq!(refusal.code, RefusalCode::LimitReached, "{what}: {refusal:?}");
    assert!(refusal.message.contains("files"), "{what}: {refusal:?}");
}
