//! Appends by many writers, while a fold of the whole log follows them.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use rap_control_core::State;
use rap_events::{
    EventCodec as _,
    log::{Actor, Append, Log as _, MAX_READ_EVENTS, StreamId, StreamWrite},
    pool::{PoolCreated, PoolEvent},
};
use rap_log_postgres::{PostgresLog, private::PrivatePostgres};
use rap_proto::{CommandId, Digest, Name, OrganizationId, Timestamp};
use tokio::task::JoinHandle;
use uuid::Uuid;

use crate::Outcome;

/// Events a second of `writers` writers, once all of them are folded.
pub(crate) async fn rate(server: &PrivatePostgres, writers: u32, span: Duration) -> Outcome<f64> {
    let log = open(server, &format!("append_{writers}")).await?;
    let end = Instant::now() + span;
    let begun = Instant::now();
    let running: Vec<JoinHandle<Outcome<u64>>> = (0..writers)
        .map(|writer| {
            let log = log.clone();
            tokio::spawn(async move {
                let mut stored = 0;
                while Instant::now() < end {
                    log.append(one(writer, stored)).await?;
                    stored += 1;
                }
                Ok(stored)
            })
        })
        .collect();
    let follower = tokio::spawn(follow(log.clone()));
    let mut stored = 0;
    for writer in running {
        stored += writer.await??;
    }
    // What was appended counts when the state knows it.
    let (stop, folded) = (log.head().await?, follower);
    assert_eq!(stop, stored, "the log holds what was acknowledged");
    log.append(last()).await?;
    folded.await??;
    let rate = stored as f64 / begun.elapsed().as_secs_f64();
    log.close().await;
    Ok(rate)
}

/// How long one append takes after the other.
pub(crate) async fn times(server: &PrivatePostgres, span: Duration) -> Outcome<Vec<Duration>> {
    let log = open(server, "append_times").await?;
    let (begun, mut times) = (Instant::now(), Vec::new());
    while begun.elapsed() < span {
        let append = one(0, times.len() as u64);
        let start = Instant::now();
        log.append(append).await?;
        times.push(start.elapsed());
    }
    log.close().await;
    Ok(times)
}

pub(crate) async fn open(server: &PrivatePostgres, name: &str) -> Outcome<Arc<PostgresLog>> {
    Ok(Arc::new(PostgresLog::connect(&server.create_log(name).await?).await?))
}

/// Folds the log until it meets the last event.
async fn follow(log: Arc<PostgresLog>) -> Outcome<()> {
    let mut state = State::default();
    loop {
        log.wait_beyond(state.position()).await?;
        for envelope in log.read(state.position(), MAX_READ_EVENTS).await? {
            state.fold(&envelope)?;
            if envelope.stream.id.is_max() {
                return Ok(());
            }
        }
    }
}

/// One event on a stream of its own, of about the size that events have.
fn one(writer: u32, number: u64) -> Append {
    append(Uuid::from_u128(u128::from(writer) << 64 | u128::from(number)))
}

/// What tells the follower that there is no more.
fn last() -> Append {
    append(Uuid::max())
}

fn append(id: Uuid) -> Append {
    let organization = OrganizationId::from_u128(1);
    let name: Name = format!("p{}", id.simple()).parse().expect("letters and digits");
    let event = PoolEvent::Created(PoolCreated { organization, name });
    let events = vec![event.to_new_event(Some(organization))];
    let stream = StreamId::new("pool", id);
    Append {
        request_hash: Digest::of(id.as_bytes()),
        actor: Actor::System { process: "bench".to_owned() },
        ..Append::plain(
            CommandId::from_u128(id.as_u128()),
            Timestamp::from_unix_millis(0),
            vec![StreamWrite { stream, expected: 0, events }],
        )
    }
}
