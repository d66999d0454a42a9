//! What a state was folded from: kept beside it, as the log may have lost that since.

use rap_events::{Envelope, entry};
use rap_proto::Digest;
use rap_tlog::Frontier;

#[derive(Debug, Clone, Default)]
pub(crate) struct Source {
    /// The tree of the events.
    frontier: Frontier,
    /// Of the last event.
    leaf: Option<Digest>,
}

impl Source {
    pub(crate) const fn new(frontier: Frontier, leaf: Option<Digest>) -> Self {
        Self { frontier, leaf }
    }

    pub(crate) fn take(&mut self, envelope: &Envelope) {
        let leaf = entry::leaf(envelope);
        self.frontier.push(leaf);
        self.leaf = Some(leaf);
    }

    pub(crate) const fn frontier(&self) -> &Frontier {
        &self.frontier
    }

    pub(crate) const fn leaf(&self) -> Option<Digest> {
        self.leaf
    }
}
