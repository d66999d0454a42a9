//! The tail sees everything, in order, from any process, with and without notifications.

use std::{sync::Arc, time::Duration};

use futures_util::FutureExt as _;
use rap_events::log::{Log, ReadError};
use rap_log_postgres::{Trips, private::Durability};
use tokio::time::timeout;

use crate::support::{Server, append, execute};

const EVENTS: u64 = 300;

#[tokio::test(flavor = "multi_thread")]
async fn a_tail_in_another_process_sees_every_event() {
    let server = Server::start(Durability::Fast).await;
    let (writer, reader) = (Arc::new(server.log().await), server.log().await);
    let writing = tokio::spawn(async move {
        for command in 1..=u128::from(EVENTS) {
            writer.append(append(command)).await.unwrap();
        }
    });
    let mut seen = 0;
    while seen < EVENTS {
        let head = reader.wait_beyond(seen).await.unwrap();
        assert!(head > seen);
        for event in reader.read(seen, 50).await.unwrap() {
            assert_eq!(event.position, seen + 1);
            seen = event.position;
        }
    }
    writing.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_without_a_notification_is_seen_by_polling() {
    let server = Server::start(Durability::Fast).await;
    let log = server.log().await;
    log.append(append(1)).await.unwrap();
    let silently = "INSERT INTO events SELECT position + 1, category, gen_random_uuid(), revision, \
                    event_type, schema, payload, organization, actor, command, causation, \
                    recorded_at FROM events; UPDATE log_head SET position = 2";
    execute(&server.postgres.url(), silently).await;
    let head = timeout(Duration::from_secs(10), log.wait_beyond(1)).await.unwrap().unwrap();
    assert_eq!(head, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_false_notification_is_believed_only_until_the_next_look() {
    let server = Server::start(Durability::Fast).await;
    let (url, log) = (server.postgres.url(), server.log().await);
    log.append(append(1)).await.unwrap();
    log.append(append(2)).await.unwrap();
    execute(&url, &format!("NOTIFY rap_log, '{}'", i64::MAX)).await;
    let believed = loop {
        execute(&url, "NOTIFY rap_log, '7'").await;
        // A look that was just due may have taken it back before anybody saw it.
        if let Ok(told) = timeout(Duration::from_secs(1), log.wait_beyond(2)).await {
            break told.unwrap();
        }
    };
    assert_eq!(believed, 7, "the greater one came before it");
    let taken_back = async {
        while log.wait_beyond(2).now_or_never().is_some() {
            tokio::task::yield_now().await;
        }
    };
    timeout(Duration::from_secs(10), taken_back).await.unwrap();
    log.append(append(3)).await.unwrap();
    assert_eq!(log.trips(), Trips { at_once: 2, missed: 0, locked: 1 });
    assert_eq!(log.wait_beyond(2).await.unwrap(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gap_halts_the_reader() {
    let server = Server::start(Durability::Fast).await;
    let log = server.log().await;
    for command in 1..=3 {
        log.append(append(command)).await.unwrap();
    }
    execute(&server.postgres.url(), "DELETE FROM events WHERE position = 2").await;
    let halted = log.read(0, 10).await.unwrap_err();
    assert!(matches!(halted, ReadError::Corrupt { position: 3, .. }), "{halted}");
}
