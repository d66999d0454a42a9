//! The tail: learns how far the log has come, also through other processes' appends.
//!
//! A notification says how far, and is given to nobody before what it tells of can be read. It can
//! be lost: every second the tail looks for itself. It has its own connection, and when that ends
//! it makes another.

use std::{future::poll_fn, sync::Arc, time::Duration};

use tokio::{
    sync::{mpsc, watch},
    time::{Instant, sleep, timeout},
};
use tokio_postgres::{AsyncMessage, Client, Connection, NoTls};

use crate::{
    publish,
    statements::CHANNEL,
    tls::{Place, Verified},
};

const POLL: Duration = Duration::from_secs(1);
const ANSWER_DEADLINE: Duration = Duration::from_secs(10);
const FIRST_BACKOFF: Duration = Duration::from_millis(100);
const GREATEST_BACKOFF: Duration = Duration::from_secs(2);
/// A connection that lasted this long was a good one: the next failure starts over.
const GOOD_CONNECTION: Duration = Duration::from_secs(10);

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
        match told.payload().parse() {
            Ok(head) => publish(heads, head),
            // When the slot is taken, a look is due already.
            Err(_) => drop(wake.try_send(())),
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
        let row = timeout(ANSWER_DEADLINE, client.query_one(&read_head, &[])).await??;
        publish(heads, row.get::<_, i64>(0).cast_unsigned());
        // Either way it is time to look again.
        let _ = timeout(POLL, woken.recv()).await;
    }
}
