//! Orders that were worked out and still hold, so that most decisions are one look.

use std::collections::BTreeMap;

use rap_proto::{NodeId, OrganizationId};

use super::{ChannelClass, Ranked, RankedChain, relays::Use};

/// The most orders that are kept; one more forgets all of them, as a change does.
pub const MAX_DECISIONS: usize = 1_024;

/// What an order was worked out for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Asked {
    pub target: NodeId,
    pub organization: OrganizationId,
    pub class: ChannelClass,
    pub purpose: Use,
}

/// A cache of orders. It holds what one state of the candidates led to: whoever changes them
/// says [`Decisions::forget`].
#[derive(Debug, Clone, Default)]
pub struct Decisions {
    orders: BTreeMap<Asked, Vec<Ranked>>,
    /// Of questions that have an order.
    chains: BTreeMap<Asked, Vec<RankedChain>>,
}

impl Decisions {
    pub fn get(&self, asked: Asked) -> Option<&[Ranked]> {
        self.orders.get(&asked).map(Vec::as_slice)
    }

    pub fn keep(&mut self, asked: Asked, order: Vec<Ranked>) {
        if self.orders.len() >= MAX_DECISIONS && !self.orders.contains_key(&asked) {
            self.forget();
        }
        self.chains.remove(&asked);
        self.orders.insert(asked, order);
    }

    /// The chains that were kept with an order; none where none were.
    pub fn chains(&self, asked: Asked) -> &[RankedChain] {
        self.chains.get(&asked).map(Vec::as_slice).unwrap_or_default()
    }

    /// Keeps the chains that go with an order, after that one.
    pub fn keep_chains(&mut self, asked: Asked, chains: Vec<RankedChain>) {
        if self.orders.contains_key(&asked) && !chains.is_empty() {
            self.chains.insert(asked, chains);
        }
    }

    /// Something that the orders rest on changed.
    pub fn forget(&mut self) {
        self.orders.clear();
        self.chains.clear();
    }

    pub fn len(&self) -> usize {
        self.orders.len()
    }

    pub fn is_empty(&self) -> bool {
        self.orders.is_empty()
    }
}
