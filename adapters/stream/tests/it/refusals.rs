use std::time::Duration;

use rap_adapter_contract::{
    OpenReply,
    limit::{MAX_FRAME_BYTES, MAX_HOST_BYTES},
};
use rap_proto::RefusalCode;
use rustix::net::{AddressFamily, SocketType, bind, getsockname, listen, socket};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::timeout,
};

use crate::agent::{PATIENCE, Worker, connect, open, receive, target};

#[tokio::test]
async fn a_target_that_refuses_is_told_apart_from_one_that_is_silent() {
    let worker =
        Worker::start_with(|options| options.dial_timeout = Duration::from_millis(300)).await;
    let (listener, port) = target().await;
    drop(listener);
    let code = worker.refused(open("127.0.0.1", port, true)).await;
    assert_eq!(code, RefusalCode::TargetRefused);

    // A listener whose queue is full answers no further connection: as silent as a lost host.
    let full = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    bind(&full, &"127.0.0.1:0".parse::<std::net::SocketAddr>().unwrap()).unwrap();
    listen(&full, 0).unwrap();
    let address = std::net::SocketAddr::try_from(getsockname(&full).unwrap()).unwrap();
    let mut queued = Vec::new();
    while let Ok(Ok(stream)) =
        timeout(Duration::from_millis(200), TcpStream::connect(address)).await
    {
        queued.push(stream);
        assert!(queued.len() < 64, "the queue never fills");
    }
    let code = worker.refused(open("127.0.0.1", address.port(), true)).await;
    assert_eq!(code, RefusalCode::TargetUnreachable);
}

#[tokio::test]
async fn a_name_that_does_not_resolve_is_unreachable() {
    let worker = Worker::start().await;
    let code = worker.refused(open("no-such-host.invalid", 22, false)).await;
    assert_eq!(code, RefusalCode::TargetUnreachable);
}

#[tokio::test]
async fn local_addresses_are_refused_after_resolution_and_nothing_is_dialled() {
    let worker = Worker::start().await;
    let listener = TcpListener::bind("[::]:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    // A name, the address, and the spellings that only the system's resolver understands.
    let spellings = [
        "localhost",
        "LOCALHOST",
        "127.0.0.1",
        "127.1",
        "2130706433",
        "0x7f000001",
        "017700000001",
        "::1",
        "::ffff:127.0.0.1",
        "::ffff:7f00:1",
        "64:ff9b::7f00:1",
    ];
    for host in spellings {
        let code = worker.refused(open(host, port, false)).await;
        assert_eq!(code, RefusalCode::AddressNotAllowed, "{host}");
    }
    let dialled = timeout(Duration::from_millis(100), listener.accept()).await;
    assert!(dialled.is_err(), "a refused address was dialled");
    // The same name is dialled when the resource says that it is local.
    worker.open("localhost", port).await.unwrap();
}

#[tokio::test]
async fn metadata_services_are_refused_even_to_local_resources() {
    let worker = Worker::start().await;
    for host in [
        "169.254.169.254",
        "fd00:ec2::254",
        "::ffff:169.254.169.254",
        "2852039166",
        "0.0.0.0",
        "0",
        "::",
        "255.255.255.255",
        "224.0.0.1",
    ] {
        let code = worker.refused(open(host, 80, true)).await;
        assert_eq!(code, RefusalCode::AddressNotAllowed, "{host}");
    }
}

#[tokio::test]
async fn hosts_and_ports_that_are_none_are_malformed() {
    let worker = Worker::start().await;
    for host in ["", "a b", "a\nb", "host:1", "fe80::1%lo", "[::1]", "-o", "a/../b"] {
        let code = worker.refused(open(host, 80, true)).await;
        assert_eq!(code, RefusalCode::Malformed, "{host:?}");
    }
    let long = "a".repeat(MAX_HOST_BYTES + 1);
    assert_eq!(worker.refused(open(&long, 80, true)).await, RefusalCode::Malformed);
    assert_eq!(worker.refused(open("127.0.0.1", 0, true)).await, RefusalCode::Malformed);
}

#[tokio::test]
async fn a_refusal_says_nothing_about_the_address() {
    let worker = Worker::start().await;
    let (listener, port) = target().await;
    drop(listener);
    for open in [open("127.0.0.1", port, true), open("localhost", port, false)] {
        let refusal = worker.ask(open).await.unwrap_err();
        let text = refusal.to_string();
        assert!(!text.contains("127.0") && !text.contains("localhost"), "{text}");
        assert!(!text.contains(&port.to_string()), "{text}");
    }
}

#[tokio::test]
async fn connections_that_do_not_start_with_a_request_are_closed() {
    let mut worker = Worker::start().await;
    let limit = u32::try_from(MAX_FRAME_BYTES).unwrap();
    let too_long = (limit + 1).to_be_bytes().to_vec();
    let garbage = [&4_u32.to_be_bytes()[..], &[0xc1, 0xc1, 0xc1, 0xc1]].concat();
    let trailing = [&3_u32.to_be_bytes()[..], &[0xc0, 0xc0, 0xc0]].concat();
    for bytes in [too_long, garbage, trailing] {
        let mut stream = connect(&worker.socket).await;
        stream.write_all(&bytes).await.unwrap();
        match receive(&mut stream).await.unwrap() {
            OpenReply::Refused(refusal) => assert_eq!(refusal.code, RefusalCode::Malformed),
            other => panic!("{other:?}"),
        }
        let mut rest = Vec::new();
        let ended = timeout(PATIENCE, stream.read_to_end(&mut rest)).await.expect("closed");
        assert!(rest.is_empty(), "{ended:?}");
    }
    // One that ends within a frame is simply forgotten.
    let mut stream = connect(&worker.socket).await;
    stream.write_all(&[0, 0]).await.unwrap();
    drop(stream);
    assert_eq!(worker.open_channels().await, 0);
}
