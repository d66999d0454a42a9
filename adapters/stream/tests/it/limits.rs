//! What the worker does with more than it takes on.

use std::{net::Ipv4Addr, time::Duration};

use rap_adapter_contract::{OpenReply, Request, limit::MAX_ADDRESSES};
use rap_proto::RefusalCode;
use rap_stream_worker::{MAX_PENDING, MAX_RESOLUTIONS};
use tokio::{io::AsyncWriteExt as _, net::TcpListener, time::timeout};

use crate::{
    agent::{Worker, connect, open, receive, send, target},
    resolver::{NameServer, Resolving, answered, is_possible},
};

#[tokio::test]
async fn connections_that_say_nothing_hold_up_new_ones_and_nobody_else() {
    let mut worker = Worker::start().await;
    let (listener, port) = target().await;
    let mut channel = worker.open("127.0.0.1", port).await.unwrap();
    let (mut stream, _) = listener.accept().await.unwrap();
    let mut silent = Vec::new();
    for _ in 0..MAX_PENDING {
        silent.push(connect(&worker.socket).await);
    }
    let mut waiting = connect(&worker.socket).await;
    send(&mut waiting, &Request::Open(open("127.0.0.1", port, true))).await.unwrap();
    // The control connection and open channels go on meanwhile.
    assert_eq!(worker.open_channels().await, 1);
    channel.write_all(b"still here").await.unwrap();
    channel.shutdown().await.unwrap();
    let mut heard = Vec::new();
    tokio::io::AsyncReadExt::read_to_end(&mut stream, &mut heard).await.unwrap();
    assert_eq!(heard, b"still here");
    let early = timeout(Duration::from_millis(200), waiting.readable()).await;
    assert!(early.is_err(), "more connections than {MAX_PENDING} were read from");

    drop(silent.pop());
    let reply: OpenReply = receive(&mut waiting).await.unwrap();
    assert_eq!(reply, OpenReply::Opened);
}

#[tokio::test]
async fn of_a_names_addresses_so_many_are_tried_and_no_more() {
    const TEST: &str = "of_a_names_addresses_so_many_are_tried_and_no_more";
    if !is_possible(TEST) {
        return;
    }
    let last = u8::try_from(MAX_ADDRESSES + 1).unwrap();
    let addresses: Vec<Ipv4Addr> = (1..=last).map(|at| Ipv4Addr::new(127, 9, 9, at)).collect();
    let server = NameServer::start(addresses.clone()).await;
    let worker = Resolving::start(&server).await;
    // The resolver sorts as it likes, but always alike: one address is beyond the limit.
    let mut refused = Vec::new();
    for address in addresses {
        let listener = TcpListener::bind((address, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        if let Err(refusal) = worker.open(open("many.test", port, true)).await {
            refused.push(refusal.code);
        }
    }
    assert_eq!(refused, [RefusalCode::TargetRefused]);
}

#[tokio::test]
async fn names_that_take_long_to_resolve_are_bounded_and_addresses_need_none() {
    const TEST: &str = "names_that_take_long_to_resolve_are_bounded_and_addresses_need_none";
    if !is_possible(TEST) {
        return;
    }
    let mut server = NameServer::start(vec![Ipv4Addr::LOCALHOST]).await;
    let worker = Resolving::start(&server).await;
    let (_listener, port) = target().await;
    let slow = |number: usize| open(&format!("{number}.slow.test"), port, true);
    let mut resolving = Vec::new();
    for number in 0..MAX_RESOLUTIONS {
        resolving.push(worker.ask(slow(number)).await);
    }
    server.asked(MAX_RESOLUTIONS).await;
    let refusal = worker.open(slow(MAX_RESOLUTIONS)).await.unwrap_err();
    assert_eq!(refusal.code, RefusalCode::LimitReached, "{refusal}");
    worker.open(open("127.0.0.1", port, true)).await.unwrap();

    server.release();
    for channel in resolving {
        answered(channel).await.unwrap();
    }
    worker.open(slow(MAX_RESOLUTIONS)).await.unwrap();
}
