//! The connection is lost exactly at the commit: before the server hears of it, or behind it.
//!
//! A relay stands between the log and the server, looks for the commit in what the log says and
//! cuts the connection there.

use std::sync::{
    Arc,
    atomic::{AtomicU8, Ordering},
};

use rap_events::log::{AppendError, Log};
use rap_log_postgres::{PostgresLog, private::Durability};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{UnixListener, UnixStream},
};

use crate::support::{Server, append, check_gapless, read_all};

const PASS: u8 = 0;
/// The commit is swallowed.
const CUT_BEFORE: u8 = 1;
/// The commit is done, its answer swallowed.
const CUT_BEHIND: u8 = 2;
/// A connection is being cut; afterwards all pass again.
const CUTTING: u8 = 3;
/// What the server says when it is (a `CommandComplete` of PostgreSQL's protocol).
const DONE: &[u8] = b"COMMIT\0";

/// A relay on a socket of its own, which cuts one connection each time it is told to.
struct Relay {
    folder: TempDir,
    cut: Arc<AtomicU8>,
}

impl Relay {
    fn start(server: &Server) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(folder.path().join(".s.PGSQL.5432")).unwrap();
        let cut = Arc::new(AtomicU8::new(PASS));
        let (order, target) = (Arc::clone(&cut), server.socket());
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let Ok(server) = UnixStream::connect(&target).await else { continue };
                tokio::spawn(relay(client, server, Arc::clone(&order)));
            }
        });
        Self { folder, cut }
    }

    fn url(&self) -> String {
        let folder = self.folder.path().to_str().unwrap().replace('/', "%2F");
        format!("postgres://rap@{folder}/rap")
    }
}

async fn relay(mut client: UnixStream, mut server: UnixStream, cut: Arc<AtomicU8>) {
    let (mut said, mut answered) = (vec![0; 64 * 1024], vec![0; 64 * 1024]);
    loop {
        tokio::select! {
            read = client.read(&mut said) => {
                let Ok(length @ 1..) = read else { return };
                let commits = said[..length].windows(6).any(|window| window == b"COMMIT");
                let order = if commits { take(&cut) } else { PASS };
                if order == CUT_BEFORE {
                    return cut.store(PASS, Ordering::SeqCst);
                }
                server.write_all(&said[..length]).await.unwrap();
                if order == CUT_BEHIND {
                    let mut all = Vec::new();
                    while !all.windows(DONE.len()).any(|window| window == DONE) {
                        let answer = server.read(&mut answered).await.unwrap();
                        assert!(answer > 0, "the commit was not answered");
                        all.extend_from_slice(&answered[..answer]);
                    }
                    return cut.store(PASS, Ordering::SeqCst);
                }
            }
            read = server.read(&mut answered) => {
                let Ok(length @ 1..) = read else { return };
                client.write_all(&answered[..length]).await.unwrap();
            }
        }
    }
}

/// What to do with a commit: an order is for one.
fn take(cut: &AtomicU8) -> u8 {
    let taken = |order| [CUT_BEFORE, CUT_BEHIND].contains(&order).then_some(CUTTING);
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
