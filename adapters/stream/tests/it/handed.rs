//! Channels whose socket is handed over: the bytes are the agent's, the channel is the worker's.

use std::time::Duration;

use rap_adapter_contract::{ControlEvent, ControlRequest, Open, OpenReply, Request};
use rap_proto::RefusalCode;
use rustix::net::{RecvFlags, recv};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
    time::timeout,
};

use crate::{
    agent::{PATIENCE, Worker, connect, open, receive, send, target},
    way::{Way, accept},
};

async fn ended(stream: &mut (impl AsyncReadExt + Unpin)) {
    let mut rest = Vec::new();
    timeout(PATIENCE, stream.read_to_end(&mut rest)).await.expect("it ends").unwrap();
    assert!(rest.is_empty(), "{rest:?}");
}

/// Whether the worker closed its end, as the kernel knows at this moment.
fn is_closed(held: &UnixStream) -> bool {
    let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
    matches!(recv(held, &mut [0; 1], flags), Ok((_, 0)))
}

#[tokio::test]
async fn a_channel_counts_until_its_connection_to_the_worker_closes() {
    let mut worker = Worker::start_with(|options| options.max_channels = 1).await;
    let (channel, mut far) = Way::Handed.reach(&worker).await;
    worker.wait_for_open_channels(1).await;
    // The agent's copy alone is not the channel, nor is it the connection to the target.
    drop(channel.bytes);
    let (listener, port) = target().await;
    assert_eq!(worker.refused(open("127.0.0.1", port, true)).await, RefusalCode::LimitReached);
    let early = timeout(Duration::from_millis(100), far.read(&mut [0])).await;
    assert!(early.is_err(), "the worker has let go of the target");
    drop(channel.held);
    ended(&mut far).await;
    worker.wait_for_open_channels(0).await;
    drop(listener);
}

#[tokio::test]
async fn whatever_the_agent_says_after_a_handed_socket_ends_the_channel() {
    let mut worker = Worker::start().await;
    let (mut channel, mut far) = Way::Handed.reach(&worker).await;
    let held = channel.held.as_mut().unwrap();
    held.write_all(b"x").await.unwrap();
    ended(&mut far).await;
    ended(&mut channel).await;
    worker.wait_for_open_channels(0).await;
}

#[tokio::test]
async fn a_shutdown_lets_handed_channels_finish_and_then_ends_them() {
    let mut worker = Worker::start().await;
    let (mut first, mut first_far) = Way::Handed.reach(&worker).await;
    let (mut second, mut second_far) = Way::Handed.reach(&worker).await;
    let control = worker.control.as_mut().unwrap();
    send(control, &ControlRequest::Shutdown { grace_ms: 60_000 }).await.unwrap();
    let _: ControlEvent = receive(control).await.unwrap();
    first.write_all(b"last words").await.unwrap();
    first.shutdown().await.unwrap();
    let mut heard = Vec::new();
    timeout(PATIENCE, first_far.read_to_end(&mut heard)).await.expect("it ends").unwrap();
    assert_eq!(heard, b"last words");
    drop((first, first_far));

    // A later demand brings the deadline forward.
    send(control, &ControlRequest::Shutdown { grace_ms: 10 }).await.unwrap();
    ended(&mut second).await;
    // Found by whoever reads the end, so that he takes it for none of the target's.
    assert!(is_closed(second.held.as_ref().unwrap()), "the agent's connection is closed first");
    ended(&mut second_far).await;
    worker.ended().await.unwrap();
}

#[tokio::test]
async fn handed_channels_end_with_the_control_connection() {
    let mut worker = Worker::start().await;
    let (mut channel, mut far) = Way::Handed.reach(&worker).await;
    drop(worker.control.take());
    ended(&mut channel).await;
    ended(&mut far).await;
    worker.ended().await.unwrap();
}

#[tokio::test]
async fn what_cannot_be_opened_is_refused_alike_to_an_agent_that_takes_sockets() {
    let worker = Worker::start().await;
    let (listener, port) = target().await;
    drop(listener);
    let asked = Open { takes_socket: true, ..open("127.0.0.1", port, true) };
    assert_eq!(worker.refused(asked.clone()).await, RefusalCode::TargetRefused);
    let asked = Open { allow_local: false, ..asked };
    assert_eq!(worker.refused(asked).await, RefusalCode::AddressNotAllowed);
    // One that hangs up while it is answered leaves nothing behind.
    let (listener, port) = target().await;
    let mut stream = connect(&worker.socket).await;
    let asked = Open { takes_socket: true, ..open("127.0.0.1", port, true) };
    send(&mut stream, &Request::Open(asked)).await.unwrap();
    drop(stream);
    let mut far = accept(&listener).await;
    ended(&mut far).await;
    let other: OpenReply = {
        let mut stream = connect(&worker.socket).await;
        send(&mut stream, &Request::Open(open("127.0.0.1", port, true))).await.unwrap();
        receive(&mut stream).await.unwrap()
    };
    assert_eq!(other, OpenReply::Opened);
}
