//! Many who follow the log, and one who does not read.

use std::{
    collections::VecDeque,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures_util::future::join_all;
use rap_bus::LocalBus;
use rap_control::{BusChoice, Limits, LogChoice, Rates, StreamLimits};
use rap_events::{
    Append, EventCodec as _, Log, StreamId,
    log::StreamWrite,
    organization::{OrganizationEvent, OrganizationSuspended},
};
use rap_pki::tls;
use rap_proto::{CommandId, Digest, OrganizationId, api::EventId};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_rustls::{TlsConnector, client::TlsStream};
use uuid::Uuid;

use crate::{
    watched::watched,
    world::{Api, World},
};

/// How many follow at once: a fifth of what a server takes.
const FOLLOWERS: usize = 2_000;
/// As many events as one append holds, and so many that thousands can read them soon.
const EVENTS: usize = rap_events::log::MAX_EVENTS_PER_APPEND;
const FEW: usize = 20;
/// The text within each event, so that events are of some weight.
const REASON_BYTES: usize = 2_000;
/// What one stream may hold: its own buffers, those of TLS, and the messages that are ready.
const MAX_BYTES_PER_STREAM: usize = 160 * 1024;
/// What all may hold together beside that, and what other tests of this process may.
const SLACK_BYTES: usize = 512 * 1024 * 1024;
const PATIENCE: Duration = Duration::from_secs(60);

/// Appends events of an organization at once.
pub(crate) async fn burst(log: &dyn Log, organization: Uuid, events: usize) {
    let id = OrganizationId::from_uuid(organization);
    let stream = StreamId::new("organization", organization);
    let mut expected = 0;
    loop {
        let events = log.read_stream(&stream, expected, 1_000).await.unwrap();
        let Some(last) = events.last() else { break };
        expected = last.revision;
    }
    let event = OrganizationEvent::from(OrganizationSuspended { reason: "x".repeat(REASON_BYTES) });
    let mut command = [0; 10];
    getrandom::fill(&mut command).unwrap();
    let append = Append {
        request_hash: Digest::of(b"burst"),
        ..Append::plain(
            CommandId::new(rap_control::now(), command),
            rap_control::now(),
            vec![StreamWrite {
                stream,
                expected,
                events: vec![event.to_new_event(Some(id)); events],
            }],
        )
    };
    log.append(append).await.unwrap();
}

async fn organization(root: &Api) -> Uuid {
    root.post("/organizations", json!({"name": "noise"})).await.id().parse().unwrap()
}

/// One who follows the log over a connection of its own, and reads when asked to.
pub(crate) struct Follower {
    stream: TlsStream<TcpStream>,
}

impl Follower {
    async fn open(world: &World, api: &Api) -> Self {
        let token = api.token.as_ref().unwrap();
        Self::at(world.running.address, world.running.ca_fingerprint, token).await
    }

    /// Follows the log of the server at this address.
    pub(crate) async fn at(address: SocketAddr, ca: Digest, token: &str) -> Self {
        let socket = TcpStream::connect(address).await.unwrap();
        let connector = TlsConnector::from(Arc::new(tls::pinned_client(ca, &[b"http/1.1"])));
        let mut stream = connector.connect("localhost".try_into().unwrap(), socket).await.unwrap();
        let request = format!(
            "GET /api/v1/events HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        // What TLS took may still be with this process, and reading would not send it.
        stream.flush().await.unwrap();
        Self { stream }
    }

    /// Reads until `count` events of the kind have come, and returns how many came in all.
    pub(crate) async fn read(&mut self, kind: &str, count: usize) -> usize {
        let wanted = format!("event: {kind}\n");
        let (mut seen, mut tail) = (0, VecDeque::<u8>::new());
        let mut chunk = [0; 16 * 1024];
        while seen < count {
            let length = self.stream.read(&mut chunk).await.unwrap();
            assert!(length > 0, "the stream ended after {seen}");
            tail.extend(&chunk[..length]);
            let text = tail.make_contiguous();
            seen += text.windows(wanted.len()).filter(|at| *at == wanted.as_bytes()).count();
            let keep = text.len().min(wanted.len() - 1);
            tail.drain(..tail.len() - keep);
        }
        seen
    }
}

/// As far as this process may, and at least to `needed`.
pub(crate) fn raise_file_limit(needed: u64) {
    let limit = getrlimit(Resource::Nofile);
    assert!(limit.maximum.is_none_or(|most| most >= needed), "ulimit -Hn is below {needed}");
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).unwrap();
}

async fn read_all(followers: &mut [Follower], events: usize) {
    let all = followers.iter_mut().map(|follower| follower.read("organization.suspended", events));
    let seen = tokio::time::timeout(PATIENCE, join_all(all)).await.expect("all is read in time");
    assert!(seen.iter().all(|seen| *seen == events));
}

/// The bytes of this process that are in memory.
fn resident_bytes() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: usize = statm.split(' ').nth(1).unwrap().parse().unwrap();
    pages * 4096
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_thousand_share_one_reader_of_the_log_and_those_who_do_not_read_hold_little() {
    // Both ends of every connection are files of this process.
    raise_file_limit(2 * FOLLOWERS as u64 + 500);
    let counted = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&counted);
    let log = Arc::new(watched(move |_, events| {
        counter.fetch_add(events.len() as u64, Ordering::Relaxed);
    }));
    let rates = Rates { user: "100000/100000".parse().unwrap(), ..Rates::default() };
    let streams = StreamLimits { open_per_user: FOLLOWERS, ..StreamLimits::default() };
    let limits = Limits { rates, streams, unread: PATIENCE, ..Limits::default() };
    let bus = BusChoice::Local(Arc::new(LocalBus::new()));
    let dir = tempfile::tempdir().unwrap();
    let world = World::start_as(dir, LogChoice::Local(log.clone()), bus, limits).await;
    let root = world.set_up().await;
    let noise = organization(&root).await;
    let mut followers = Vec::new();
    for _ in 0..FOLLOWERS {
        followers.push(Follower::open(&world, &root).await);
    }
    world.settles("rap_control_event_subscribers", |open| open == FOLLOWERS as u64).await;

    // Everybody reads: everybody sees everything, and the log was read for all at once. The
    // projections read each event, and so does the feeder.
    let read = counted.load(Ordering::Relaxed);
    burst(log.as_ref(), noise, FEW).await;
    read_all(&mut followers, FEW).await;
    let read = counted.load(Ordering::Relaxed) - read;
    assert!(read < 4 * FEW as u64, "{read} events were read");

    // Nobody reads: what is sent to all would be more than two gigabytes.
    let before = resident_bytes();
    burst(log.as_ref(), noise, EVENTS).await;
    burst(log.as_ref(), noise, EVENTS).await;
    let all = (FEW + 2 * EVENTS) as u64;
    world.settles("rap_control_event_window_events", |events| events >= all).await;
    let grown = resident_bytes().saturating_sub(before);
    assert!(grown < FOLLOWERS * MAX_BYTES_PER_STREAM + SLACK_BYTES, "{grown} bytes");
    read_all(&mut followers[..FEW], 2 * EVENTS).await;
    drop(followers);
    world.settles("rap_control_event_subscribers", |open| open == 0).await;
    world.stop().await;
}

