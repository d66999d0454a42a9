//! How long a connection is kept on which a node asks nothing.

use std::time::Duration;

use rap_control::Limits;
use rap_proto::{
    codec,
    wire::node_api::{CONTENT_TYPE, SnapshotRequest},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::{Instant, sleep, timeout},
};
use tokio_rustls::client::TlsStream;

use crate::{
    node::{connect, enroll, mutual},
    world::{World, tenant},
};

/// Longer than what the HTTP library keeps an idle connection by itself, and shorter than most
/// pauses between two polls of a node.
const PAUSE: Duration = Duration::from_secs(7);
/// Far longer than the pauses between the requests that set the world up.
const SHORT: Duration = Duration::from_secs(3);
const PATIENCE: Duration = Duration::from_secs(20);

#[tokio::test]
async fn a_node_that_polls_again_finds_its_connection_as_it_left_it() {
    let world = World::start().await;
    let mut kept = enrolled(&world).await;
    assert_eq!(poll(&mut kept).await.as_deref(), Some("HTTP/1.1 304 Not Modified"));
    sleep(PAUSE).await;
    assert_eq!(poll(&mut kept).await.as_deref(), Some("HTTP/1.1 304 Not Modified"));
    world.stop().await;
}

#[tokio::test]
async fn a_connection_on_which_nothing_is_asked_is_closed_in_the_end() {
    let world = World::start_within(Limits { kept_idle: SHORT, ..Limits::default() }).await;
    let mut kept = enrolled(&world).await;
    assert!(poll(&mut kept).await.is_some());
    let begun = Instant::now();
    let ended = timeout(PATIENCE, kept.read_u8()).await.expect("it ends in time");
    assert!(ended.is_err(), "nothing more was said");
    assert!(begun.elapsed() >= SHORT / 2, "{:?}", begun.elapsed());
    world.stop().await;
}

/// A connection with the certificate of a node that was just enrolled.
async fn enrolled(world: &World) -> TlsStream<TcpStream> {
    let root = world.set_up().await;
    let acme = tenant(world, &root, "acme").await;
    let host = enroll(world, &acme.join_secret, "egress").await;
    let config = mutual(world, host.credentials().unwrap(), &host.key);
    connect(world, config).await.unwrap()
}

/// Asks for a snapshot newer than any. The first line of the answer, which has no body; `None`
/// when the connection has ended.
async fn poll(stream: &mut TlsStream<TcpStream>) -> Option<String> {
    let request = SnapshotRequest { have: u64::MAX, sections: [].into() };
    let body = codec::encode(&request);
    let head = format!(
        "POST /node/v1/snapshot HTTP/1.1\r\nHost: localhost\r\nContent-Type: {CONTENT_TYPE}\r\n\
         Content-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(&[head.as_bytes(), &body].concat()).await.ok()?;
    // What TLS took may still be with this process, and reading would not send it.
    stream.flush().await.ok()?;
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        answer.push(timeout(PATIENCE, stream.read_u8()).await.ok()?.ok()?);
    }
    String::from_utf8(answer).unwrap().lines().next().map(str::to_owned)
}
