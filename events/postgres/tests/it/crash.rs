//! The server is killed while appends are under way.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use futures_util::future::join_all;
use rap_events::log::{AppendError, Log};
use rap_log_postgres::{PostgresLog, private::Durability};
use rap_proto::CommandId;
use tokio::sync::watch;

use crate::support::{Server, append, check_gapless, read_all};

/// How often the server is killed; `RAP_CRASH_ROUNDS` asks for more.
const ROUNDS: u128 = 20;
const WRITERS: u128 = 8;
/// How much is acknowledged in a round before the server is killed.
const BEFORE_THE_KILL: usize = 60;

#[tokio::test(flavor = "multi_thread")]
async fn nothing_acknowledged_is_lost_and_nothing_is_written_twice() {
    let mut server = Server::start(Durability::Safe).await;
    let log = Arc::new(server.log().await);
    let mut acknowledged = BTreeSet::new();
    let mut unknown = BTreeSet::new();
    let rounds = std::env::var("RAP_CRASH_ROUNDS").ok().map(|text| text.parse().unwrap());
    for round in 0..rounds.unwrap_or(ROUNDS) {
        let (stop, stopped) = watch::channel(false);
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| {
                let first = (round * WRITERS + writer) * 1_000_000 + 1;
                tokio::spawn(write_until(Arc::clone(&log), first, stopped.clone()))
            })
            .collect();
        let head = log.head().await.unwrap();
        log.wait_beyond(head + BEFORE_THE_KILL as u64).await.unwrap();
        server.postgres.kill().await;
        stop.send(true).unwrap();
        server.postgres.restart().await.unwrap();
        for written in join_all(writers).await {
            let written = written.unwrap();
            acknowledged.extend(written.acknowledged);
            unknown.extend(written.unknown);
        }
        // The same log, without a restart of its own, works again.
        let extra = (round + 1) * 1_000_000_000;
        append_in_the_end(&log, extra).await;
        acknowledged.insert(CommandId::from_u128(extra));
        let times = check_gapless(&read_all(&*log).await);
        assert!(times.values().all(|&count| count == 1), "an append was written twice");
        let lost: Vec<_> = acknowledged.iter().filter(|id| !times.contains_key(id)).collect();
        assert!(lost.is_empty(), "{lost:?} were acknowledged and are gone");
        let invented: Vec<_> =
            times.keys().filter(|id| !acknowledged.contains(id) && !unknown.contains(id)).collect();
        assert!(invented.is_empty(), "{invented:?} were refused and are there");
    }
}

/// What one writer was told.
#[derive(Default)]
struct Written {
    acknowledged: Vec<CommandId>,
    unknown: Vec<CommandId>,
}

async fn write_until(
    log: Arc<PostgresLog>,
    first: u128,
    stopped: watch::Receiver<bool>,
) -> Written {
    let mut written = Written::default();
    for command in first.. {
        match log.append(append(command)).await {
            Ok(appended) => {
                assert!(!appended.replayed);
                written.acknowledged.push(CommandId::from_u128(command));
            }
            Err(AppendError::Unavailable(_)) => {}
            Err(AppendError::OutcomeUnknown) => written.unknown.push(CommandId::from_u128(command)),
            Err(other) => panic!("{other}"),
        }
        if *stopped.borrow() {
            break;
        }
    }
    written
}

async fn append_in_the_end(log: &PostgresLog, command: u128) {
    let trying = async {
        while let Err(error) = log.append(append(command)).await {
            assert!(matches!(error, AppendError::Unavailable(_)), "{error}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), trying).await.unwrap();
}
