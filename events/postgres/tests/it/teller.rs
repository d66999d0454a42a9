//! Others hear of an append behind its commit: promptly, in few words, and never in its way.

use std::{
    future::poll_fn,
    time::{Duration, Instant},
};

use rap_events::log::{Append, AppendError, Log};
use rap_log_postgres::private::Durability;
use rustix::process::{Pid, Signal, kill_process};
use tokio::{sync::mpsc, time::timeout};
use tokio_postgres::{AsyncMessage, Client, NoTls};

use crate::support::{Server, append, append_to, execute, once_each};

const PATIENCE: Duration = Duration::from_secs(60);
/// How often a tail looks for itself.
const LOOK: Duration = Duration::from_secs(1);
const TELLER: &str = "FROM pg_stat_activity WHERE application_name = 'rap-control teller'";

/// Whoever listens on the database.
struct Listener {
    _client: Client,
    told: mpsc::UnboundedReceiver<u64>,
}

impl Listener {
    async fn start(url: &str) -> Self {
        let (client, mut connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
        let (hear, told) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Some(Ok(message)) = poll_fn(|cx| connection.poll_message(cx)).await {
                if let AsyncMessage::Notification(one) = message {
                    let _ = hear.send(one.payload().parse().unwrap());
                }
            }
        });
        client.batch_execute("LISTEN rap_log").await.unwrap();
        Self { _client: client, told }
    }

    async fn next(&mut self) -> u64 {
        timeout(PATIENCE, self.told.recv()).await.expect("a notification").unwrap()
    }

    /// Everything up to the notification of `last`.
    async fn until(&mut self, last: u64) -> Vec<u64> {
        let mut told = vec![self.next().await];
        while told.last() != Some(&last) {
            told.push(self.next().await);
        }
        told
    }
}

/// The teller's session, which stands still until this is dropped.
struct Stopped(Pid);

impl Stopped {
    async fn stop(url: &str) -> Self {
        let pid = execute(url, &format!("SELECT pid {TELLER}")).await;
        let [pid] = &*pid else { panic!("one teller, not {pid:?}") };
        let pid = Pid::from_raw(pid.parse().unwrap()).unwrap();
        kill_process(pid, Signal::STOP).unwrap();
        Self(pid)
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        let _ = kill_process(self.0, Signal::CONT);
    }
}

/// The same events, decided under the head's lock.
fn claiming(command: u128) -> Append {
    Append { claim: vec![format!("key/{command}")], ..append(command) }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_process_hears_of_each_append_before_it_would_look() {
    const ROUNDS: u32 = 10;
    let server = Server::start(Durability::Fast).await;
    let (writer, other) = (server.log().await, server.log().await);
    let begun = Instant::now();
    for round in 1..=ROUNDS {
        // Either way to store is told of.
        let make = if round % 3 == 0 { claiming } else { append };
        let position = writer.append(make(round.into())).await.unwrap().last;
        let heard = timeout(PATIENCE, other.wait_beyond(position - 1)).await.unwrap();
        assert_eq!(heard.unwrap(), position);
    }
    assert!(writer.trips().at_once > 0 && writer.trips().locked > 1);
    // A look sees no more than one of them.
    assert!(begun.elapsed() < LOOK * ROUNDS / 2, "it looked: {:?}", begun.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn appends_pass_a_teller_that_hangs_and_others_see_them_by_looking() {
    const APPENDS: u64 = 100;
    let server = Server::start(Durability::Fast).await;
    let url = server.postgres.url();
    let (log, other) = (server.log().await, server.log().await);
    let mut listener = Listener::start(&url).await;
    log.append(append(1)).await.unwrap();
    assert_eq!(listener.next().await, 1);
    let stopped = Stopped::stop(&url).await;
    for command in 2..=u128::from(APPENDS) {
        let appended = timeout(PATIENCE, log.append(append(command))).await;
        assert_eq!(u128::from(appended.expect("it does not wait").unwrap().last), command);
    }
    // As when the process had died before it told.
    let seen = timeout(PATIENCE, other.wait_beyond(APPENDS - 1)).await;
    assert_eq!(seen.expect("it looks").unwrap(), APPENDS);
    assert!(listener.told.try_recv().is_err(), "somebody told");
    drop(stopped);
    // The one that was under way, and one for all that came meanwhile.
    let told = listener.until(APPENDS).await;
    assert!(told.len() <= 2 && told.is_sorted(), "{told:?}");
    once_each(&log, 1..=u128::from(APPENDS)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_teller_whose_session_is_ended_makes_another_and_tells() {
    let server = Server::start(Durability::Fast).await;
    let (url, log) = (server.postgres.url(), server.log().await);
    let mut listener = Listener::start(&url).await;
    for position in 1..=5 {
        log.append(append(position.into())).await.unwrap();
        assert_eq!(listener.next().await, position);
        execute(&url, &format!("SELECT pg_terminate_backend(pid) {TELLER}")).await;
        while execute(&url, &format!("SELECT count(*) {TELLER}")).await != ["0"] {
            tokio::task::yield_now().await;
        }
    }
    // Now one is under way when the session ends.
    log.append(append(6)).await.unwrap();
    assert_eq!(listener.next().await, 6);
    let stopped = Stopped::stop(&url).await;
    log.append(append(7)).await.unwrap();
    execute(&url, &format!("SELECT pg_terminate_backend(pid) {TELLER}")).await;
    drop(stopped);
    let told = listener.until(7).await;
    assert_eq!(told, [7]);
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_tells_of_what_somebody_else_stored() {
    let server = Server::start(Durability::Fast).await;
    let (log, other) = (server.log().await, server.log().await);
    let mut listener = Listener::start(&server.postgres.url()).await;
    log.append(append(1)).await.unwrap();
    assert_eq!(listener.next().await, 1);
    other.append(append(2)).await.unwrap();
    assert_eq!(listener.next().await, 2);
    for round in 0..50 {
        assert!(other.append(append(1)).await.unwrap().replayed);
        let refused = other.append(append_to(3, 1, 0, 1)).await.unwrap_err();
        assert!(matches!(refused, AppendError::Conflict { .. }), "{refused}");
        // One that brings no event moves no head.
        let silent = Append { writes: Vec::new(), ..append(100 + round) };
        assert!(!other.append(silent).await.unwrap().replayed);
    }
    other.append(append(3)).await.unwrap();
    assert_eq!(listener.next().await, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_is_closed_tells_its_last_append_and_waits_no_longer_than_it_is_worth() {
    let server = Server::start(Durability::Fast).await;
    let url = server.postgres.url();
    let mut listener = Listener::start(&url).await;
    let log = server.log().await;
    log.append(append(1)).await.unwrap();
    log.close().await;
    assert_eq!(listener.next().await, 1);

    let log = server.log().await;
    log.append(append(2)).await.unwrap();
    assert_eq!(listener.next().await, 2);
    let stopped = Stopped::stop(&url).await;
    log.append(append(3)).await.unwrap();
    // A notification may take 15 s.
    timeout(LOOK * 10, log.close()).await.expect("nobody waits for it");
    drop(stopped);
}
