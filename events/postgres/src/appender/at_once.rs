//! One trip for a batch, while nobody else appends.
//!
//! The statement says itself whether the head was the one that is remembered. When no answer comes,
//! asking is not enough: the server may still have the statement before it, and do it after it was
//! asked. So the batch is stored again, under the head's lock: either its commands are found, or it
//! is stored now, and a statement that comes late finds another head. A try that fails says nothing
//! about the one before it, so it is made again until there is an answer or the time is over.

use rap_events::log::{Append, AppendError};
use tokio::time::{Instant, sleep};

use super::{Appender, AtOnceEnd, SETTLE_DEADLINE, SETTLE_DELAY, trips, within};
use crate::{
    at_once::AtOnce,
    failure::{self, DatabaseError as _, Failure},
    statements,
};

impl Appender {
    /// `Err` when what became of the batch had to be found out, and it was not stored.
    pub(super) async fn store_at_once(
        &mut self,
        appends: &[&Append],
    ) -> Result<AtOnceEnd, Failure> {
        let Some(decided) = self.decide_at_once(appends) else { return Ok(AtOnceEnd::NotStored) };
        let Some(mut writer) = self.living_writer().await else { return Ok(AtOnceEnd::NotStored) };
        // Whatever fails, the next batch starts on a connection without a past.
        self.known = None;
        match within(statements::at_once::write(&mut writer, &decided)).await {
            Some(Ok(true)) => {
                let head = decided.batch.head().clone();
                self.left(head);
                self.writer = Some(writer);
                trips::count(&self.trips, |trips| &mut trips.at_once);
                Ok(AtOnceEnd::Stored(decided.outcomes))
            }
            Some(Ok(false)) => {
                self.writer = Some(writer);
                trips::count(&self.trips, |trips| &mut trips.missed);
                Ok(AtOnceEnd::NotStored)
            }
            Some(Err(failed)) if failure::certainly_aborted(&failed.error, failed.at_last) => {
                trips::count(&self.trips, |trips| &mut trips.missed);
                Ok(AtOnceEnd::Contended)
            }
            Some(Err(failed)) => {
                let answered = failed.error.is_answer();
                self.settle_at_once(appends, decided, answered).await
            }
            None => self.settle_at_once(appends, decided, false).await,
        }
    }

    fn decide_at_once(&self, appends: &[&Append]) -> Option<AtOnce> {
        let known = self.known.as_ref()?;
        // The tail may have heard of another appender: it would be a trip for nothing.
        let current = *self.heads.borrow() <= known.position;
        current.then(|| AtOnce::decide(known, appends)).flatten()
    }

    /// One that died since the last batch is better left before something depends on it.
    async fn living_writer(&mut self) -> Option<crate::pipeline::Pipeline> {
        let mut writer = self.writer.take()?;
        writer.is_alive().await.then_some(writer)
    }

    /// Stores a batch of which nobody knows whether it is stored. `answered`: the server told of
    /// its end, so it is not still to come.
    async fn settle_at_once(
        &mut self,
        appends: &[&Append],
        decided: AtOnce,
        answered: bool,
    ) -> Result<AtOnceEnd, Failure> {
        tracing::warn!(appends = appends.len(), "no answer to an append; storing it again");
        let deadline = Instant::now() + SETTLE_DEADLINE;
        loop {
            let failure = match self.store_locked(appends, 1).await {
                Ok(again) => return Ok(AtOnceEnd::Stored(decided.recognise(again))),
                Err(failure) => failure,
            };
            if answered {
                return Err(failure);
            }
            // What is refused now may have been stored before.
            if matches!(failure, Failure::Refused(_)) || Instant::now() >= deadline {
                let unknown = vec![Err(AppendError::OutcomeUnknown); appends.len()];
                return Ok(AtOnceEnd::Stored(unknown));
            }
            tracing::warn!(?failure, "no answer yet");
            sleep(SETTLE_DELAY).await;
        }
    }
}
