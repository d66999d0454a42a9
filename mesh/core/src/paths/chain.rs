//! Several relays in a row.

use std::fmt;

use rap_proto::{NodeId, wire::hop::MAX_HOPS};

/// What stands in the places that a chain does not use, so that equal chains are equal.
const NOBODY: NodeId = NodeId::from_u128(0);

/// INVARIANT: two to [`MAX_HOPS`] relays, none twice.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Chain {
    relays: [NodeId; MAX_HOPS],
    hops: usize,
}

impl Chain {
    /// `None` for fewer than two relays, for more than [`MAX_HOPS`], and when one is there twice.
    pub fn new(relays: &[NodeId]) -> Option<Self> {
        let twice = |(place, relay): (usize, &NodeId)| relays[..place].contains(relay);
        if !(2..=MAX_HOPS).contains(&relays.len()) || relays.iter().enumerate().any(twice) {
            return None;
        }
        let mut chain = Self { relays: [NOBODY; MAX_HOPS], hops: relays.len() };
        chain.relays[..relays.len()].copy_from_slice(relays);
        Some(chain)
    }

    /// From the one that is asked to the one that leads to the target.
    pub fn relays(&self) -> &[NodeId] {
        &self.relays[..self.hops]
    }

    /// The relay that is asked for the path.
    pub const fn first(&self) -> NodeId {
        self.relays[0]
    }

    /// The relays behind the first.
    pub fn onward(&self) -> &[NodeId] {
        &self.relays[1..self.hops]
    }
}

impl fmt::Display for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, relay) in self.relays().iter().enumerate() {
            let before = if place == 0 { "" } else { ", " };
            write!(f, "{before}{relay}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{self}]")
    }
}
