//! The suite that every log must pass.

use std::sync::Arc;

use rap_events::{
    BeatTable,
    conformance::{beat, cases, heads, subjects},
};
use rap_log_postgres::{PostgresLog, private::Durability};

use crate::support::Server;

#[tokio::test(flavor = "multi_thread")]
async fn the_log_conforms() {
    let server = Server::start(Durability::Fast).await;
    for (number, case) in cases().into_iter().enumerate() {
        let url = server.postgres.create_log(&format!("case_{number}")).await.unwrap();
        let log = Arc::new(PostgresLog::connect(&url).await.unwrap());
        // Names the case when it panics.
        println!("{}", case.name);
        (case.run)(log.clone()).await;
        log.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_beats_conform() {
    let server = Server::start(Durability::Fast).await;
    let number = std::sync::atomic::AtomicUsize::new(0);
    beat::run_all(async || {
        let number = number.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        let url = server.postgres.create_log(&format!("beats_{number}")).await.unwrap();
        Arc::new(PostgresLog::connect(&url).await.unwrap()) as Arc<dyn BeatTable>
    })
    .await;
}

#[tokio::test]
async fn the_sealed_heads_conform() {
    let server = Server::start(Durability::Fast).await;
    heads::run(Arc::new(server.log().await)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_subject_keys_conform() {
    let server = Server::start(Durability::Fast).await;
    let log = Arc::new(server.log().await);
    subjects::run(log.clone(), log).await;
}
