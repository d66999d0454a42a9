use std::{
    os::unix::{fs::PermissionsExt, process::CommandExt},
    process::{Child, Command, ExitStatus, Stdio},
    time::Duration,
};

use rap_adapter_contract::{ControlEvent, ControlRequest, Request, limit::FORMAT};
use rap_proto::RefusalCode;
use rap_stream_worker::WorkerError;
use rustix::process::{Pid, Signal, kill_process};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::timeout,
};

use crate::{
    agent::{PATIENCE, Worker, attach, connect, open, private_directory, receive, send, target},
    way::{Way, accept},
};

#[tokio::test]
async fn the_worker_ends_with_its_control_connection_and_removes_its_socket() {
    let mut worker = Worker::start().await;
    let (listener, port) = target().await;
    let mut channel = worker.open("127.0.0.1", port).await.unwrap();
    let socket = worker.socket.clone();
    drop(worker.control.take());
    worker.ended().await.unwrap();
    assert!(!socket.exists());
    let mut rest = Vec::new();
    let _ = timeout(PATIENCE, channel.read_to_end(&mut rest)).await.expect("the channel ended");
    drop(listener);
}

#[tokio::test]
async fn a_worker_that_nobody_attaches_to_gives_up() {
    let worker = Worker::start_unattached(|options| {
        options.control_timeout = Duration::from_millis(50);
    });
    assert!(matches!(worker.ended().await, Err(WorkerError::NoControl(_))));
}

#[tokio::test]
async fn there_is_one_control_connection_of_one_format() {
    let worker = Worker::start().await;
    let (_second, answer) = attach(&worker.socket).await;
    assert!(
        matches!(&answer, ControlEvent::Refused(refusal) if refusal.code == RefusalCode::LimitReached),
        "{answer:?}"
    );
    let mut newer = connect(&worker.socket).await;
    send(&mut newer, &Request::Control { format: FORMAT + 1 }).await.unwrap();
    let answer: ControlEvent = receive(&mut newer).await.unwrap();
    assert!(
        matches!(&answer, ControlEvent::Refused(refusal) if refusal.code == RefusalCode::Malformed),
        "{answer:?}"
    );
}

#[tokio::test]
async fn a_malformed_control_frame_ends_the_worker() {
    let mut worker = Worker::start().await;
    worker.control.as_mut().unwrap().write_all(&[0, 0, 0, 1, 0xc1]).await.unwrap();
    worker.ended().await.unwrap();
}

#[tokio::test]
async fn a_shutdown_lets_open_channels_finish() {
    let mut worker = Worker::start().await;
    let (listener, port) = target().await;
    let mut channel = worker.open("127.0.0.1", port).await.unwrap();
    let (mut stream, _) = listener.accept().await.unwrap();
    let control = worker.control.as_mut().unwrap();
    send(control, &ControlRequest::Shutdown { grace_ms: 60_000 }).await.unwrap();
    let event: ControlEvent = receive(control).await.unwrap();
    assert_eq!(event, ControlEvent::Stopping);
    channel.write_all(b"last words").await.unwrap();
    channel.shutdown().await.unwrap();
    let mut heard = Vec::new();
    stream.read_to_end(&mut heard).await.unwrap();
    assert_eq!(heard, b"last words");
    drop(stream);
    worker.ended().await.unwrap();
}

#[tokio::test]
async fn a_shutdown_ends_what_does_not_finish_in_time() {
    let mut worker = Worker::start().await;
    let (_listener, port) = target().await;
    let _channel = worker.open("127.0.0.1", port).await.unwrap();
    worker.stops.send(Duration::from_secs(3600)).await.unwrap();
    let control = worker.control.as_mut().unwrap();
    let event: ControlEvent = receive(control).await.unwrap();
    assert_eq!(event, ControlEvent::Stopping);
    // A later demand brings the deadline forward.
    send(control, &ControlRequest::Shutdown { grace_ms: 10 }).await.unwrap();
    worker.ended().await.unwrap();
}

#[tokio::test]
async fn a_directory_that_others_can_enter_is_refused() {
    let worker = Worker::start_unattached(|options| {
        let directory = options.socket.parent().unwrap();
        std::fs::set_permissions(directory, std::fs::Permissions::from_mode(0o755)).unwrap();
    });
    assert!(matches!(worker.ended().await, Err(WorkerError::Socket(_))));
}

struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Process {
    fn signal(&self, signal: Signal) {
        let id = Pid::from_raw(i32::try_from(self.0.id()).unwrap()).unwrap();
        kill_process(id, signal).unwrap();
    }

    /// Waits for the process' end; its standard error with it.
    async fn ended(mut self) -> (ExitStatus, String) {
        let mut log = String::new();
        let mut stderr = self.0.stderr.take().unwrap();
        let waiting = tokio::task::spawn_blocking(move || {
            std::io::Read::read_to_string(&mut stderr, &mut log).unwrap();
            (self.0.wait().unwrap(), log)
        });
        timeout(PATIENCE, waiting).await.expect("the process ends").unwrap()
    }
}

