//! The connection is lost exactly at the commit: before the server hears of it, or behind it, or the
//! server hears of it when everybody has given it up. Or it is lost at the end of a transaction that
//! wrote nothing.
//!
//! A relay stands between the log and the server, looks for the writing in what the log says and
//! cuts the connection there. The commit goes with it: as a statement of its own when the head was
//! locked before, and without a word when the writing is the whole transaction.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU8, AtomicU32, Ordering},
    },
    time::Duration,
};

use rap_events::log::{AppendError, Log};
use rap_log_postgres::{PostgresLog, Trips, private::Durability};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{UnixListener, UnixStream},
    sync::Notify,
    time::timeout,
};

use crate::support::{Server, append, append_to, check_gapless, execute, once_each, read_all};

const PASS: u8 = 0;
/// The commit is swallowed.
const CUT_BEFORE: u8 = 1;
/// The commit is done, its answer swallowed.
const CUT_BEHIND: u8 = 2;
/// The commit is kept back until it is let go.
const HOLD_BACK: u8 = 3;
/// The commit is done; instead of its answer the server says that it ends the connection.
const END_BEHIND: u8 = 5;
/// It is kept back as well, and the connection stays: nothing comes until it is let go.
const SAY_NOTHING: u8 = 6;
/// A connection is being cut; afterwards all pass again.
const CUTTING: u8 = 4;
/// What the log says when it writes: the type of its events.
const WRITES: &[u8] = b"thing.happened";
/// What the log says when it wrote nothing.
const ROLLS_BACK: &[u8] = b"ROLLBACK";
/// What the server says when it is shut down (an `ErrorResponse`).
const ENDS: &[u8] = b"E\0\0\0\x2dSFATAL\0VFATAL\0C57P01\0Mshutting down now\0\0";
/// What the server says when it is done (a `CommandComplete` of PostgreSQL's protocol).
const COMMITTED: &[u8] = b"COMMIT\0";
/// The same of a statement alone: one row, and no transaction is open.
const STORED_AT_ONCE: &[u8] = b"SELECT 1\0Z\0\0\0\x05I";
/// No transaction is open.
const READY: &[u8] = b"Z\0\0\0\x05I";
/// It found another head.
const STORED_NOTHING: &[u8] = b"SELECT 0\0Z\0\0\0\x05I";

/// A relay on a socket of its own, which cuts one connection each time it is told to.
struct Relay {
    folder: TempDir,
    cut: Arc<AtomicU8>,
    /// How many new connections are turned away.
    shut: Arc<AtomicU32>,
    /// Lets go what was held back, and is told what the server said to it.
    late: Arc<Late>,
}

#[derive(Default)]
struct Late {
    go: Notify,
    answer: Mutex<Vec<u8>>,
    answered: Notify,
}

impl Relay {
    fn start(server: &Server) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(folder.path().join(".s.PGSQL.5432")).unwrap();
        let (cut, late) = (Arc::new(AtomicU8::new(PASS)), Arc::new(Late::default()));
        let (order, target, kept) = (Arc::clone(&cut), server.socket(), Arc::clone(&late));
        let shut = Arc::new(AtomicU32::new(0));
        let turned_away = Arc::clone(&shut);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let one_less = |count: u32| count.checked_sub(1);
                if turned_away.fetch_update(Ordering::SeqCst, Ordering::SeqCst, one_less).is_ok() {
                    continue;
                }
                let Ok(server) = UnixStream::connect(&target).await else { continue };
                tokio::spawn(relay(client, server, Arc::clone(&order), Arc::clone(&kept)));
            }
        });
        Self { folder, cut, shut, late }
    }

    fn url(&self) -> String {
        let folder = self.folder.path().to_str().unwrap().replace('/', "%2F");
        format!("postgres://rap@{folder}/rap")
    }
}

async fn relay(
    mut client: UnixStream,
    mut server: UnixStream,
    cut: Arc<AtomicU8>,
    late: Arc<Late>,
) {
    let (mut said, mut answered) = (vec![0; 64 * 1024], vec![0; 64 * 1024]);
    loop {
        tokio::select! {
            read = client.read(&mut said) => {
                let Ok(length @ 1..) = read else { return };
                let said = &said[..length];
                let ends = contains(said, WRITES) || contains(said, ROLLS_BACK);
                let order = if ends { take(&cut) } else { PASS };
                let done = if contains(said, b"COMMIT") { COMMITTED } else { STORED_AT_ONCE };
                match order {
                    CUT_BEFORE => return cut.store(PASS, Ordering::SeqCst),
                    CUT_BEHIND | END_BEHIND => {
                        server.write_all(said).await.unwrap();
                        until(&mut server, done).await;
                        if order == END_BEHIND {
                            client.write_all(ENDS).await.unwrap();
                        }
                        return cut.store(PASS, Ordering::SeqCst);
                    }
                    HOLD_BACK | SAY_NOTHING => {
                        let _open = (order == SAY_NOTHING).then_some(client);
                        cut.store(PASS, Ordering::SeqCst);
                        late.go.notified().await;
                        server.write_all(said).await.unwrap();
                        *late.answer.lock().unwrap() = until(&mut server, READY).await;
                        return late.answered.notify_one();
                    }
                    _ => server.write_all(said).await.unwrap(),
                }
            }
            read = server.read(&mut answered) => {
                let Ok(length @ 1..) = read else { return };
                client.write_all(&answered[..length]).await.unwrap();
            }
        }
    }
}

