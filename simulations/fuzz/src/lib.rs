//! Fuzz targets for every decoder that reads from network or disk.
//!
//! A target takes any bytes and panics when a property fails: not only must nothing crash, but
//! whatever decodes is equal to itself after another trip, nothing verifies that was not signed,
//! and no input makes the reader allocate out of proportion. The targets are plain functions,
//! so that the tests run them over the seeds without a fuzzer; `README.md` says how libFuzzer
//! drives them.

pub mod targets;

mod round_trip;

#[cfg(test)]
mod tests;

/// One decoder or a family of them.
pub struct Target {
    pub name: &'static str,
    pub run: fn(&[u8]),
    /// What it may allocate whatever the size of its input; see [`Target::allocation_bound`].
    base_bytes: usize,
}

impl Target {
    const fn new(name: &'static str, run: fn(&[u8])) -> Self {
        Self { name, run, base_bytes: 8 * 1024 * 1024 }
    }

    /// The most bytes that one run may allocate, all allocations added up, freed ones included.
    /// A length that an input only claims must not count.
    pub fn allocation_bound(&self, input: usize) -> usize {
        self.base_bytes + 4_096 * input
    }
}

/// The largest input that a target is given; the largest frame and record fit.
pub const MAX_INPUT_BYTES: usize = 72 * 1024;

/// Every target, in the order in which they are run.
pub const TARGETS: &[Target] = &[
    Target {
        // At each of the 32 levels that the codec follows, a list reserves up to 1 MiB for the
        // length that it claims, and the target decodes a few times.
        base_bytes: 256 * 1024 * 1024,
        ..Target::new("codec", targets::codec::target)
    },
    Target::new("signed", targets::signed::target),
    Target::new("access_claims", targets::access_claims::target),
    Target::new("snapshot", targets::snapshot::target),
    Target::new("bus", targets::bus::target),
    Target::new("client_wire", targets::client_wire::target),
    Target::new("node_wire", targets::node_wire::target),
    Target::new("carrier", targets::carrier::target),
    Target::new("messages", targets::messages::target),
    Target::new("node_api", targets::node_api::target),
    Target::new("api", targets::api::target),
    Target::new("events", targets::events::target),
    Target::new("history", targets::history::target),
    Target::new("adapter", targets::adapter::target),
    Target::new("agent_disk", targets::agent_disk::target),
    Target::new("certificates", targets::certificates::target),
    Target::new("text", targets::text::target),
    Target::new("tree", targets::tree::target),
    Target::new("peer_cache", targets::peer_cache::target),
];

pub fn find(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}