fn spawn(socket: &std::path::Path, user: Option<u32>) -> Process {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rap-stream-worker"));
    command.arg("--socket").arg(socket).stdin(Stdio::null()).stderr(Stdio::piped());
    if let Some(user) = user {
        command.uid(user).gid(user);
    }
    Process(command.spawn().unwrap())
}

#[tokio::test]
async fn the_program_ends_on_sigterm_and_logs_json_without_payload() {
    let directory = private_directory();
    let socket = directory.path().join("stream.sock");
    let process = spawn(&socket, None);
    let (_control, hello) = attach(&socket).await;
    assert!(matches!(hello, ControlEvent::Hello { .. }));
    let (listener, port) = target().await;
    let mut channel = connect(&socket).await;
    let traced = rap_adapter_contract::Open {
        traceparent: Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned()),
        ..open("localhost", port, true)
    };
    send(&mut channel, &Request::Open(traced)).await.unwrap();
    let _: rap_adapter_contract::OpenReply = receive(&mut channel).await.unwrap();
    let (mut stream, _) = listener.accept().await.unwrap();
    channel.write_all(b"canary-payload").await.unwrap();
    channel.shutdown().await.unwrap();
    let mut heard = Vec::new();
    stream.read_to_end(&mut heard).await.unwrap();
    drop(stream);
    let mut rest = Vec::new();
    channel.read_to_end(&mut rest).await.unwrap();
    process.signal(Signal::TERM);
    let (status, log) = process.ended().await;
    assert!(status.success(), "{status}: {log}");
    assert!(log.lines().all(|line| line.starts_with('{') && line.ends_with('}')), "{log}");
    assert!(log.contains("0af7651916cd43dd8448eb211c80319c"), "{log}");
    assert!(!log.contains("canary") && !log.contains("localhost"), "{log}");
}

#[tokio::test]
async fn a_killed_worker_closes_its_connection_and_leaves_the_agent_its_copy_of_the_socket() {
    let directory = private_directory();
    let socket = directory.path().join("stream.sock");
    let process = spawn(&socket, None);
    let (_control, _) = attach(&socket).await;
    let (listener, port) = target().await;
    let mut channel = Way::Handed.open_at(&socket, port).await;
    let mut far = accept(&listener).await;
    process.signal(Signal::KILL);
    let held = channel.held.as_mut().unwrap();
    let closed = timeout(PATIENCE, held.read(&mut [0])).await.expect("it closes");
    assert_eq!(closed.unwrap(), 0);
    // Which is why the agent has to end it.
    channel.write_all(b"still there").await.unwrap();
    drop(channel);
    let mut heard = Vec::new();
    timeout(PATIENCE, far.read_to_end(&mut heard)).await.expect("it ends").unwrap();
    assert_eq!(heard, b"still there");
}

#[tokio::test]
async fn a_second_sigterm_does_not_wait_for_channels() {
    let directory = private_directory();
    let socket = directory.path().join("stream.sock");
    let process = spawn(&socket, None);
    let (mut control, _) = attach(&socket).await;
    let (_listener, port) = target().await;
    let mut channel = connect(&socket).await;
    send(&mut channel, &Request::Open(open("127.0.0.1", port, true))).await.unwrap();
    let _: rap_adapter_contract::OpenReply = receive(&mut channel).await.unwrap();
    process.signal(Signal::TERM);
    let event: ControlEvent = receive(&mut control).await.unwrap();
    assert_eq!(event, ControlEvent::Stopping);
    process.signal(Signal::TERM);
    let (status, log) = process.ended().await;
    assert!(status.success(), "{status}: {log}");
}

#[tokio::test]
async fn another_users_connection_is_refused() {
    const NOBODY: u32 = 65_534;
    if !rustix::process::geteuid().is_root() {
        let test = "another_users_connection_is_refused";
        return rap_skips::skip(test, "it needs root to have two users");
    }
    let directory = private_directory();
    std::os::unix::fs::chown(directory.path(), Some(NOBODY), Some(NOBODY)).unwrap();
    let socket = directory.path().join("stream.sock");
    let process = spawn(&socket, Some(NOBODY));
    // Root can enter the directory and write to the socket, and still is not the worker's user.
    let mut stream = connect(&socket).await;
    let _ = send(&mut stream, &Request::Control { format: FORMAT }).await;
    let answer = receive::<ControlEvent>(&mut stream).await;
    assert!(answer.is_err(), "{answer:?}");
    process.signal(Signal::TERM);
    let (_, log) = process.ended().await;
    assert!(log.contains("the peer's user is 0, not 65534"), "{log}");
}
