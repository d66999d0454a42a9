//! What the flows without a connection may take of one node.

use rap_proto::OrganizationId;

use super::{MAX_DETACHED_BYTES, MAX_DETACHED_FLOWS, Shares};

/// The flows that are kept without a connection, and the bytes in them. Organizations share both.
#[derive(Debug, Clone)]
pub struct Budget {
    flows: Shares,
    bytes: Shares,
}

impl Default for Budget {
    fn default() -> Self {
        Self::new(MAX_DETACHED_FLOWS, MAX_DETACHED_BYTES)
    }
}

impl Budget {
    pub const fn new(most_flows: usize, most_bytes: usize) -> Self {
        Self { flows: Shares::new(most_flows), bytes: Shares::new(most_bytes) }
    }

    /// Takes the place of one flow with so many bytes. False when its organization may not have it: the
    /// flow ends.
    pub fn take(&mut self, organization: OrganizationId, bytes: usize) -> bool {
        self.bytes.fits(organization, bytes)
            && self.flows.take(organization, 1)
            && self.bytes.take(organization, bytes)
    }

    /// Gives it back.
    pub fn give(&mut self, organization: OrganizationId, bytes: usize) {
        self.flows.give(organization, 1);
        self.bytes.give(organization, bytes);
    }

    pub const fn flows(&self) -> usize {
        self.flows.taken()
    }
}
