//! The reader: reads pages of the log on a connection that it keeps.
//!
//! Whoever follows the log reads a page behind each append, beside the next one. The pool asks each
//! connection whether it lives before it gives it away and when it comes back, and the server plans
//! a page anew each time, for it takes the end of the log for a few rows and a plan that is kept for
//! many. Here a page is one trip, and it is planned once.
//!
//! There is one such connection. A page that is read while it is in use, or that it could not read,
//! is read over the pool: to read once more changes nothing.

use std::fmt;

use rap_events::log::{Envelope, ReadError};
use sqlx::PgPool;
use tokio::{sync::Mutex, time::timeout};

use crate::{
    connect::ACQUIRE_TIMEOUT,
    pipeline::Pipeline,
    read::{self, ANSWER_DEADLINE, no_answer},
    tls::Place,
};

pub(crate) struct Reader {
    pool: PgPool,
    place: Place,
    /// Empty while it is not connected.
    kept: Mutex<Option<Pipeline>>,
}

impl Reader {
    /// Connects when there is something to read.
    pub(crate) fn new(pool: PgPool, place: Place) -> Self {
        Self { pool, place, kept: Mutex::new(None) }
    }

    pub(crate) async fn page(&self, after: u64, limit: usize) -> Result<Vec<Envelope>, ReadError> {
        let page = async {
            match self.page_on_kept(after, limit).await {
                Some(page) => page,
                None => read::page(&self.pool, after, limit).await,
            }
        };
        timeout(ANSWER_DEADLINE, page).await.unwrap_or_else(|_| Err(no_answer()))
    }

    /// `None` when the pool has to be asked.
    async fn page_on_kept(
        &self,
        after: u64,
        limit: usize,
    ) -> Option<Result<Vec<Envelope>, ReadError>> {
        let mut kept = self.kept.try_lock().ok()?;
        let mut pipeline = self.living(kept.take()).await?;
        let page = read::page_on(&mut pipeline, after, limit).await.ok()?;
        *kept = Some(pipeline);
        Some(page)
    }

    async fn living(&self, kept: Option<Pipeline>) -> Option<Pipeline> {
        if let Some(mut pipeline) = kept
            && pipeline.is_alive().await
        {
            return Some(pipeline);
        }
        if self.pool.is_closed() {
            return None;
        }
        let connecting = Pipeline::connect(&self.place.reader, &self.place);
        timeout(ACQUIRE_TIMEOUT, connecting).await.ok()?.ok()
    }

    /// Ends the connection, when a page that is being read on it is there.
    pub(crate) async fn close(&self) {
        if let Some(pipeline) = self.kept.lock().await.take() {
            pipeline.close().await;
        }
    }
}

impl fmt::Debug for Reader {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Reader").finish_non_exhaustive()
    }
}
