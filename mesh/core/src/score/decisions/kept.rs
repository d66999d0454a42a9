//! What relays are worth to those questions that were asked lately.

use std::collections::BTreeMap;

use rap_proto::Timestamp;

use super::{MAX_SCORES, Scored};
use crate::score::relays::Scores;

/// INVARIANT: of at most [`MAX_SCORES`] questions.
#[derive(Debug, Clone, Default)]
pub(super) struct Kept {
    scores: BTreeMap<Scored, Entry>,
    /// How often anything was asked.
    asked: u64,
    /// No later than the first end of a certificate that scores rest on.
    until: Option<Timestamp>,
}

#[derive(Debug, Clone)]
struct Entry {
    scores: Scores,
    /// The asking that was the last for this.
    last_asked: u64,
}

impl Kept {
    pub(super) fn has(&self, question: &Scored) -> bool {
        self.scores.contains_key(question)
    }

    /// It is asked for.
    pub(super) fn touch(&mut self, question: &Scored) {
        self.asked += 1;
        if let Some(entry) = self.scores.get_mut(question) {
            entry.last_asked = self.asked;
        }
    }

    /// Forgets the question that was asked least lately where this one has no place yet, and says which.
    pub(super) fn make_room(&mut self, question: Scored) -> Option<Scored> {
        if self.has(&question) || self.scores.len() < MAX_SCORES {
            return None;
        }
        let oldest = self.scores.iter().min_by_key(|(_, entry)| entry.last_asked);
        let oldest = oldest.map(|(question, _)| *question)?;
        self.scores.remove(&oldest);
        Some(oldest)
    }

    /// What is kept for a question that is asked, or is from now on. There is room: see
    /// [`Self::make_room`].
    pub(super) fn get(&mut self, question: Scored, score: impl FnOnce() -> Scores) -> &Scores {
        self.asked += 1;
        let Self { scores, asked, until } = self;
        let entry = scores.entry(question).or_insert_with(|| {
            let scores = score();
            *until = (*until).into_iter().chain(scores.until()).min();
            Entry { scores, last_asked: *asked }
        });
        entry.last_asked = *asked;
        &entry.scores
    }

    /// Has all of them changed.
    pub(super) fn rescore(&mut self, mut change: impl FnMut(Scored, &mut Scores)) {
        for (question, entry) in &mut self.scores {
            change(*question, &mut entry.scores);
            self.until = self.until.into_iter().chain(entry.scores.until()).min();
        }
    }

    /// Forgets what rests on a certificate that has ended. Returns whether that was anything.
    pub(super) fn expire(&mut self, now: Timestamp) -> bool {
        if self.until.is_none_or(|until| until >= now) {
            return false;
        }
        let before = self.scores.len();
        self.scores.retain(|_, entry| entry.scores.until().is_none_or(|until| until >= now));
        self.until = self.scores.values().filter_map(|entry| entry.scores.until()).min();
        self.scores.len() < before
    }
}

#[cfg(test)]
impl Kept {
    pub(super) fn len(&self) -> usize {
        self.scores.len()
    }

    pub(super) const fn until(&self) -> Option<Timestamp> {
        self.until
    }
}
