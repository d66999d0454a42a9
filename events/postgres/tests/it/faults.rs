//! A batch fails in its middle: another transaction is in its way, or the connection goes. A caller
//! hears clearly that nothing was stored; nothing acknowledged is lost, nothing is there twice, and
//! the same log works again.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use rap_events::log::{AppendError, Log};
use rap_log_postgres::{PostgresLog, private::Durability};
use tempfile::TempDir;
use tokio::{
    io::copy_bidirectional,
    net::{UnixListener, UnixStream},
    sync::watch,
    time::timeout,
};
use tokio_postgres::Client;

use crate::support::{
    Appending, HELD, HOLD_HEAD, HOLD_STREAM, PATIENCE, Server, WAITING, append, append_to, begin,
    blocked, execute, once_each, rival,
};

/// How often the appender tries a batch that others are in the way of.
const TRIES: &str = "5";

#[tokio::test(flavor = "multi_thread")]
async fn a_serialization_failure_is_tried_again() {
    let server = Server::start(Durability::Fast).await;
    let url = server.postgres.url();
    // As an engine does that knows no weaker isolation.
    let strict = "ALTER DATABASE rap SET default_transaction_isolation = 'repeatable read'";
    execute(&url, strict).await;
    let log = server.log().await;
    let rival = rival(&url).await;
    rival.batch_execute(&format!("BEGIN; {HOLD_HEAD}")).await.unwrap();
    let first = begin(&log, append(1)).await;
    blocked(&url).await;
    let second = begin(&log, append(2)).await;
    rival.batch_execute("UPDATE log_head SET position = position; COMMIT").await.unwrap();
    for appending in [first, second] {
        assert!(!appending.await.unwrap().replayed);
    }
    assert!(server.said().contains("could not serialize access"), "the fault was not there");
    once_each(&log, [1, 2]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_others_are_always_in_the_way_of_is_given_up_and_can_be_repeated() {
    let server = Server::start(Durability::Fast).await;
    let url = server.postgres.url();
    let log = server.log().await;
    log.append(append(1)).await.unwrap();
    let fault = "CREATE SEQUENCE tries; GRANT USAGE ON SEQUENCE tries TO rap_server; \
        CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
            PERFORM nextval('tries'); RAISE EXCEPTION 'a fault' USING ERRCODE = '40001'; \
        END $$; \
        CREATE TRIGGER fail BEFORE INSERT ON events FOR EACH STATEMENT EXECUTE FUNCTION fail()";
    execute(&url, fault).await;
    let refused = log.append(append(2)).await.unwrap_err();
    assert!(matches!(refused, AppendError::Unavailable(_)), "{refused}");
    assert_eq!(execute(&url, "SELECT last_value FROM tries").await, [TRIES]);
    once_each(&log, [1]).await;
    execute(&url, "DROP TRIGGER fail ON events").await;
    assert!(!log.append(append(2)).await.unwrap().replayed);
    once_each(&log, [1, 2]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deadlock_is_tried_again() {
    let server = Server::start(Durability::Fast).await;
    let url = server.postgres.url();
    // Whoever waits so long looks for a deadlock and gives way: the appender, and never the rival.
    execute(&url, "ALTER DATABASE rap SET deadlock_timeout = '4s'").await;
    let log = server.log().await;
    log.append(append_to(1, HELD, 0, 1)).await.unwrap();
    let rival = rival(&url).await;
    let hold = format!("SET deadlock_timeout = '1h'; BEGIN; {HOLD_STREAM}");
    rival.batch_execute(&hold).await.unwrap();
    let held = begin(&log, append_to(2, HELD, 1, 1)).await;
    blocked(&url).await;
    let other = begin(&log, append(3)).await;
    // Now each has what the other one waits for.
    timeout(PATIENCE, rival.batch_execute(HOLD_HEAD)).await.unwrap().unwrap();
    rival.batch_execute("COMMIT").await.unwrap();
    for appending in [held, other] {
        assert!(!appending.await.unwrap().replayed);
    }
    assert!(server.said().contains("deadlock detected"), "the fault was not there");
    once_each(&log, [1, 2, 3]).await;
}

/// Three appends in one batch, which waits in its middle for a stream that is held.
async fn batch_in_the_middle<'a>(log: &'a PostgresLog, url: &str) -> (Client, Vec<Appending<'a>>) {
    log.append(append_to(1, HELD, 0, 1)).await.unwrap();
    let (before, holder) = (rival(url).await, rival(url).await);
    before.batch_execute(&format!("BEGIN; {HOLD_HEAD}")).await.unwrap();
    let first = begin(log, append(2)).await;
    blocked(url).await;
    let mut batch = Vec::new();
    for append in [append(3), append_to(4, HELD, 1, 1), append(5)] {
        batch.push(begin(log, append).await);
    }
    holder.batch_execute(&format!("BEGIN; {HOLD_STREAM}")).await.unwrap();
    before.batch_execute("ROLLBACK").await.unwrap();
    first.await.unwrap();
    blocked(url).await;
    (holder, batch)
}

/// Nothing of the batch was stored; all of it can be repeated on the same log.
async fn nothing_of_it_is_there(log: &PostgresLog, batch: Vec<Appending<'_>>, holder: Client) {
    for appending in batch {
        // What ends a session may come behind the commit, and while the stream is held the batch
        // cannot be stored again either.
        let lost = timeout(PATIENCE, appending).await.unwrap().unwrap_err();
        assert_eq!(lost, AppendError::OutcomeUnknown);
    }
    holder.batch_execute("ROLLBACK").await.unwrap();
    once_each(log, [1, 2]).await;
    for append in [append(3), append_to(4, HELD, 1, 1), append(5)] {
        assert!(!log.append(append).await.unwrap().replayed);
    }
    once_each(log, 1..=5).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_the_server_ends_in_the_middle_of_a_batch_stores_nothing_of_it() {
    let server = Server::start(Durability::Fast).await;
    let url = server.postgres.url();
    let log = server.log().await;
    let (holder, batch) = batch_in_the_middle(&log, &url).await;
    execute(&url, &format!("SELECT pg_terminate_backend(pid) {WAITING}")).await;
    nothing_of_it_is_there(&log, batch, holder).await;
}

/// A way to the server that can be cut, and that can take connections and say nothing.
struct Wire {
    folder: TempDir,
    cut: watch::Sender<()>,
    silent: Arc<AtomicBool>,
}

impl Wire {
    fn lay(server: &Server) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(folder.path().join(".s.PGSQL.5432")).unwrap();
        let (cut, uncut) = watch::channel(());
        let silent = Arc::new(AtomicBool::new(false));
        let (target, says_nothing) = (server.socket(), Arc::clone(&silent));
        tokio::spawn(async move {
            let mut held = Vec::new();
            while let Ok((mut client, _)) = listener.accept().await {
                if says_nothing.load(Ordering::SeqCst) {
                    held.push(client);
                    continue;
                }
                let mut server = UnixStream::connect(&target).await.unwrap();
                let mut uncut = uncut.clone();
                uncut.mark_unchanged();
                tokio::spawn(async move {
                    tokio::select! {
                        _ = copy_bidirectional(&mut client, &mut server) => {}
                        _ = uncut.changed() => {}
                    }
                });
            }
        });
        Self { folder, cut, silent }
    }

    fn url(&self) -> String {
        let folder = self.folder.path().to_str().unwrap().replace('/', "%2F");
        format!("postgres://rap@{folder}/rap")
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_is_cut_in_the_middle_of_a_batch_leaves_all_of_it_or_nothing() {
    let server = Server::start(Durability::Fast).await;
    let wire = Wire::lay(&server);
    let log = PostgresLog::connect(&wire.url()).await.unwrap();
    let (holder, batch) = batch_in_the_middle(&log, &server.postgres.url()).await;
    wire.cut.send_replace(());
    // The server may have the commit already, behind the statement that waits here: the appender
    // has to ask, and its question waits for the same lock.
    holder.batch_execute("ROLLBACK").await.unwrap();
    let mut stored = Vec::new();
    for appending in batch {
        match timeout(PATIENCE, appending).await.unwrap() {
            Ok(appended) => stored.push(!appended.replayed),
            Err(AppendError::Unavailable(_)) => {}
            Err(other) => panic!("{other}"),
        }
    }
    assert!(matches!(*stored, [] | [true, true, true]), "{stored:?}");
    for append in [append(3), append_to(4, HELD, 1, 1), append(5)] {
        assert_eq!(log.append(append).await.unwrap().replayed, !stored.is_empty());
    }
    once_each(&log, 1..=5).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_takes_connections_and_says_nothing_is_away() {
    let server = Server::start(Durability::Fast).await;
    let wire = Wire::lay(&server);
    let log = PostgresLog::connect(&wire.url()).await.unwrap();
    log.append(append(1)).await.unwrap();
    wire.silent.store(true, Ordering::SeqCst);
    wire.cut.send_replace(());
    let refused = timeout(PATIENCE, log.append(append(2))).await.expect("an answer").unwrap_err();
    // It may have been on the wire when that was cut.
    let unknown = matches!(refused, AppendError::OutcomeUnknown);
    assert!(unknown || matches!(refused, AppendError::Unavailable(_)), "{refused}");
    wire.silent.store(false, Ordering::SeqCst);
    assert!(!log.append(append(2)).await.unwrap().replayed);
    once_each(&log, [1, 2]).await;
}
