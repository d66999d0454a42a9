//! The newest events, ready to be sent, for all who follow the log.
//!
//! ```text
//! EventWindow::new(seen)   push(Shown)   take(audience, after, most) -> Taken
//! ```
//!
//! An event is rendered once for the platform's auditors and once for its organization's, and kept
//! until [`MAX_WINDOW_EVENTS`] or [`MAX_WINDOW_BYTES`] newer ones push it out. Who follows one
//! organization that is [watched](EventWindow::watch) is behind only when an event *of that
//! organization* was pushed out: the others' events cost it nothing, however many they are.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};

use rap_proto::{Digest, OrganizationId};

use super::Audience;

/// The most events in a window.
pub const MAX_WINDOW_EVENTS: usize = 8_192;
/// The most bytes of rendered events in a window, both renderings counted. One event above it is
/// kept alone.
pub const MAX_WINDOW_BYTES: usize = 16 * 1024 * 1024;

/// How far somebody is in a log, and in which one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Seen {
    pub position: u64,
    /// Of the event there. `None` before the first one, and where it is not known.
    pub leaf: Option<Digest>,
}

impl Seen {
    /// Whether another event than this one stands at its position.
    fn is_other_than(self, leaf: Option<Digest>) -> bool {
        self.leaf.zip(leaf).is_some_and(|(seen, stands)| seen != stands)
    }
}

/// An event as its audiences see it. `T` is whatever it is rendered into.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown<T> {
    pub position: u64,
    /// What the log's tree commits to at this position.
    pub leaf: Digest,
    pub organization: Option<OrganizationId>,
    /// For the platform's auditors.
    pub to_platform: T,
    /// For the auditors of its organization, if it has one.
    pub to_organization: Option<T>,
    /// Of both renderings.
    pub bytes: usize,
}

/// What a window has for somebody.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Taken<T> {
    /// Events in order, each with its position, and how far the log was looked at.
    Events { events: Vec<(Seen, T)>, through: Seen },
    /// Events that the window does not hold any more may be missing: read the log.
    Behind,
    /// This window is of another log than what was seen.
    Replaced,
}

/// The newest events of the log, without gaps.
#[derive(Debug)]
pub struct EventWindow<T> {
    /// The last position that is not in the window, and before all that are.
    floor: Seen,
    events: VecDeque<Shown<T>>,
    bytes: usize,
    /// The positions of each organization's events, and of those of none.
    positions: BTreeMap<Option<OrganizationId>, VecDeque<u64>>,
    watched: BTreeMap<Option<OrganizationId>, Watched>,
}

#[derive(Debug)]
struct Watched {
    followers: usize,
    /// The last position at which one of its events may have been pushed out.
    floor: u64,
}

impl<T: Clone> EventWindow<T> {
    /// An empty window behind what was seen.
    pub fn new(seen: Seen) -> Self {
        Self {
            floor: seen,
            events: VecDeque::new(),
            bytes: 0,
            positions: BTreeMap::new(),
            watched: BTreeMap::new(),
        }
    }

    /// The newest event.
    pub fn end(&self) -> Seen {
        self.events.back().map_or(self.floor, Shown::seen)
    }

    /// What the log's tree commits to at a position, if the window knows.
    pub fn leaf_at(&self, position: u64) -> Option<Digest> {
        if position == self.floor.position {
            return self.floor.leaf;
        }
        self.at(position).map(|shown| shown.leaf)
    }

    /// How many events are held, and their bytes.
    pub fn size(&self) -> (usize, usize) {
        (self.events.len(), self.bytes)
    }

    /// Takes in the next event of the log.
    ///
    /// # Panics
    /// When a position was left out: what is sent from here would have a hole.
    pub fn push(&mut self, shown: Shown<T>) {
        assert_eq!(shown.position, self.end().position + 1, "the window has no gaps");
        self.bytes += shown.bytes;
        self.positions.entry(shown.organization).or_default().push_back(shown.position);
        self.events.push_back(shown);
        while self.events.len() > MAX_WINDOW_EVENTS
            || (self.bytes > MAX_WINDOW_BYTES && self.events.len() > 1)
        {
            self.push_out();
        }
    }

