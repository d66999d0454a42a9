//! The tree of events that were stored before there was one, or by the release before it.

use rap_events::{
    entry,
    tree::{Tree, TreeCheck},
};
use rap_log_postgres::{PostgresLog, private::Durability};
use rap_tlog::Frontier;

use crate::support::{Server, append, append_to, execute, read_all};

/// Leaves the database as a process of the release before leaves it.
async fn forget_the_tree(url: &str, leaves: u64, frontier: &Frontier) {
    let bytes: String = frontier.to_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    let forget = format!(
        "UPDATE log_head SET leaves = {leaves}, frontier = '\\x{bytes}'; \
         UPDATE events SET leaf = NULL WHERE position > {leaves}; \
         DELETE FROM tile_roots WHERE index >= {leaves} / 256"
    );
    execute(url, &forget).await;
}

async fn expected(log: &PostgresLog) -> Frontier {
    let mut frontier = Frontier::default();
    read_all(log).await.iter().for_each(|event| drop(frontier.push(entry::leaf(event))));
    frontier
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_from_before_the_tree_gets_it_at_the_next_start() {
    let server = Server::start(Durability::Fast).await;
    let log = server.log().await;
    for number in 0..9 {
        log.append_many(number).await;
    }
    let before = log.frontier().await.unwrap();
    log.close().await;
    forget_the_tree(&server.postgres.url(), 0, &Frontier::default()).await;

    let log = server.log().await;
    assert_eq!(log.frontier().await.unwrap(), before);
    assert_eq!(before, expected(&log).await);
    assert_eq!(log.hashes(1, 0, 256).await.unwrap().len(), 9 * 250 / 256);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_append_first_completes_what_an_older_process_left() {
    let server = Server::start(Durability::Fast).await;
    let log = server.owners_log().await;
    log.append_many(0).await;
    let known = log.frontier().await.unwrap();
    log.append_many(1).await;
    forget_the_tree(&server.postgres.url(), known.size(), &known).await;
    assert_eq!(log.frontier().await.unwrap(), known, "the tree says what it has reached");
    assert_eq!(log.hashes(0, known.size(), 256).await.unwrap(), []);

    rap_events::Log::append(&log, append(1)).await.unwrap();
    assert_eq!(log.frontier().await.unwrap(), expected(&log).await);
    assert_eq!(log.hashes(0, 0, 256).await.unwrap().len(), 256);
    assert_eq!(log.hashes(1, 0, 256).await.unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frontier_that_does_not_fit_its_size_is_corruption() {
    let server = Server::start(Durability::Fast).await;
    let log = server.log().await;
    log.append_many(0).await;
    execute(&server.postgres.url(), "UPDATE log_head SET frontier = '\\x00'").await;
    let read = log.frontier().await;
    assert!(matches!(read, Err(rap_events::log::ReadError::Corrupt { .. })), "{read:?}");
    let refused = rap_events::Log::append(&log, append(1)).await;
    assert!(refused.is_err(), "nothing is stored beside a broken tree");
    assert_eq!(read_all(&log).await.len(), 250);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_was_changed_in_the_database_is_named_by_a_replay() {
    let server = Server::start(Durability::Fast).await;
    let url = server.postgres.url();
    let log = server.log().await;
    for number in 0..3 {
        log.append_many(number).await;
    }
    let replayed = async || {
        let mut check = TreeCheck::default();
        check.follow(&log, &read_all(&log).await).await.unwrap();
        check.finish(&log).await.unwrap()
    };
    assert_eq!(replayed().await, None);
    // An event; a leaf that fits the event again; a tile's root; the frontier.
    for (change, named) in [
        ("UPDATE events SET recorded_at = 7 WHERE position = 300", 300),
        ("UPDATE events SET leaf = decode(repeat('00', 32), 'hex') WHERE position = 260", 260),
        ("UPDATE tile_roots SET root = decode(repeat('00', 32), 'hex') WHERE index = 0", 1),
    ] {
        execute(&url, change).await;
        assert_eq!(replayed().await, Some(named), "{change}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leaf_that_was_changed_with_its_event_does_not_give_the_frontier() {
    let server = Server::start(Durability::Fast).await;
    let log = server.log().await;
    log.append_many(0).await;
    let mut changed = read_all(&log).await[99].clone();
    changed.at = rap_proto::Timestamp::from_unix_millis(7);
    let change = format!(
        "UPDATE events SET recorded_at = 7, leaf = '\\x{}' WHERE position = 100",
        entry::leaf(&changed)
    );
    execute(&server.postgres.url(), &change).await;
    let mut check = TreeCheck::default();
    check.follow(&log, &read_all(&log).await).await.unwrap();
    assert_eq!(check.finish(&log).await.unwrap(), Some(1), "within the last, partial tile");
}

trait AppendMany {
    async fn append_many(&self, number: u128);
}

impl AppendMany for PostgresLog {
    /// 250 events, so that appends and tiles end at different places.
    async fn append_many(&self, number: u128) {
        let append = append_to(1_000 + number, 1_000 + number, 0, 250);
        rap_events::Log::append(self, append).await.unwrap();
    }
}
