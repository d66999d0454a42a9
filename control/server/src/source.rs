//! What a state was folded from: kept beside it, as the log may have lost that since.

use std::collections::VecDeque;

use rap_control_core::audit::Seen;
use rap_events::{Envelope, entry};
use rap_proto::Digest;
use rap_tlog::Frontier;

use crate::follow::MAX_BATCH;

/// How many events are remembered that are a batch apart: twice what the window of the event streams holds.
const MAX_STEPS: usize = 32;

#[derive(Debug, Clone, Default)]
pub(crate) struct Source {
    /// The tree of the events.
    frontier: Frontier,
    /// Of the last event.
    leaf: Option<Digest>,
    /// The newest of those that are a batch apart: whoever reads the log behind the fold goes from one
    /// to the next, and sees by each that what it read was folded.
    steps: VecDeque<Seen>,
}

impl Source {
    pub(crate) const fn new(frontier: Frontier, leaf: Option<Digest>) -> Self {
        Self { frontier, leaf, steps: VecDeque::new() }
    }

    pub(crate) fn take(&mut self, envelope: &Envelope) {
        let leaf = entry::leaf(envelope);
        self.frontier.push(leaf);
        self.leaf = Some(leaf);
        if self.frontier.size().is_multiple_of(MAX_BATCH as u64) {
            self.steps.push_back(self.seen());
            if self.steps.len() > MAX_STEPS {
                self.steps.pop_front();
            }
        }
    }

    pub(crate) const fn frontier(&self) -> &Frontier {
        &self.frontier
    }

    pub(crate) const fn leaf(&self) -> Option<Digest> {
        self.leaf
    }

    /// The last event.
    pub(crate) fn seen(&self) -> Seen {
        Seen { position: self.frontier.size(), leaf: self.leaf }
    }

    /// An event to which one batch reaches from behind `after`, or the last one.
    pub(crate) fn next_step(&self, after: u64) -> Seen {
        let reached = after.saturating_add(MAX_BATCH as u64);
        if reached >= self.seen().position {
            return self.seen();
        }
        let is_reached = |step: &&Seen| after < step.position && step.position <= reached;
        self.steps.iter().find(is_reached).copied().unwrap_or_else(|| self.seen())
    }
}

#[cfg(test)]
mod tests;
