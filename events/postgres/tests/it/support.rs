//! Servers, appends and the checks that every test ends with.

use std::{
    collections::BTreeMap, future::poll_fn, path::PathBuf, pin::Pin, task::Poll, time::Duration,
};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use rap_events::log::{
    Actor, Append, AppendError, Appended, Envelope, Log, MAX_READ_EVENTS, NewEvent, StreamId,
    StreamWrite,
};
use rap_log_postgres::{
    PostgresLog,
    private::{Durability, PrivatePostgres},
};
use rap_proto::{CommandId, Digest, Timestamp};
use tempfile::TempDir;
use tokio::time::timeout;
use tokio_postgres::{Client, NoTls};
use uuid::Uuid;

pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
/// A stream that another transaction holds.
pub(crate) const HELD: u128 = 9;
pub(crate) const HOLD_STREAM: &str = "SELECT revision FROM streams WHERE category = 'thing' \
     AND stream = '00000000-0000-0000-0000-000000000009' FOR UPDATE";
pub(crate) const HOLD_HEAD: &str = "SELECT position FROM log_head FOR UPDATE";
/// The log's own sessions that wait for a lock.
pub(crate) const WAITING: &str = "FROM pg_stat_activity \
     WHERE application_name = 'rap-control appender' AND wait_event_type = 'Lock'";

/// A server in a temporary folder.
pub(crate) struct Server {
    // In this order: the server is stopped before its folder is removed.
    pub(crate) postgres: PrivatePostgres,
    folder: TempDir,
}

impl Server {
    pub(crate) async fn start(durability: Durability) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let postgres = PrivatePostgres::start(folder.path(), durability).await.unwrap();
        Self { postgres, folder }
    }

    /// Where the server's socket is.
    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.path().join("run/.s.PGSQL.5432")
    }

    /// Everything that the server has said since it was started.
    pub(crate) fn said(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("server.log")).unwrap()
    }

    /// As a server has it: with a role that changes nothing of what is stored.
    pub(crate) async fn log(&self) -> PostgresLog {
        let url = self.postgres.create_log("rap").await.unwrap();
        PostgresLog::connect(&url).await.unwrap()
    }

    pub(crate) async fn owners_log(&self) -> PostgresLog {
        PostgresLog::connect(&self.postgres.url()).await.unwrap()
    }
}

/// An append of one event to a stream of its own.
pub(crate) fn append(command: u128) -> Append {
    append_to(command, command, 0, 1)
}

pub(crate) fn append_to(command: u128, stream: u128, expected: u64, events: usize) -> Append {
    let event = NewEvent {
        event_type: "thing.happened".to_owned(),
        schema: 1,
        payload: Bytes::from(command.to_be_bytes().to_vec()),
        organization: None,
    };
    let stream = StreamId::new("thing", Uuid::from_u128(stream));
    Append {
        request_hash: Digest::of(&command.to_be_bytes()),
        actor: Actor::System { process: "test".to_owned() },
        reply: Bytes::from(format!("reply {command}")),
        ..Append::plain(
            CommandId::from_u128(command),
            Timestamp::from_unix_millis(1_000),
            vec![StreamWrite { stream, expected, events: vec![event; events] }],
        )
    }
}

/// The whole log, read in pages. Reading itself halts at a gap.
pub(crate) async fn read_all(log: &dyn Log) -> Vec<Envelope> {
    let mut events: Vec<Envelope> = Vec::new();
    loop {
        let after = events.last().map_or(0, |event| event.position);
        let page = log.read(after, MAX_READ_EVENTS).await.unwrap();
        if page.is_empty() {
            return events;
        }
        events.extend(page);
    }
}

/// Positions 1 to n, and how often each command's events are there.
pub(crate) fn check_gapless(events: &[Envelope]) -> BTreeMap<CommandId, usize> {
    let mut times = BTreeMap::new();
    for (event, position) in events.iter().zip(1..) {
        assert_eq!(event.position, position);
        *times.entry(event.command).or_insert(0) += 1;
    }
    times
}

/// Every one of these commands is stored once, and nothing else is.
pub(crate) async fn once_each(log: &PostgresLog, commands: impl IntoIterator<Item = u128>) {
    let times = check_gapless(&read_all(log).await);
    let expected: BTreeMap<CommandId, usize> =
        commands.into_iter().map(|command| (CommandId::from_u128(command), 1)).collect();
    assert_eq!(times, expected);
}

pub(crate) async fn execute(url: &str, sql: &str) -> Vec<String> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    let running = tokio::spawn(connection);
    let messages = client.simple_query(sql).await.unwrap();
    drop(client);
    running.await.unwrap().unwrap();
    let rows = messages.iter().filter_map(|message| match message {
        tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
        _ => None,
    });
    rows.collect()
}

/// Another program that writes to the same database.
pub(crate) async fn rival(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

/// Waits until the appender waits for what somebody holds.
pub(crate) async fn blocked(url: &str) {
    let looking = async {
        while execute(url, &format!("SELECT count(*) {WAITING}")).await != ["1"] {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, looking).await.expect("the appender waits for a lock");
}

pub(crate) type Appending<'a> = BoxFuture<'a, Result<Appended, AppendError>>;

/// Begins an append: it is in the appender's queue when this returns.
pub(crate) async fn begin(log: &PostgresLog, append: Append) -> Appending<'_> {
    let mut appending: Appending<'_> = log.append(append);
    poll_fn(|context| {
        assert!(Pin::new(&mut appending).poll(context).is_pending());
        Poll::Ready(())
    })
    .await;
    appending
}
