//! Ten thousand who follow the log over TLS at one `rap-control`, and one who never reads.

use std::time::{Duration, Instant};

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use rap_events::{
    EventCodec as _,
    log::{Actor, Append, Log as _, MAX_EVENTS_PER_APPEND, StreamId, StreamWrite},
    organization::{OrganizationEvent, OrganizationSuspended},
};
use rap_log_postgres::{PostgresLog, private::PrivatePostgres};
use rap_proto::{CommandId, Digest, OrganizationId, Timestamp};
use tokio::{sync::watch, task::JoinSet};
use uuid::Uuid;

use crate::{
    Outcome,
    append::open,
    control::{Control, Follower, Nats},
    figure, raise_file_limit,
};

const FOLLOWERS: usize = 10_000;
const EVENTS: usize = 20;
/// How many connect at the same time.
const CONNECTING: usize = 64;
/// The text within each event that the silent one is sent, and how many appends of them: far more
/// than the kernel holds for a connection.
const REASON_BYTES: usize = 2_000;
const SILENT_APPENDS: usize = 40;
const PATIENCE: Duration = Duration::from_secs(120);
/// How often what the server says of itself is looked at.
const POLL: Duration = Duration::from_millis(200);

pub(crate) async fn measure(server: &PrivatePostgres) -> Outcome<()> {
    if let Err(allowed) = raise_file_limit(FOLLOWERS) {
        eprintln!("the event streams are not measured: {allowed} open files are allowed");
        return Ok(());
    }
    let dir = tempfile::tempdir()?;
    let log = open(server, "fanout").await?;
    let url = server.create_log("fanout").await?;
    let mut control = Control::start(dir.path(), &url, FOLLOWERS + 1, Nats::OfTheCluster).await?;
    let noise = control.create_organization("noise").await?;
    let outcome = follow(&control, &log, noise).await;
    control.stop().await;
    log.close().await;
    outcome
}

async fn follow(control: &Control, log: &PostgresLog, noise: Uuid) -> Outcome<()> {
    let silent = control.follow().await?;
    let before = control.resident_bytes()?;
    let followers: Vec<Follower> = stream::iter(0..FOLLOWERS)
        .map(|_| control.follow())
        .buffer_unordered(CONNECTING)
        .try_collect()
        .await?;
    let opened = control.resident_bytes()?;
    let (told, positions) = watch::channel(None);
    let mut reading = JoinSet::new();
    for follower in followers {
        reading.spawn(read(follower, positions.clone()));
    }
    let begun = Instant::now();
    let last = append(log, noise, EVENTS, 0).await?;
    told.send_replace(Some(last));
    let mut latest = begun;
    while let Some(read) = tokio::time::timeout(PATIENCE, reading.join_next()).await? {
        latest = latest.max(read??);
    }
    let after = control.resident_bytes()?;
    let ten_thousand = FOLLOWERS as f64;
    figure("sse_fanout_10000", (latest - begun).as_secs_f64() * 1e3, "ms");
    figure("sse_memory", kib(opened, before) / ten_thousand, "KiB per subscriber");
    figure("sse_memory_after", kib(after, before) / ten_thousand, "KiB per subscriber");
    subscribers(control, 1).await?;
    neglect(control, log, noise, silent).await
}

/// Reads until the last event, whose position comes when it is known, and returns when that was.
/// The events must be the appended ones, all of them, in order.
async fn read(mut follower: Follower, mut last: watch::Receiver<Option<u64>>) -> Outcome<Instant> {
    let mut seen = Vec::with_capacity(EVENTS);
    while seen.len() < EVENTS {
        seen.push(follower.next("organization.suspended").await?);
    }
    let at = Instant::now();
    let last = (*last.wait_for(Option::is_some).await?).ok_or("there is a last one")?;
    let appended: Vec<u64> = (last + 1 - EVENTS as u64..=last).collect();
    if seen != appended {
        return Err(format!("{seen:?} were sent for {appended:?}").into());
    }
    Ok(at)
}

/// Nobody is left but one who does not read, while much is appended.
async fn neglect(
    control: &Control,
    log: &PostgresLog,
    noise: Uuid,
    silent: Follower,
) -> Outcome<()> {
    let before = control.resident_bytes()?;
    let begun = Instant::now();
    let mut last = 0;
    for _ in 0..SILENT_APPENDS {
        last = append(log, noise, MAX_EVENTS_PER_APPEND, REASON_BYTES).await?;
    }
    control.settles("rap_control_folded_position", |folded| folded >= last, PATIENCE, POLL).await?;
    let grown = kib(control.resident_bytes()?, before);
    subscribers(control, 0).await?;
    figure("sse_silent", grown / 1024.0, "MiB");
    figure("sse_silent_cut", begun.elapsed().as_secs_f64(), "s");
    drop(silent);
    Ok(())
}

async fn subscribers(control: &Control, wanted: u64) -> Outcome<()> {
    let gauge = "rap_control_event_subscribers";
    control.settles(gauge, |open| open == wanted, PATIENCE, POLL).await
}

/// Appends events to the organization's stream at once, and returns the last one's position.
async fn append(
    log: &PostgresLog,
    organization: Uuid,
    events: usize,
    reason_bytes: usize,
) -> Outcome<u64> {
    let stream = StreamId::new("organization", organization);
    let mut expected = 0;
    while let Some(last) = log.read_stream(&stream, expected, 1_000).await?.pop() {
        expected = last.revision;
    }
    let event = OrganizationEvent::from(OrganizationSuspended { reason: "x".repeat(reason_bytes) });
    let new = event.to_new_event(Some(OrganizationId::from_uuid(organization)));
    let append = Append {
        request_hash: Digest::of(b"fanout"),
        actor: Actor::System { process: "bench".to_owned() },
        ..Append::plain(
            CommandId::from_u128(organization.as_u128() ^ u128::from(expected)),
            Timestamp::from_unix_millis(0),
            vec![StreamWrite { stream, expected, events: vec![new; events] }],
        )
    };
    Ok(log.append(append).await?.last)
}

fn kib(now: u64, before: u64) -> f64 {
    now.saturating_sub(before) as f64 / 1024.0
}
