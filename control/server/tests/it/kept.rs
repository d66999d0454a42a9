//! How long a connection is kept on which a node asks nothing.

use std::time::Duration;

use rap_control::Limits;
use rap_pki::tls;
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

#[tokio::test]
async fn a_connection_is_kept_for_who_is_known_and_closed_behind_the_answer_of_anybody_else() {
    let world = World::start().await;
    let root = world.set_up().await;
    let token = root.token.as_deref().unwrap();
    let mut kept = anonymous(&world).await;
    for _ in 0..2 {
        let answer =
            get(&mut kept, "/api/v1/me", &format!("Authorization: Bearer {token}\r\n")).await;
        assert!(answer.starts_with("http/1.1 200"), "{answer}");
    }
    drop(kept);
    let strange =
        [("/healthz", ""), ("/api/v1/me", ""), ("/api/v1/me", "Authorization: Bearer no\r\n")];
    for (path, header) in strange.into_iter().chain([("/elsewhere", "")]) {
        let mut stream = anonymous(&world).await;
        let answer = get(&mut stream, path, header).await;
        assert!(answer.contains("connection: close"), "{answer}");
        let rest = timeout(PATIENCE, stream.read_to_end(&mut Vec::new())).await;
        assert!(rest.is_ok(), "{path}: long before anybody's connection ends");
    }
    let mut stream = anonymous(&world).await;
    let answer = post(&mut stream, "/node/v1/snapshot", &[]).await.unwrap().to_lowercase();
    assert!(!answer.starts_with("http/1.1 200"), "{answer}");
    assert!(answer.contains("connection: close"), "{answer}");
    world.stop().await;
}

async fn anonymous(world: &World) -> TlsStream<TcpStream> {
    let config = tls::pinned_client(world.running.ca_fingerprint, &[b"http/1.1"]);
    connect(world, config).await.unwrap()
}

/// The head of an answer, in small letters; of its body, as much as it says is read.
async fn get(stream: &mut TlsStream<TcpStream>, path: &str, header: &str) -> String {
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n{header}\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    stream.flush().await.unwrap();
    let head = head(stream).await.unwrap().to_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    let mut body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
    timeout(PATIENCE, stream.read_exact(&mut body)).await.unwrap().unwrap();
    head
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
    let head = post(stream, "/node/v1/snapshot", &codec::encode(&request)).await?;
    head.lines().next().map(str::to_owned)
}

/// The head of the answer.
async fn post(stream: &mut TlsStream<TcpStream>, path: &str, body: &[u8]) -> Option<String> {
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {CONTENT_TYPE}\r\n\
         Content-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(&[head.as_bytes(), body].concat()).await.ok()?;
    // What TLS took may still be with this process, and reading would not send it.
    stream.flush().await.ok()?;
    self::head(stream).await
}

async fn head(stream: &mut TlsStream<TcpStream>) -> Option<String> {
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        answer.push(timeout(PATIENCE, stream.read_u8()).await.ok()?.ok()?);
    }
    Some(String::from_utf8(answer).unwrap())
}
