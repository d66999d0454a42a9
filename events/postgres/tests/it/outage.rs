//! While the database is away, calls say so; when it is back, the same log works again.

use rap_events::log::{AppendError, Log, ReadError};
use rap_log_postgres::{ConnectError, PostgresLog, private::Durability};

use crate::support::{Server, append, check_gapless, execute, read_all};

#[tokio::test(flavor = "multi_thread")]
async fn a_log_outlives_its_database() {
    let mut server = Server::start(Durability::Safe).await;
    let log = server.log().await;
    log.append(append(1)).await.unwrap();
    server.postgres.halt().await;

    let refused = log.append(append(2)).await.unwrap_err();
    assert!(matches!(refused, AppendError::Unavailable(_)), "{refused}");
    assert!(matches!(log.head().await, Err(ReadError::Unavailable(_))));
    assert!(matches!(log.read(0, 10).await, Err(ReadError::Unavailable(_))));
    let absent = PostgresLog::connect(&server.postgres.url()).await.unwrap_err();
    assert!(matches!(absent, ConnectError::Unavailable(_)), "{absent}");

    server.postgres.restart().await.unwrap();
    log.append(append(2)).await.unwrap();
    assert_eq!(check_gapless(&read_all(&log).await).len(), 2);
    // The tail came back as well: it sees what another process wrote.
    let other = server.log().await;
    other.append(append(3)).await.unwrap();
    assert_eq!(log.wait_beyond(2).await.unwrap(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_cut_by_the_operator_costs_nothing() {
    let server = Server::start(Durability::Fast).await;
    let log = server.log().await;
    for command in 1..=20 {
        let cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                   WHERE application_name LIKE 'rap-control%'";
        execute(&server.postgres.url(), cut).await;
        log.append(append(command)).await.unwrap();
    }
    assert_eq!(check_gapless(&read_all(&log).await).len(), 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closed_log_says_so() {
    let server = Server::start(Durability::Fast).await;
    let log = server.log().await;
    log.close().await;
    let refused = log.append(append(1)).await.unwrap_err();
    assert_eq!(refused, AppendError::Unavailable("the log was closed".to_owned()));
}
