//! The teller: tells the tails of other processes how far the log has come.
//!
//! It does so behind the commit, on a connection of its own, so no append waits for it and none
//! fails with it. At most one notification is under way; what is stored meanwhile becomes the next
//! one, whose number is the newest. One that is lost costs others a second at most, until they look
//! for themselves. Only what this process stored is told, and never what it heard.

use std::time::Duration;

use tokio::{
    sync::watch,
    task::{JoinHandle, yield_now},
    time::{error::Elapsed, sleep, timeout},
};

use crate::{
    connect::ACQUIRE_TIMEOUT,
    pipeline::{Pipeline, TripError},
    statements,
    tail::{FIRST_BACKOFF, GREATEST_BACKOFF},
    tls::Place,
};

/// How long a notification may take. Longer than the session's limits: the server gives up first,
/// and no session of a connection that was given up is left in it.
const TELL_DEADLINE: Duration = Duration::from_secs(15);
/// The pause behind a notification, while appends follow each other: those who hear of them look a
/// hundred times a second, and the server is not asked for more.
const REST: Duration = Duration::from_millis(10);
/// How long the last notification of a log that is closed is waited for: by then the others have
/// looked for themselves.
const LAST_DEADLINE: Duration = Duration::from_secs(1);

#[derive(Debug, thiserror::Error)]
enum TellError {
    #[error("{0}")]
    Database(#[from] tokio_postgres::Error),
    #[error("no answer in time")]
    NoAnswer(#[from] Elapsed),
}

impl From<TripError> for TellError {
    fn from(failed: TripError) -> Self {
        failed.error.into()
    }
}

/// Ends when it is dropped, and what was to tell is told.
pub(crate) struct Teller {
    newest: watch::Sender<u64>,
    running: JoinHandle<()>,
}

impl Teller {
    /// Connects when there is something to tell.
    pub(crate) fn start(place: Place) -> Self {
        let (newest, stored) = watch::channel(0);
        Self { newest, running: tokio::spawn(run(place, stored)) }
    }

    /// Tells that this process has stored what is at `position`. Waits for nothing.
    pub(crate) fn tell(&self, position: u64) {
        self.newest.send_replace(position);
    }

    /// Waits until all is told, or nobody needs it any more.
    pub(crate) async fn end(self) {
        let Self { newest, running } = self;
        drop(newest);
        // A panic of its task is not this one's.
        let _ = timeout(LAST_DEADLINE, running).await;
    }
}

async fn run(place: Place, mut stored: watch::Receiver<u64>) {
    let mut kept = None;
    // It fails when nobody stores any more and the last position was told.
    while stored.changed().await.is_ok() {
        // The writers that were just answered, and what they append next, go first.
        yield_now().await;
        let mut backoff = FIRST_BACKOFF;
        while let Err(error) = tell_newest(&place, &mut kept, &mut stored).await {
            tracing::warn!(%error, "the other processes are not told of an append");
            if stored.has_changed().is_err() {
                return;
            }
            sleep(backoff).await;
            backoff = (backoff * 2).min(GREATEST_BACKOFF);
        }
        sleep(REST).await;
    }
    if let Some(pipeline) = kept {
        Pipeline::close(pipeline).await;
    }
}

/// Leaves the connection in `kept` if it can be used again.
async fn tell_newest(
    place: &Place,
    kept: &mut Option<Pipeline>,
    stored: &mut watch::Receiver<u64>,
) -> Result<(), TellError> {
    if let Some(pipeline) = kept.take() {
        *kept = tell_on(pipeline, stored).await.ok();
        // It may have died since the last one: a fresh one tells.
        if kept.is_some() {
            return Ok(());
        }
    }
    let fresh = timeout(ACQUIRE_TIMEOUT, Pipeline::connect(&place.teller, place)).await??;
    *kept = Some(tell_on(fresh, stored).await?);
    Ok(())
}

async fn tell_on(
    mut pipeline: Pipeline,
    stored: &mut watch::Receiver<u64>,
) -> Result<Pipeline, TellError> {
    let newest = *stored.borrow_and_update();
    timeout(TELL_DEADLINE, statements::tell(&mut pipeline, newest)).await??;
    Ok(pipeline)
}