#[tokio::test]
async fn a_client_that_never_reads_is_cut_off_and_one_that_comes_back_misses_nothing() {
    let limits = Limits { unread: Duration::from_secs(2), ..Limits::default() };
    let world = World::start_within(limits).await;
    let root = world.set_up().await;
    let noise = organization(&root).await;
    let mut silent = Follower::open(&world, &root).await;
    let mut reads = Follower::open(&world, &root).await;
    world.settles("rap_control_event_subscribers", |open| open == 2).await;
    let bursts = 40;
    for _ in 0..bursts {
        burst(world.log.as_ref(), noise, EVENTS).await;
        // Who falls behind the window reads the log: nothing is missed.
        assert_eq!(reads.read("organization.suspended", EVENTS).await, EVENTS);
    }
    world.settles("rap_control_event_subscribers", |open| open == 1).await;
    // It finds what was sent to it before, and then the end.
    let mut rest = Vec::new();
    let _ = tokio::time::timeout(PATIENCE, silent.stream.read_to_end(&mut rest)).await;
    let text = String::from_utf8_lossy(&rest);
    let (whole, _) = text.rsplit_once("\n\n").unwrap();
    let last = whole.lines().rev().find_map(|line| line.strip_prefix("id: ")).unwrap();
    assert!(position(last) < world.head().await);
    let request = world.client.get(format!("{}/api/v1/events", world.base));
    let request = request.bearer_auth(root.token.as_ref().unwrap()).header("Last-Event-ID", last);
    let mut back = request.send().await.unwrap();
    assert_eq!(back.status(), 200);
    let mut text = String::new();
    let next = loop {
        text.push_str(&String::from_utf8_lossy(&back.chunk().await.unwrap().unwrap()));
        if let Some((id, _)) = text.split_once("id: ").and_then(|(_, rest)| rest.split_once('\n')) {
            break id;
        }
    };
    assert_eq!(position(next), position(last) + 1);
    drop((reads, back));
    world.stop().await;
}

fn position(id: &str) -> u64 {
    id.parse::<EventId>().unwrap().position
}
