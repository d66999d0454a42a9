//! A batch that is decided by what is remembered, without asking first. Pure.
//!
//! The head that was left by the last append says all that the next one needs, as long as nobody
//! else appends: its frontier stands for every event before it. The streams are taken to be where
//! the appends expect them. Both are conditions of the statement that stores the batch, so a memory
//! that is out of date, planted or from another database stores nothing.

use std::collections::BTreeMap;

use rap_events::log::{Append, AppendError, Appended, StreamId};

use crate::{
    batch::{Batch, Found},
    head::Head,
};

pub(crate) struct AtOnce {
    pub(crate) batch: Batch,
    /// The head that it goes on from.
    pub(crate) known: Head,
    /// Where each stream that the appends name has to be.
    pub(crate) expected: BTreeMap<StreamId, u64>,
    /// What became of each append, if the batch is stored.
    pub(crate) outcomes: Vec<Result<Appended, AppendError>>,
}

impl AtOnce {
    /// `None` when the appends have to be decided under the head's lock: they hang on keys or
    /// leases, they bring no event that moves the head, or one of them is refused.
    pub(crate) fn decide(known: &Head, appends: &[&Append]) -> Option<Self> {
        if !appends.iter().all(|append| hangs_on_streams_alone(append)) {
            return None;
        }
        let mut expected = BTreeMap::new();
        for write in appends.iter().flat_map(|append| &append.writes) {
            // Those behind the first one expect what the ones before them leave.
            expected.entry(write.stream.clone()).or_insert(write.expected);
        }
        let found = Found { head: known.clone(), streams: expected.clone(), ..Found::default() };
        let mut batch = Batch::new(found);
        let outcomes: Vec<_> = appends.iter().map(|append| batch.admit(append)).collect();
        let stores = outcomes.iter().all(Result::is_ok) && !batch.events.is_empty();
        stores.then(|| Self { batch, known: known.clone(), expected, outcomes })
    }

    /// Whether each stream that the appends name begins with them, so that its key says where it is.
    pub(crate) fn only_begins_streams(&self) -> bool {
        let begins = |(stream, expected): (&StreamId, &u64)| {
            *expected == 0 && self.batch.streams.contains_key(stream)
        };
        self.expected.iter().all(begins)
    }

    /// The outcomes of a batch that was tried again because nobody knew whether it was stored. A
    /// command that was found just where this batch put it was stored by this batch.
    pub(crate) fn recognise(
        &self,
        again: Vec<Result<Appended, AppendError>>,
    ) -> Vec<Result<Appended, AppendError>> {
        let places = |appended: &Appended| (appended.first, appended.last);
        let known =
            again.into_iter().zip(&self.outcomes).map(|(found, decided)| match (&found, decided) {
                (Ok(found), Ok(decided)) if places(found) == places(decided) => Ok(decided.clone()),
                _ => found,
            });
        known.collect()
    }
}

/// Keys and leases change without the head, and a lease is held by the database's clock.
fn hangs_on_streams_alone(append: &Append) -> bool {
    let Append { claim, release, leases, guards, subjects, .. } = append;
    claim.is_empty()
        && release.is_empty()
        && leases.is_empty()
        && guards.is_empty()
        && subjects.is_empty()
}

#[cfg(test)]
mod tests;
