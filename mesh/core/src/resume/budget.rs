//! What the flows without a connection may take of one node.

use super::{MAX_DETACHED_BYTES, MAX_DETACHED_FLOWS};

/// The flows that are kept without a connection, and the bytes in them.
#[derive(Debug, Clone)]
pub struct Budget {
    flows: usize,
    bytes: usize,
    most_flows: usize,
    most_bytes: usize,
}

impl Default for Budget {
    fn default() -> Self {
        Self::new(MAX_DETACHED_FLOWS, MAX_DETACHED_BYTES)
    }
}

impl Budget {
    pub const fn new(most_flows: usize, most_bytes: usize) -> Self {
        Self { flows: 0, bytes: 0, most_flows, most_bytes }
    }

    /// Takes the place of one flow with so many bytes. False when there is none: the flow ends.
    pub fn take(&mut self, bytes: usize) -> bool {
        let fits = self.flows < self.most_flows && bytes <= self.most_bytes - self.bytes;
        if fits {
            self.flows += 1;
            self.bytes += bytes;
        }
        fits
    }

    /// Gives it back.
    pub fn give(&mut self, bytes: usize) {
        self.flows = self.flows.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(bytes);
    }

    pub const fn flows(&self) -> usize {
        self.flows
    }
}
