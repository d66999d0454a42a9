//! The real program alone with a crowd that follows its log, some of whom never read: what it
//! holds in memory is nobody else's.

use std::{fs, time::Duration};

use futures_util::{StreamExt as _, future::join_all, stream};
use rap_events::{Log as _, log::MAX_EVENTS_PER_APPEND};
use rap_log_postgres::{PostgresLog, private::Durability};
use serde_json::json;
use tokio::time::timeout;

use crate::{
    crash::{Place, Program, free_port},
    streams::{Follower, burst, raise_file_limit},
    world::Api,
};

/// How many read, and how many never do.
const READERS: usize = 2_000;
const SILENT: usize = 50;
/// How many connect at the same time.
const CONNECTING: usize = 32;
/// Files of this process beside the connections, with room for what other tests hold.
const OTHER_FILES: u64 = 1_000;
/// What an open stream may cost the server, whether it is read or not.
const MAX_BYTES_PER_STREAM: u64 = 64 * 1024;
/// What one that is not read may hold beyond that: its own buffers, and those of TLS.
const MAX_BYTES_PER_SILENT: u64 = 256 * 1024;
/// What all may hold together: the window, the projections, and pages on their way.
const MAX_BYTES_TOGETHER: u64 = 64 * 1024 * 1024;
const FEW: usize = 4;
/// So many appends that they would be ten times the bound, if each that is silent kept its own.
const BURSTS: usize = 32;
const PATIENCE: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(50);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crowd_sees_an_event_at_once_and_who_never_reads_costs_little() {
    raise_file_limit((READERS + SILENT) as u64 + OTHER_FILES);
    let place = Place::start(Durability::Fast).await;
    let places = (READERS + SILENT).to_string();
    let words = ["--max-streams-per-user", places.as_str()];
    let mut program = place.program_with("one", free_port(), &words).await;
    let root = program.set_up().await;
    let noise = root.post("/organizations", json!({"name": "noise"})).await.id().parse().unwrap();
    let log = PostgresLog::connect(&place.database()).await.unwrap();

    let before = resident_bytes(&program);
    let mut readers = follow(&program, &root, READERS).await;
    let silent = follow(&program, &root, SILENT).await;
    let all = (READERS + SILENT) as u64;
    settles(&root, "rap_control_event_subscribers", |open| open == all).await;
    burst(&log, noise, FEW).await;
    let reading = readers.iter_mut().map(|reader| reader.read("organization.suspended", FEW));
    let seen = timeout(PATIENCE, join_all(reading)).await.expect("all read it in time");
    assert!(seen.iter().all(|seen| *seen == FEW));
    let grown = resident_bytes(&program).saturating_sub(before);
    assert!(grown < all * MAX_BYTES_PER_STREAM, "{grown} bytes for {all} streams");

    drop(readers);
    settles(&root, "rap_control_event_subscribers", |open| open == SILENT as u64).await;
    let before = resident_bytes(&program);
    for _ in 0..BURSTS {
        burst(&log, noise, MAX_EVENTS_PER_APPEND).await;
    }
    let head = log.head().await.unwrap();
    settles(&root, "rap_control_folded_position", |folded| folded >= head).await;
    let grown = resident_bytes(&program).saturating_sub(before);
    let most = SILENT as u64 * MAX_BYTES_PER_SILENT + MAX_BYTES_TOGETHER;
    assert!(grown < most, "{grown} bytes, of which {most} are allowed");
    drop(silent);
    log.close().await;
    program.kill().await;
}

async fn follow(program: &Program, api: &Api, count: usize) -> Vec<Follower> {
    let token = api.token.as_ref().unwrap();
    let address = ([127, 0, 0, 1], program.port).into();
    let open = stream::iter(0..count).map(|_| Follower::at(address, program.ca, token));
    open.buffer_unordered(CONNECTING).collect().await
}

/// Waits until a number of the metrics is as wanted.
async fn settles(api: &Api, gauge: &str, wanted: impl Fn(u64) -> bool) {
    let waiting = async {
        loop {
            let metrics = api.get("/metrics").await.text;
            let line = metrics.lines().find_map(|line| line.strip_prefix(gauge));
            if line.and_then(|value| value.trim().parse().ok()).is_some_and(&wanted) {
                return;
            }
            tokio::time::sleep(POLL).await;
        }
    };
    timeout(PATIENCE, waiting).await.unwrap_or_else(|_| panic!("{gauge} does not settle"));
}

/// What the program has in memory.
fn resident_bytes(program: &Program) -> u64 {
    let statm = fs::read_to_string(format!("/proc/{}/statm", program.child.id().unwrap()));
    let pages: u64 = statm.unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    pages * 4096
}
