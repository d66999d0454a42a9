//! Pages of the log are read on one connection that is kept. Who finds it in use, or ended, reads
//! all the same.

use std::time::Duration;

use rap_events::log::Log;
use rap_log_postgres::private::Durability;
use tokio::time::timeout;
use tokio_postgres::NoTls;

use crate::support::{Server, append, execute, read_all};

const PATIENCE: Duration = Duration::from_secs(60);
const READER: &str =
    "SELECT pid FROM pg_stat_activity WHERE application_name = 'rap-control reader'";
const SESSIONS: &str =
    "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'rap-control%'";
const WAITING: &str = "SELECT application_name FROM pg_stat_activity \
     WHERE application_name LIKE 'rap-control%' AND wait_event_type = 'Lock' \
     ORDER BY application_name COLLATE \"C\"";

async fn until(url: &str, sql: &str, expected: &[&str]) {
    let looking = async {
        while execute(url, sql).await != expected {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, looking).await.expect("it comes to that");
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_are_read_on_one_connection_until_it_ends() {
    let server = Server::start(Durability::Fast).await;
    let (url, log) = (server.postgres.url(), server.log().await);
    log.append(append(1)).await.unwrap();
    read_all(&log).await;
    let first = execute(&url, READER).await;
    assert_eq!((first.len(), read_all(&log).await.len()), (1, 1));
    assert_eq!(execute(&url, READER).await, first, "it is kept");
    execute(&url, &format!("SELECT pg_terminate_backend(pid, 10000) FROM ({READER}) AS it")).await;
    assert_eq!(read_all(&log).await.len(), 1);
    read_all(&log).await;
    let second = execute(&url, READER).await;
    assert!(second.len() == 1 && second != first, "{second:?}");
    log.close().await;
    until(&url, SESSIONS, &["0"]).await;
    assert!(log.read(0, 1).await.is_err());
    assert_eq!(execute(&url, SESSIONS).await, ["0"], "a closed log connects no more");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_beside_another_is_read_over_the_pool() {
    let server = Server::start(Durability::Fast).await;
    let (url, log) = (server.postgres.url(), server.log().await);
    log.append(append(1)).await.unwrap();
    let (rival, connection) = tokio_postgres::connect(&url, NoTls).await.unwrap();
    tokio::spawn(connection);
    rival.batch_execute("BEGIN; LOCK TABLE events").await.unwrap();
    let release = async {
        until(&url, WAITING, &["rap-control", "rap-control reader"]).await;
        rival.batch_execute("ROLLBACK").await.unwrap();
    };
    let (one, other, ()) = tokio::join!(log.read(0, 10), log.read(0, 10), release);
    assert_eq!((one.unwrap().len(), other.unwrap().len()), (1, 1));
    assert!(!server.said().contains("lock timeout"), "neither waited for the other");
}
