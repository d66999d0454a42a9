//! Following the log from a position on.
//!
//! A position keeps its event for ever, but for a database that failed over and lost its tail, or
//! that was restored. Whoever folded what was lost and folds on from there serves a state that no log
//! tells of. So each read begins with the event that was folded last, and another one there, or
//! none, ends the following.

use std::time::Duration;

use rap_control_core::{Corrupt, audit::Seen};
use rap_events::{Envelope, Log, entry, log::ReadError};
use rap_proto::Digest;
use tokio::time::timeout;

/// The most events that are read at once behind the one that is known, and that are folded between
/// two publications.
pub(crate) const MAX_BATCH: usize = 512;
/// How often the known event is looked for while nothing new comes.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

pub(crate) struct Follower {
    position: u64,
    /// Of the event there; `None` when it was not read yet.
    leaf: Option<Digest>,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum NotFollowed {
    #[error(transparent)]
    Unread(#[from] ReadError),
    /// For good.
    #[error(transparent)]
    Lost(#[from] Corrupt),
}

impl Follower {
    /// Behind an event, which may be known already.
    pub(crate) const fn behind(Seen { position, leaf }: Seen) -> Self {
        Self { position, leaf }
    }

    /// The next events, at least one and no more than `most` or [`MAX_BATCH`]; waits for them.
    pub(crate) async fn next(
        &mut self,
        log: &dyn Log,
        most: usize,
    ) -> Result<Vec<Envelope>, NotFollowed> {
        let most = most.clamp(1, MAX_BATCH);
        loop {
            let events = self.read(log, most).await?;
            if let Some(last) = events.last() {
                (self.position, self.leaf) = (last.position, Some(entry::leaf(last)));
                return Ok(events);
            }
            if let Ok(waited) = timeout(LOOK_AGAIN, log.wait_beyond(self.position)).await {
                waited?;
            }
        }
    }

    /// What stands behind the known event by now, if that still stands there.
    async fn read(&mut self, log: &dyn Log, most: usize) -> Result<Vec<Envelope>, NotFollowed> {
        let Some(before) = self.position.checked_sub(1) else {
            return Ok(log.read(0, most).await?);
        };
        let mut events = log.read(before, most + 1).await?;
        let known = events.first().map(entry::leaf);
        if known.is_none() || self.leaf.is_some_and(|leaf| known != Some(leaf)) {
            return Err(Corrupt::Replaced { position: self.position }.into());
        }
        self.leaf = known;
        events.remove(0);
        Ok(events)
    }
}

/// The events behind `after`, one at least and no more than `most` or [`MAX_BATCH`], and none beyond
/// `through`: of a log in which both stand. Nothing is waited for: `through` was seen there.
pub(crate) async fn between(
    log: &dyn Log,
    after: Seen,
    through: Seen,
    most: usize,
) -> Result<Vec<Envelope>, NotFollowed> {
    let room = usize::try_from(through.position.saturating_sub(after.position));
    let most = room.unwrap_or(MAX_BATCH).min(most).min(MAX_BATCH);
    if most == 0 {
        return Ok(Vec::new());
    }
    let events = Follower::behind(after).read(log, most).await?;
    // Asked after the events were read: where the later one stands, everything before it does.
    let stands = match events.last() {
        Some(last) if last.position == through.position => Some(entry::leaf(last)),
        _ => leaf_at(log, through.position).await?,
    };
    if events.is_empty() || stands.is_none() || through.leaf.is_some() && stands != through.leaf {
        return Err(Corrupt::Replaced { position: through.position }.into());
    }
    Ok(events)
}

/// What stands at a position, as this release makes a leaf of it: what it is compared with was made alike.
pub(crate) async fn leaf_at(log: &dyn Log, position: u64) -> Result<Option<Digest>, ReadError> {
    let Some(before) = position.checked_sub(1) else { return Ok(None) };
    Ok(log.read(before, 1).await?.first().map(entry::leaf))
}

#[cfg(test)]
pub(crate) mod tests;
