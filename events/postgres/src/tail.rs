//! The tail: learns how far the log has come, also through other processes' appends.
//!
//! A notification says how far, and is given to nobody before what it tells of can be read. It can
//! be lost, and whoever may connect can send a false one: every second the tail looks for itself,
//! and what was told before it asked and is beyond the answer was false. A number that is further
//! than one batch can bring is not believed, but looked for. An honest one hardly ever is, though it
//! can tell of several batches, so it costs no query. The tail has its own connection, and when that ends it makes another.

use std::{future::poll_fn, sync::Arc, time::Duration};

use rap_events::log::MAX_EVENTS_PER_APPEND;
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, sleep, timeout},
};
use tokio_postgres::{AsyncMessage, Client, Connection, NoTls};

use crate::{
    appender::MAX_BATCH,
    publish,
    statements::CHANNEL,
    tls::{Place, Verified},
};

const POLL: Duration = Duration::from_secs(1);
const ANSWER_DEADLINE: Duration = Duration::from_secs(10);
pub(crate) const FIRST_BACKOFF: Duration = Duration::from_millis(100);
pub(crate) const GREATEST_BACKOFF: Duration = Duration::from_secs(2);
/// A connection that lasted this long was a good one: the next failure starts over.
const GOOD_CONNECTION: Duration = Duration::from_secs(10);

/// The most events by which a notification is believed to be beyond what is known: those of the
/// greatest batch.
const MAX_LEAP: u64 = (MAX_BATCH * MAX_EVENTS_PER_APPEND) as u64;

const READ_HEAD: &str = "SELECT position FROM log_head";

#[derive(Debug, thiserror::Error)]
enum TailError {
    #[error("{0}")]
    Database(#[from] tokio_postgres::Error),
    #[error("no answer within {} s", ANSWER_DEADLINE.as_secs())]
    NoAnswer(#[from] tokio::time::error::Elapsed),
    #[error("the connection ended")]
    Ended,
}

/// Follows the head until it is aborted.
pub(crate) async fn run(place: Place, heads: Arc<watch::Sender<u64>>) {
    let mut backoff = FIRST_BACKOFF;
    loop {
        let begun = Instant::now();
        if let Err(error) = follow(&place, &heads).await {
            tracing::warn!(%error, "the log's tail lost its connection");
        }
        if begun.elapsed() > GOOD_CONNECTION {
            backoff = FIRST_BACKOFF;
        }
        sleep(backoff).await;
        backoff = (backoff * 2).min(GREATEST_BACKOFF);
    }
}

async fn follow(place: &Place, heads: &watch::Sender<u64>) -> Result<(), TailError> {
    match &place.tls {
        None => {
            let (client, connection) = place.tail.connect(NoTls).await?;
            attend(&client, connection, heads).await
        }
        Some(tls) => {
            let (client, connection) = place.tail.connect(Verified(Arc::clone(tls))).await?;
            attend(&client, connection, heads).await
        }
    }
}

async fn attend<S, T>(
    client: &Client,
    connection: Connection<S, T>,
    heads: &watch::Sender<u64>,
) -> Result<(), TailError>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
    T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    // One slot: several notifications ask for one look.
    let (wake, woken) = mpsc::channel(1);
    tokio::select! {
        biased;
        ended = drive(connection, &wake, heads) => ended,
        ended = look(client, woken, heads) => ended,
    }
}

async fn drive<S, T>(
    mut connection: Connection<S, T>,
    wake: &mpsc::Sender<()>,
    heads: &watch::Sender<u64>,
) -> Result<(), TailError>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
    T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    while let Some(message) = poll_fn(|cx| connection.poll_message(cx)).await {
        let AsyncMessage::Notification(told) = message? else { continue };
        if !hear(heads, told.payload()) {
            // When the slot is taken, a look is due already.
            let _ = wake.try_send(());
        }
    }
    Err(TailError::Ended)
}

async fn look(
    client: &Client,
    mut woken: mpsc::Receiver<()>,
    heads: &watch::Sender<u64>,
) -> Result<(), TailError> {
    timeout(ANSWER_DEADLINE, client.batch_execute(&format!("LISTEN {CHANNEL}"))).await??;
    let read_head = timeout(ANSWER_DEADLINE, client.prepare(READ_HEAD)).await??;
    loop {
        let before = *heads.borrow();
        let row = timeout(ANSWER_DEADLINE, client.query_one(&read_head, &[])).await??;
        correct(heads, before, row.get::<_, i64>(0).cast_unsigned());
        // Either way it is time to look again.
        let _ = timeout(POLL, woken.recv()).await;
    }
}

/// Publishes what a notification tells, if it can be believed until the next look.
fn hear(heads: &watch::Sender<u64>, told: &str) -> bool {
    let Ok(head) = told.parse::<u64>() else { return false };
    let believed = head.saturating_sub(*heads.borrow()) <= MAX_LEAP;
    if believed {
        publish(heads, head);
    }
    believed
}

/// Publishes the answer of a look. `before` was published when it was asked, so an answer below it
/// says that it was false; what was published since may be beyond the answer in truth.
fn correct(heads: &watch::Sender<u64>, before: u64, head: u64) {
    heads.send_if_modified(|known| {
        let is_false = *known == before && head < before;
        let changes = head > *known || is_false;
        if changes {
            *known = head;
        }
        changes
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_one_batch_can_bring_is_believed_and_no_more() {
        let (heads, known) = watch::channel(10);
        assert!(!hear(&heads, &(10 + MAX_LEAP + 1).to_string()));
        assert!(!hear(&heads, &i64::MAX.to_string()));
        assert!(!hear(&heads, &u64::MAX.to_string()));
        assert!(!hear(&heads, "-1"));
        assert_eq!(*known.borrow(), 10);
        assert!(hear(&heads, &(10 + MAX_LEAP).to_string()));
        assert!(hear(&heads, "9"), "an old one needs no look");
        assert_eq!(*known.borrow(), 10 + MAX_LEAP);
    }

    /// Replicas of two releases hear each other.
    #[test]
    fn what_is_told_keeps_its_spelling() {
        assert_eq!(CHANNEL, "rap_log");
        let (heads, known) = watch::channel(0);
        assert!(hear(&heads, "42"));
        assert_eq!(*known.borrow(), 42);
    }

    #[test]
    fn an_answer_corrects_only_what_was_published_before_the_question() {
        let (heads, known) = watch::channel(20);
        correct(&heads, 20, 12);
        assert_eq!(*known.borrow(), 12, "20 was false");
        publish(&heads, 13);
        correct(&heads, 12, 12);
        assert_eq!(*known.borrow(), 13, "it may have come behind the answer");
        publish(&heads, 20);
        correct(&heads, 13, 12);
        assert_eq!(*known.borrow(), 20, "the next look tells");
        correct(&heads, 13, 21);
        assert_eq!(*known.borrow(), 21);
    }
}