    /// Forgets all events: the window is empty behind what was seen again.
    pub fn skip_to(&mut self, seen: Seen) {
        self.events.clear();
        self.positions.clear();
        self.bytes = 0;
        self.floor = seen;
        for watched in self.watched.values_mut() {
            watched.floor = seen.position;
        }
    }

    /// From now on what is pushed out of an audience's events is told apart from all else.
    pub fn watch(&mut self, audience: Audience) {
        let floor = self.floor.position;
        if let Some(key) = key(audience) {
            let watched = self.watched.entry(key).or_insert(Watched { followers: 0, floor });
            watched.followers += 1;
        }
    }

    /// Ends one [`EventWindow::watch`].
    pub fn unwatch(&mut self, audience: Audience) {
        let Some(key) = key(audience) else { return };
        if let Some(watched) = self.watched.get_mut(&key) {
            watched.followers = watched.followers.saturating_sub(1);
            if watched.followers == 0 {
                self.watched.remove(&key);
            }
        }
    }

    /// The audience's events behind `after`: as many as `most` bytes hold, and one at least.
    pub fn take(&self, audience: Audience, after: Seen, most: usize) -> Taken<T> {
        if after.is_other_than(self.leaf_at(after.position)) {
            return Taken::Replaced;
        }
        let key = key(audience);
        let begin = self.floor.position;
        let floor = match key.and_then(|key| self.watched.get(&key)) {
            Some(watched) => watched.floor,
            None => begin,
        };
        if after.position < floor {
            return Taken::Behind;
        }
        match key {
            None => {
                let next = (after.position.max(begin) + 1)..=self.end().position;
                self.collect(audience, after, most, next)
            }
            Some(key) => {
                let own = self.positions.get(&key);
                let is_seen = |position: &u64| *position <= after.position;
                let start = own.map_or(0, |own| own.partition_point(is_seen));
                let next = own.into_iter().flat_map(|own| own.range(start..)).copied();
                self.collect(audience, after, most, next)
            }
        }
    }

    fn collect(
        &self,
        audience: Audience,
        after: Seen,
        most: usize,
        positions: impl Iterator<Item = u64>,
    ) -> Taken<T> {
        let (mut events, mut bytes) = (Vec::new(), 0);
        for position in positions {
            let Some(shown) = self.at(position) else { return Taken::Behind };
            let rendered = match audience {
                Audience::Platform { .. } => Some(&shown.to_platform),
                Audience::Organization(_) => shown.to_organization.as_ref(),
            };
            if !events.is_empty() && bytes + shown.bytes > most {
                let through = events.last().map_or(after, |(seen, _)| *seen);
                return Taken::Events { events, through };
            }
            bytes += shown.bytes;
            events.extend(rendered.map(|rendered| (shown.seen(), rendered.clone())));
        }
        let end = self.end();
        let is_told =
            after.position < end.position || after.position == end.position && after.leaf.is_none();
        Taken::Events { events, through: if is_told { end } else { after } }
    }

    fn at(&self, position: u64) -> Option<&Shown<T>> {
        let index = position.checked_sub(self.floor.position + 1)?;
        self.events.get(usize::try_from(index).ok()?)
    }

    fn push_out(&mut self) {
        let Some(oldest) = self.events.pop_front() else { return };
        self.bytes -= oldest.bytes;
        self.floor = oldest.seen();
        let key = oldest.organization;
        if let Some(positions) = self.positions.get_mut(&key) {
            positions.pop_front();
            if positions.is_empty() {
                self.positions.remove(&key);
            }
        }
        if let Some(watched) = self.watched.get_mut(&key) {
            watched.floor = oldest.position;
        }
    }
}

impl<T> Shown<T> {
    fn seen(&self) -> Seen {
        Seen { position: self.position, leaf: Some(self.leaf) }
    }
}

/// Whose events an audience sees; `None` for everybody's.
fn key(audience: Audience) -> Option<Option<OrganizationId>> {
    match audience {
        Audience::Platform { everything: true } => None,
        Audience::Platform { everything: false } => Some(None),
        Audience::Organization(id) => Some(Some(id)),
    }
}
