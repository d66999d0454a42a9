//! What was said last, and what was said before, which holds for a little longer.

use std::time::Duration;

use rap_proto::Moment;

use super::{Checkers, PEER_BOUND, UNAUTHORISED};
use crate::fleet::scope::Scope;

/// How soon after other rules were said nobody does any more what they forbid: until then everybody is
/// told.
pub const OBEYED_WITHIN: Duration = Duration::from_secs(6);

#[derive(Debug, Clone, Copy)]
pub(super) struct Said<T> {
    last: T,
    before: T,
    at: Moment,
}

impl<T: Copy> Said<T> {
    pub(super) fn new(first: T) -> Self {
        Self { last: first, before: first, at: Moment::default() }
    }

    pub(super) fn say(&mut self, now: Moment, next: T) {
        *self = Self { last: next, before: self.last, at: now };
    }

    fn lately(&self, now: Moment) -> impl Iterator<Item = T> + use<T> {
        let before = (now.since(self.at) < OBEYED_WITHIN).then_some(self.before);
        [self.last].into_iter().chain(before)
    }
}

impl Said<usize> {
    pub(super) fn most(&self, now: Moment) -> usize {
        self.lately(now).fold(0, usize::max)
    }
}

impl Said<Scope> {
    pub(super) fn covers(&self, now: Moment, organization: usize) -> bool {
        self.lately(now).any(|scope| scope.covers(organization))
    }
}

impl Checkers {
    /// The most connections of each node are these from now on.
    pub fn ruled(&mut self, now: Moment, most: &[usize]) {
        let books = self.books.iter_mut().zip(most);
        books.for_each(|(book, most)| book.bound.say(now, *most));
    }

    /// A relay is one for these from now on.
    pub fn reassigned(&mut self, now: Moment, relay: usize, scope: Scope) {
        if let Some(said) = self.relays.get_mut(&relay) {
            said.say(now, scope);
        }
    }

    /// The node leads an organization over these for as long as it does not let go of them.
    pub fn goes_on_over(&mut self, node: usize, organization: usize, relays: Vec<usize>) {
        self.led.insert((node, organization), relays);
    }

    pub fn let_go(&mut self, node: usize, organization: usize) {
        self.led.remove(&(node, organization));
    }

    /// Nobody does what was forbidden so long ago that everybody was told.
    pub fn obeyed(&mut self, now: Moment) {
        for (node, book) in self.books.iter().enumerate() {
            let (open, most) = (book.open.len(), book.bound.most(now));
            if open > most {
                let detail = format!("node {node} still has {open} connections of {most}");
                self.verdict.violated(PEER_BOUND, detail);
            }
        }
        for ((node, organization), relays) in &self.led {
            if !relays.iter().all(|relay| self.relays_for(now, *relay, *organization)) {
                let detail = format!("node {node} still leads {organization} over {relays:?}");
                self.verdict.violated(UNAUTHORISED, detail);
            }
        }
    }
}
