//! The private server itself.

use std::{fs, time::Duration};

use rap_log_postgres::private::{Durability, PrivateError, PrivatePostgres};
use tokio::time::timeout;
use tokio_postgres::NoTls;

use crate::support::execute;

const PATIENCE: Duration = Duration::from_secs(30);

#[tokio::test]
async fn what_was_committed_survives_stop_kill_and_start() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("kept");
    let mut server = PrivatePostgres::start(&dir, Durability::Safe).await.unwrap();
    let url = server.url();
    execute(&url, "CREATE TABLE t (a int); INSERT INTO t VALUES (1)").await;

    server.kill().await;
    assert!(tokio_postgres::connect(&url, NoTls).await.is_err());
    server.restart().await.unwrap();
    assert_eq!(execute(&url, "SELECT a FROM t").await, ["1"]);
    server.stop().await;

    // As a power cut leaves it: the file of a server that is no more.
    fs::write(dir.join("data/postmaster.pid"), "1\n").unwrap();
    let server = PrivatePostgres::start(&dir, Durability::Safe).await.unwrap();
    assert_eq!(execute(&server.url(), "SELECT a FROM t").await, ["1"]);
    drop(server);
    assert!(!dir.join("data/postmaster.pid").exists(), "a dropped server is gone");
}

#[tokio::test]
async fn a_standby_that_is_promoted_has_what_had_reached_it() {
    let folder = tempfile::tempdir().unwrap();
    let (first, second) = (folder.path().join("first"), folder.path().join("second"));
    let mut server = PrivatePostgres::start(&first, Durability::Safe).await.unwrap();
    let mut standby = server.start_standby(&second).await.unwrap();
    execute(&server.url(), "CREATE TABLE t (a int); INSERT INTO t VALUES (1)").await;
    let position = server.position().await.unwrap();
    let mut looks = tokio::time::interval(Duration::from_millis(20));
    timeout(PATIENCE, async {
        while !standby.has_reached(&position).await.unwrap() {
            looks.tick().await;
        }
    })
    .await
    .expect("it follows");
    standby.halt().await;
    execute(&server.url(), "INSERT INTO t VALUES (2)").await;
    server.kill().await;
    standby.restart().await.unwrap();
    standby.promote().await.unwrap();
    let url = standby.url();
    execute(&url, "INSERT INTO t VALUES (3)").await;
    assert_eq!(execute(&url, "SELECT a FROM t ORDER BY a").await, ["1", "3"]);
    standby.stop().await;
}

#[tokio::test]
async fn a_server_of_an_earlier_run_is_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let first = PrivatePostgres::start(folder.path(), Durability::Fast).await.unwrap();
    execute(&first.url(), "CREATE TABLE t (a int); INSERT INTO t VALUES (7)").await;
    // Somebody starts on the same folder while the first still runs.
    let second = PrivatePostgres::start(folder.path(), Durability::Fast).await.unwrap();
    assert_eq!(execute(&second.url(), "SELECT a FROM t").await, ["7"]);
    drop((first, second));
}

#[tokio::test]
async fn databases_are_made_once_and_have_plain_names() {
    let folder = tempfile::tempdir().unwrap();
    let server = PrivatePostgres::start(folder.path(), Durability::Fast).await.unwrap();
    let url = server.create_database("other").await.unwrap();
    assert_eq!(server.create_database("other").await.unwrap(), url);
    assert_eq!(execute(&url, "SELECT current_database()").await, ["other"]);
    let hostile = server.create_database("x; DROP DATABASE other").await.unwrap_err();
    assert!(matches!(hostile, PrivateError::NoAnswer(_)));
}

#[tokio::test]
async fn a_path_too_long_for_a_socket_is_refused_with_the_reason() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("d".repeat(90));
    let error = PrivatePostgres::start(&dir, Durability::Fast).await.unwrap_err();
    assert!(error.to_string().contains("choose a shorter path"), "{error}");
}
