//! The schema is made and checked at every connection.

use futures_util::future::join_all;
use rap_events::log::Log;
use rap_log_postgres::{ConnectError, PostgresLog, private::Durability};

use crate::support::{Server, append, execute};

#[tokio::test(flavor = "multi_thread")]
async fn processes_that_start_together_make_the_schema_once() {
    let server = Server::start(Durability::Fast).await;
    let logs = join_all((0..6).map(|_| server.owners_log())).await;
    for (log, command) in logs.iter().zip(1..) {
        log.append(append(command)).await.unwrap();
    }
    assert_eq!(logs[0].head().await.unwrap(), 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_or_newer_schema_is_refused() {
    let server = Server::start(Durability::Fast).await;
    let url = server.postgres.create_database("newer").await.unwrap();
    drop(PostgresLog::connect(&url).await.unwrap());
    let newer = "INSERT INTO _sqlx_migrations (version, description, success, checksum, \
                 execution_time) VALUES (9999, 'later', true, '', 0)";
    execute(&url, newer).await;
    let error = PostgresLog::connect(&url).await.unwrap_err();
    assert!(error.to_string().contains("a newer release made it"), "{error}");

    let url = server.postgres.create_database("edited").await.unwrap();
    drop(PostgresLog::connect(&url).await.unwrap());
    execute(&url, "UPDATE _sqlx_migrations SET checksum = 'x'").await;
    let error = PostgresLog::connect(&url).await.unwrap_err();
    assert!(error.to_string().contains("differs from this release's"), "{error}");
}

#[tokio::test]
async fn a_url_that_cannot_be_read_is_not_repeated() {
    let error = PostgresLog::connect("postgres//rap:secret@host").await.unwrap_err();
    assert!(matches!(error, ConnectError::Url));
    assert!(!error.to_string().contains("secret"));
}