/// What the server says up to `done`, and that.
async fn until(server: &mut UnixStream, done: &[u8]) -> Vec<u8> {
    let (mut all, mut answered) = (Vec::new(), vec![0; 64 * 1024]);
    while !contains(&all, done) {
        let length = server.read(&mut answered).await.unwrap();
        assert!(length > 0, "it was not answered");
        all.extend_from_slice(&answered[..length]);
    }
    all
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

/// What to do with a commit: an order is for one.
fn take(cut: &AtomicU8) -> u8 {
    let orders = [CUT_BEFORE, CUT_BEHIND, HOLD_BACK, END_BEHIND, SAY_NOTHING];
    let taken = |order| orders.contains(&order).then_some(CUTTING);
    cut.fetch_update(Ordering::SeqCst, Ordering::SeqCst, taken).unwrap_or(PASS)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_happened_is_found_and_acknowledged() {
    let server = Server::start(Durability::Fast).await;
    let relay = Relay::start(&server);
    let log = PostgresLog::connect(&relay.url()).await.unwrap();
    relay.cut.store(CUT_BEHIND, Ordering::SeqCst);
    let appended = log.append(append(1)).await.unwrap();
    assert_eq!((appended.first, appended.replayed), (1, false));
    assert_eq!(relay.cut.load(Ordering::SeqCst), PASS, "nothing was cut");
    assert_eq!(log.wait_beyond(0).await.unwrap(), 1);
    log.append(append(2)).await.unwrap();
    assert_eq!(check_gapless(&read_all(&log).await).len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_did_not_happen_is_known_not_to_have() {
    let server = Server::start(Durability::Fast).await;
    let relay = Relay::start(&server);
    let log = PostgresLog::connect(&relay.url()).await.unwrap();
    relay.cut.store(CUT_BEFORE, Ordering::SeqCst);
    let refused = log.append(append(1)).await.unwrap_err();
    assert!(matches!(refused, AppendError::Unavailable(_)), "{refused}");
    assert!(read_all(&log).await.is_empty());
    let again = log.append(append(1)).await.unwrap();
    assert!(!again.replayed, "the same command can be tried again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_nobody_can_ask_about_is_unknown() {
    let mut server = Server::start(Durability::Safe).await;
    let relay = Relay::start(&server);
    let log = PostgresLog::connect(&relay.url()).await.unwrap();
    relay.cut.store(CUT_BEHIND, Ordering::SeqCst);
    let lost = log.append(append(1));
    let gone = async {
        while relay.cut.load(Ordering::SeqCst) != PASS {
            tokio::task::yield_now().await;
        }
        server.postgres.kill().await;
    };
    let (outcome, ()) = tokio::join!(lost, gone);
    // Asked in the instant before the end, or not answered any more: never refused.
    assert!(matches!(outcome, Ok(_) | Err(AppendError::OutcomeUnknown)), "{outcome:?}");
    server.postgres.restart().await.unwrap();
    let log = server.log().await;
    assert!(log.append(append(1)).await.unwrap().replayed, "looked up, it is there");
}

/// A log whose next append goes in one trip, and that has all of its connections: whoever is turned
/// away is the appender.
async fn known_head(server: &Server, relay: &Relay) -> PostgresLog {
    let log = PostgresLog::connect(&relay.url()).await.unwrap();
    log.append(append(1)).await.unwrap();
    log.append(append(2)).await.unwrap();
    assert_eq!(log.trips(), Trips { at_once: 1, missed: 0, locked: 1 });
    let connected = "SELECT count(*) FROM pg_stat_activity \
         WHERE application_name IN ('rap-control tail', 'rap-control teller')";
    while execute(&server.postgres.url(), connected).await != ["2"] {
        tokio::task::yield_now().await;
    }
    log
}

#[tokio::test(flavor = "multi_thread")]
async fn an_append_at_once_whose_answer_is_lost_is_acknowledged_and_there_once() {
    let server = Server::start(Durability::Fast).await;
    let relay = Relay::start(&server);
    let log = known_head(&server, &relay).await;
    relay.cut.store(CUT_BEHIND, Ordering::SeqCst);
    let appended = log.append(append(3)).await.unwrap();
    assert_eq!((appended.first, appended.replayed), (3, false));
    assert_eq!(relay.cut.load(Ordering::SeqCst), PASS, "nothing was cut");
    assert_eq!(log.trips().locked, 2, "it was looked up under the lock");
    log.append(append(4)).await.unwrap();
    once_each(&log, 1..=4).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_append_at_once_that_never_arrived_is_stored_by_the_next_try() {
    let server = Server::start(Durability::Fast).await;
    let relay = Relay::start(&server);
    let log = known_head(&server, &relay).await;
    relay.cut.store(CUT_BEFORE, Ordering::SeqCst);
    let appended = log.append(append(3)).await.unwrap();
    assert_eq!((appended.first, appended.replayed), (3, false));
    assert_eq!(relay.cut.load(Ordering::SeqCst), PASS, "nothing was cut");
    once_each(&log, 1..=3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_append_at_once_that_arrives_when_it_was_given_up_stores_nothing() {
    let server = Server::start(Durability::Fast).await;
    let relay = Relay::start(&server);
    let log = known_head(&server, &relay).await;
    relay.cut.store(HOLD_BACK, Ordering::SeqCst);
    assert!(!log.append(append(3)).await.unwrap().replayed);
    relay.late.go.notify_one();
    relay.late.answered.notified().await;
    let answer = relay.late.answer.lock().unwrap().clone();
    assert!(contains(&answer, STORED_NOTHING), "{}", String::from_utf8_lossy(&answer));
    once_each(&log, 1..=3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_refused_after_an_answer_was_lost_is_not_stored_late_either() {
    // A stream that goes on is looked at, one that begins is met by its key.
    for (expected, end) in [(7, STORED_NOTHING), (0, b"streams_key".as_slice())] {
        let server = Server::start(Durability::Fast).await;
        let relay = Relay::start(&server);
        let log = known_head(&server, &relay).await;
        relay.cut.store(HOLD_BACK, Ordering::SeqCst);
        let lost = log.append(append_to(3, 2, expected, 1)).await.unwrap_err();
        assert!(matches!(lost, AppendError::Conflict { actual: 1, .. }), "{lost}");
        relay.late.go.notify_one();
        relay.late.answered.notified().await;
        let answer = relay.late.answer.lock().unwrap().clone();
        assert!(contains(&answer, end), "{}", String::from_utf8_lossy(&answer));
        once_each(&log, 1..=2).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_ends_behind_an_append_at_once_has_not_answered_it() {
    let server = Server::start(Durability::Fast).await;
    let relay = Relay::start(&server);
    let log = known_head(&server, &relay).await;
    relay.cut.store(END_BEHIND, Ordering::SeqCst);
    relay.shut.store(2, Ordering::SeqCst);
    let appended = log.append(append(3)).await.unwrap();
    assert_eq!((appended.first, appended.replayed), (3, false));
    assert_eq!(relay.cut.load(Ordering::SeqCst), PASS, "nothing was cut");
    assert_eq!(log.trips().locked, 4, "turned away twice, it was tried until there was an answer");
    once_each(&log, 1..=3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_refused_after_an_answer_was_lost_may_be_stored() {
    let server = Server::start(Durability::Fast).await;
    let (url, relay) = (server.postgres.url(), Relay::start(&server));
    let log = known_head(&server, &relay).await;
    relay.cut.store(CUT_BEHIND, Ordering::SeqCst);
    relay.shut.store(u32::MAX, Ordering::SeqCst);
    let lost = log.append(append(3));
    let out_of_order = async {
        while relay.cut.load(Ordering::SeqCst) != PASS {
            tokio::task::yield_now().await;
        }
        execute(&url, "ALTER TABLE commands RENAME TO gone").await;
        relay.shut.store(0, Ordering::SeqCst);
    };
    let (outcome, ()) = tokio::join!(lost, out_of_order);
    assert_eq!(outcome.unwrap_err(), AppendError::OutcomeUnknown);
    execute(&url, "ALTER TABLE gone RENAME TO commands").await;
    assert!(log.append(append(3)).await.unwrap().replayed, "looked up, it is there");
    once_each(&log, 1..=3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_found_stays_found_when_the_connection_is_lost_behind_it() {
    let server = Server::start(Durability::Fast).await;
    let relay = Relay::start(&server);
    server.log().await.append(append(1)).await.unwrap();
    let log = PostgresLog::connect(&relay.url()).await.unwrap();
    relay.cut.store(CUT_BEFORE, Ordering::SeqCst);
    assert!(log.append(append(1)).await.unwrap().replayed);
    assert_eq!(relay.cut.load(Ordering::SeqCst), PASS, "nothing was cut");
    assert_eq!(log.trips().locked, 1);
    log.append(append(2)).await.unwrap();
    once_each(&log, 1..=2).await;
}

/// Longer than one trip may take.
const PATIENCE: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_a_transaction_that_wrote_nothing_is_not_waited_for_for_ever() {
    let server = Server::start(Durability::Fast).await;
    let relay = Relay::start(&server);
    server.log().await.append(append(1)).await.unwrap();
    let log = PostgresLog::connect(&relay.url()).await.unwrap();
    relay.cut.store(SAY_NOTHING, Ordering::SeqCst);
    let again = timeout(PATIENCE, log.append(append(1))).await;
    assert!(again.expect("it goes on").unwrap().replayed);
    assert_eq!(relay.cut.load(Ordering::SeqCst), PASS, "all was said");
    // The server holds the head for whoever is not heard.
    relay.late.go.notify_one();
    log.append(append(2)).await.unwrap();
    once_each(&log, 1..=2).await;
}
