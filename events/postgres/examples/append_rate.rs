//! Measures how many events a second the log stores, with one writer and with many, and prints a
//! line for each: name, figure and unit, with tabs between. Bounded to a few seconds. The commit
//! waits for the disk.
//!
//! Arguments: the folder for the private server (default: a temporary one; where /tmp is memory
//! the figures say nothing, so name one on a disk), and the seconds for each measurement
//! (default 3).

use std::{
    env,
    error::Error,
    path::PathBuf,
    process,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use rap_events::log::{Actor, Append, AppendError, Log, NewEvent, StreamId, StreamWrite};
use rap_log_postgres::{
    PostgresLog,
    private::{Durability, PrivatePostgres},
};
use rap_proto::{CommandId, Digest, Timestamp};
use uuid::Uuid;

const WRITERS: [u64; 2] = [1, 32];
const DEFAULT_SECONDS: u64 = 3;
const MAX_SECONDS: u64 = 60;
/// About what an event of the fabric holds.
const PAYLOAD_BYTES: usize = 200;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = env::args().skip(1);
    let given = arguments.next().map(PathBuf::from);
    let seconds: u64 = arguments.next().map_or(Ok(DEFAULT_SECONDS), |text| text.parse())?;
    let span = Duration::from_secs(seconds.clamp(1, MAX_SECONDS));
    let own = env::temp_dir().join(format!("rap-append-rate-{}", process::id()));
    let folder = given.clone().unwrap_or_else(|| own.clone());
    let server = PrivatePostgres::start(&folder, Durability::Safe).await?;
    let outcome = measure(&server, span).await;
    server.stop().await;
    if given.is_none() {
        std::fs::remove_dir_all(&own)?;
    }
    outcome
}

async fn measure(server: &PrivatePostgres, span: Duration) -> Result<(), Box<dyn Error>> {
    for writers in WRITERS {
        let name = format!("rate_{}_{writers}", process::id());
        let log = Arc::new(PostgresLog::connect(&server.create_database(&name).await?).await?);
        let stored = Arc::new(AtomicU64::new(0));
        let begun = Instant::now();
        let running: Vec<_> = (0..writers)
            .map(|writer| {
                let (log, stored) = (Arc::clone(&log), Arc::clone(&stored));
                tokio::spawn(write(log, writer, begun + span, stored))
            })
            .collect();
        for writer in running {
            writer.await??;
        }
        let rate = stored.load(Ordering::Relaxed) as f64 / begun.elapsed().as_secs_f64();
        let plural = if writers == 1 { "" } else { "s" };
        println!("append_{writers}_writer{plural}\t{rate:.0}\tevents/s");
        log.close().await;
    }
    Ok(())
}

async fn write(
    log: Arc<PostgresLog>,
    writer: u64,
    end: Instant,
    stored: Arc<AtomicU64>,
) -> Result<(), AppendError> {
    let stream = StreamId::new("rate", Uuid::from_u128(u128::from(writer)));
    for revision in 0.. {
        if Instant::now() >= end {
            break;
        }
        let event = NewEvent {
            event_type: "rate.measured".to_owned(),
            schema: 1,
            payload: Bytes::from(vec![0x2a; PAYLOAD_BYTES]),
            organization: None,
        };
        let write = StreamWrite { stream: stream.clone(), expected: revision, events: vec![event] };
        log.append(Append {
            command: CommandId::from_u128(u128::from(writer) << 64 | u128::from(revision)),
            request_hash: Digest::of(&revision.to_be_bytes()),
            actor: Actor::System { process: "append_rate".to_owned() },
            causation: None,
            at: Timestamp::from_unix_millis(0),
            writes: vec![write],
            claim: Vec::new(),
            release: Vec::new(),
            leases: Vec::new(),
            guards: Vec::new(),
            reply: Bytes::new(),
        })
        .await?;
        stored.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}
