//! A log in memory that says what is read from it.

use futures_util::future::BoxFuture;
use rap_events::{
    Envelope, Log as _, MemoryLog,
    log::ReadError,
    tapped::{Tap, TappedLog},
};

/// Sees each read by position: behind which one, and what came of it.
type Seen = dyn Fn(u64, &[Envelope]) + Send + Sync;

pub(crate) struct Look(Box<Seen>);

/// A log in memory, and somebody who looks at what is read from it.
pub(crate) fn watched(look: impl Fn(u64, &[Envelope]) + Send + Sync + 'static) -> TappedLog<Look> {
    let log = MemoryLog::with_clock(rap_control::now);
    TappedLog { log, tap: Look(Box::new(look)) }
}

impl Tap for Look {
    fn read<'a>(
        &'a self,
        log: &'a MemoryLog,
        after: u64,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<Envelope>, ReadError>> {
        Box::pin(async move {
            let events = log.read(after, limit).await?;
            (self.0)(after, &events);
            Ok(events)
        })
    }
}
