//! This process's followers hear of a batch from the appender: at the latest when it takes up the next.
//!
//! The tail would tell them as well, a little later, and hide an appender that does not. So it gets
//! nowhere here.

use rap_events::log::{Append, Log};
use rap_log_postgres::{PostgresLog, private::Durability};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional},
    net::{UnixListener, UnixStream},
    time::timeout,
};

use crate::support::{
    HELD, HOLD_HEAD, HOLD_STREAM, PATIENCE, Server, append, append_to, begin, blocked, once_each,
    rival,
};

/// What a tail says first.
const TAIL: &[u8] = b"rap-control tail";

/// A way to the server for everybody but the tail.
struct Way(TempDir);

impl Way {
    fn lay(server: &Server) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(folder.path().join(".s.PGSQL.5432")).unwrap();
        let target = server.socket();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(pass(client, target.clone()));
            }
        });
        Self(folder)
    }

    fn url(&self) -> String {
        let folder = self.0.path().to_str().unwrap().replace('/', "%2F");
        format!("postgres://rap@{folder}/rap")
    }
}

async fn pass(mut client: UnixStream, target: std::path::PathBuf) {
    let mut first = vec![0; 4 * 1024];
    let Ok(length @ 1..) = client.read(&mut first).await else { return };
    let first = &first[..length];
    if first.windows(TAIL.len()).any(|part| part == TAIL) {
        return;
    }
    let mut server = UnixStream::connect(&target).await.unwrap();
    server.write_all(first).await.unwrap();
    let _ = copy_bidirectional(&mut client, &mut server).await;
}

async fn hear(log: &PostgresLog, position: u64) {
    let heard = timeout(PATIENCE, log.wait_beyond(position - 1)).await.expect("the appender tells");
    assert_eq!(heard.unwrap(), position);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_follows_a_lone_writer_hears_of_each_append() {
    let server = Server::start(Durability::Fast).await;
    let way = Way::lay(&server);
    let log = PostgresLog::connect(&way.url()).await.unwrap();
    for position in 1..=4 {
        let command = u128::from(position);
        // Either way to store is told of.
        let claim = if position % 2 == 0 { vec![format!("key/{command}")] } else { Vec::new() };
        log.append(Append { claim, ..append(command) }).await.unwrap();
        hear(&log, position).await;
    }
    assert!(log.trips().at_once > 0 && log.trips().locked > 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_follows_hears_of_a_batch_before_the_next_one_is_stored() {
    let server = Server::start(Durability::Fast).await;
    let (url, way) = (server.postgres.url(), Way::lay(&server));
    let log = PostgresLog::connect(&way.url()).await.unwrap();
    log.append(append_to(1, HELD, 0, 1)).await.unwrap();
    let (before, holder) = (rival(&url).await, rival(&url).await);
    before.batch_execute(&format!("BEGIN; {HOLD_HEAD}")).await.unwrap();
    let first = begin(&log, append(2)).await;
    blocked(&url).await;
    // It is in the queue when the first is stored, and then waits for a stream.
    let mut second = begin(&log, append_to(3, HELD, 1, 1)).await;
    holder.batch_execute(&format!("BEGIN; {HOLD_STREAM}")).await.unwrap();
    before.batch_execute("ROLLBACK").await.unwrap();
    assert_eq!(first.await.unwrap().last, 2);
    tokio::select! {
        biased;
        ended = &mut second => panic!("nobody heard of the first before the end of {ended:?}"),
        () = hear(&log, 2) => {}
    }
    holder.batch_execute("ROLLBACK").await.unwrap();
    assert_eq!(second.await.unwrap().last, 3);
    hear(&log, 3).await;
    once_each(&log, 1..=3).await;
}
