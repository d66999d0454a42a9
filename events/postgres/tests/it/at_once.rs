//! The append in one trip: taken while nobody else appends, lost without harm when somebody does.

use rap_events::{
    entry,
    log::{Append, AppendError, Log},
    tree::Tree,
};
use rap_log_postgres::{PostgresLog, Trips, private::Durability};
use rap_proto::{CommandId, OrganizationId};
use rap_tlog::Frontier;
use tokio_postgres::NoTls;

use crate::support::{Server, append, append_to, execute, once_each, read_all};

/// The log's own sessions that wait for a lock.
const WAITING: &str = "SELECT count(*) FROM pg_stat_activity \
     WHERE application_name = 'rap-control appender' AND wait_event_type = 'Lock'";

async fn check_tree(log: &PostgresLog) -> Frontier {
    let mut expected = Frontier::default();
    read_all(log).await.iter().for_each(|event| drop(expected.push(entry::leaf(event))));
    assert_eq!(log.frontier().await.unwrap(), expected);
    expected
}

/// The same events, decided under the head's lock: whoever claims a key is.
fn claiming(command: u128) -> Append {
    Append { claim: vec![format!("key/{command}")], ..append(command) }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_trip_is_enough_while_nobody_else_appends() {
    let server = Server::start(Durability::Fast).await;
    let log = server.log().await;
    for command in 1..=3 {
        log.append(append(command)).await.unwrap();
    }
    assert_eq!(log.trips(), Trips { at_once: 2, missed: 0, locked: 1 });
    log.append(claiming(4)).await.unwrap();
    log.append(append_to(5, 1, 1, 1)).await.unwrap();
    assert_eq!(log.trips(), Trips { at_once: 3, missed: 0, locked: 2 });
    once_each(&log, 1..=5).await;
    check_tree(&log).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_tree_is_the_same_either_way() {
    let server = Server::start(Durability::Fast).await;
    let mut roots = Vec::new();
    for (name, make) in [("fast", append as fn(u128) -> Append), ("slow", claiming)] {
        let url = server.postgres.create_database(name).await.unwrap();
        let log = PostgresLog::connect(&url).await.unwrap();
        for command in 1..=300 {
            log.append(make(command)).await.unwrap();
        }
        let trips = if name == "fast" { (299, 1) } else { (0, 300) };
        assert_eq!((log.trips().at_once, log.trips().locked), trips);
        assert_eq!(log.hashes(1, 0, 256).await.unwrap().len(), 1, "a tile is complete");
        roots.push((check_tree(&log).await, log.hashes(1, 0, 256).await.unwrap()));
    }
    assert_eq!(roots[0], roots[1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_who_take_turns_lose_nothing_and_leave_no_gap() {
    const ROUNDS: u64 = 20;
    let server = Server::start(Durability::Fast).await;
    let logs = [server.log().await, server.log().await];
    let mut command = 0;
    for _ in 0..ROUNDS {
        for log in &logs {
            for _ in 0..2 {
                command += 1;
                assert!(!log.append(append(command)).await.unwrap().replayed);
            }
        }
    }
    for log in &logs {
        // The first of each turn finds that the other one was there, the second finds its own.
        let Trips { at_once, missed, locked } = log.trips();
        assert_eq!((at_once, locked), (ROUNDS, ROUNDS));
        assert!(missed < ROUNDS);
    }
    once_each(&logs[0], 1..=command).await;
    check_tree(&logs[1]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_behind_another_appender_finds_the_head_moved() {
    let server = Server::start(Durability::Fast).await;
    let url = server.postgres.url();
    let (first, second) = (server.log().await, server.log().await);
    first.append(append(1)).await.unwrap();
    let (rival, connection) = tokio_postgres::connect(&url, NoTls).await.unwrap();
    tokio::spawn(connection);
    rival.batch_execute("BEGIN; SELECT FROM log_head FOR UPDATE").await.unwrap();
    let waiting = async |number: &str| {
        while execute(&url, WAITING).await != [number] {
            tokio::task::yield_now().await;
        }
    };
    let other = async { second.append(append(2)).await };
    let behind = async {
        waiting("1").await;
        first.append(append(3)).await
    };
    let release = async {
        waiting("2").await;
        rival.batch_execute("ROLLBACK").await.unwrap();
    };
    let (other, behind, ()) = tokio::join!(other, behind, release);
    assert_eq!((other.unwrap().first, behind.unwrap().first), (2, 3));
    assert_eq!(first.trips(), Trips { at_once: 0, missed: 1, locked: 2 });
    once_each(&first, 1..=3).await;
    check_tree(&first).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_memory_of_another_head_or_stream_stores_nothing() {
    let server = Server::start(Durability::Fast).await;
    let url = server.postgres.url();
    let log = server.log().await;
    log.append(append(1)).await.unwrap();
    // As long as the one that is remembered, and of other events.
    execute(&url, "UPDATE log_head SET frontier = decode(repeat('2a', 32), 'hex')").await;
    log.append(append(2)).await.unwrap();
    assert_eq!(log.trips(), Trips { at_once: 0, missed: 1, locked: 2 });
    let stored = "SELECT left(encode(frontier, 'hex'), 4) FROM log_head";
    assert_ne!(execute(&url, stored).await, ["2a2a"], "it went on from what is there");

    // A stream that moved without the head.
    let moved = "INSERT INTO streams SELECT category, gen_random_uuid(), 7 FROM streams LIMIT 1 \
                 RETURNING ('x' || translate(stream::text, '-', ''))::text";
    let stream = &execute(&url, moved).await[0][1..];
    let stream = u128::from_str_radix(stream, 16).unwrap();
    let refused = log.append(append_to(3, stream, 0, 1)).await.unwrap_err();
    assert!(matches!(refused, AppendError::Conflict { actual: 7, .. }), "{refused}");
    assert_eq!(log.trips(), Trips { at_once: 0, missed: 2, locked: 3 });
    // Each of the statements finds it, whether it looks or meets the key.
    let two = log.append(append_to(3, stream, 0, 2)).await.unwrap_err();
    assert!(matches!(two, AppendError::Conflict { actual: 7, .. }), "{two}");
    for events in [1, 2] {
        let grown = log.append(append_to(3, stream, 6, events)).await.unwrap_err();
        assert!(matches!(grown, AppendError::Conflict { actual: 7, .. }), "{grown}");
    }
    assert_eq!(log.trips(), Trips { at_once: 0, missed: 5, locked: 6 });
    once_each(&log, 1..=2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_statement_writes_the_same_rows_as_the_lock_does() {
    const ROWS: [&str; 3] = [
        "SELECT events::text FROM events ORDER BY position",
        "SELECT commands::text FROM commands ORDER BY command",
        "SELECT streams::text FROM streams ORDER BY stream",
    ];
    let server = Server::start(Durability::Fast).await;
    let mut stored = Vec::new();
    for claims in [false, true] {
        let url = server.postgres.create_database(&format!("claims_{claims}")).await.unwrap();
        let log = PostgresLog::connect(&url).await.unwrap();
        // A lone event that begins a stream and one that goes on, then two events of each kind,
        // and a stream that is only looked at.
        let looks = append_to(6, 9, 0, 0).writes;
        let mut appends = [
            append_to(1, 1, 0, 1),
            append_to(2, 2, 0, 1),
            append_to(3, 2, 1, 1),
            append_to(4, 3, 0, 2),
            append_to(5, 3, 2, 2),
            append_to(6, 4, 0, 1),
        ];
        appends[5].writes.extend(looks);
        for append in &mut appends {
            append.causation = (append.command != CommandId::from_u128(2)).then_some(1);
            for event in append.writes.iter_mut().flat_map(|write| &mut write.events) {
                event.organization = append.causation.map(|_| OrganizationId::from_u128(8));
            }
        }
        for append in appends {
            let claim = if claims { vec![format!("{:?}", append.command)] } else { Vec::new() };
            log.append(Append { claim, ..append }).await.unwrap();
        }
        let trips = if claims { (0, 6) } else { (5, 1) };
        assert_eq!((log.trips().at_once, log.trips().locked), trips);
        let mut rows = Vec::new();
        for table in ROWS {
            rows.push(execute(&url, table).await);
        }
        assert_eq!(rows.iter().map(Vec::len).collect::<Vec<_>>(), [8, 6, 4]);
        stored.push(rows);
    }
    assert_eq!(stored[0], stored[1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_another_process_stored_is_answered_as_it_was() {
    let server = Server::start(Durability::Fast).await;
    let url = server.postgres.url();
    let (log, other) = (server.log().await, server.log().await);
    // Without an event the head stays where it is.
    let silent = |command| Append { writes: Vec::new(), ..append(command) };
    log.append(append(1)).await.unwrap();
    other.append(silent(2)).await.unwrap();
    let repeated = log.append(append_to(2, 5, 0, 1)).await.unwrap();
    assert!(repeated.replayed);
    assert_eq!(log.trips(), Trips { at_once: 0, missed: 1, locked: 2 });
    assert_eq!(execute(&url, "SELECT count(*) FROM streams").await, ["1"]);
    once_each(&log, [1]).await;
}
