//! The tail sees everything, in order, from any process, with and without notifications.

use std::{sync::Arc, time::Duration};

use rap_events::log::{Log, ReadError};
use rap_log_postgres::private::Durability;
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
