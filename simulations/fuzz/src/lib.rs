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
}

/// The largest input that a target is given; the largest frame and record fit.
pub const MAX_INPUT_BYTES: usize = 72 * 1024;

/// Every target, in the order in which they are run.
pub const TARGETS: &[Target] = &[
    Target { name: "codec", run: targets::codec::target },
    Target { name: "signed", run: targets::signed::target },
    Target { name: "access_claims", run: targets::access_claims::target },
    Target { name: "snapshot", run: targets::snapshot::target },
    Target { name: "bus", run: targets::bus::target },
    Target { name: "client_wire", run: targets::client_wire::target },
    Target { name: "node_wire", run: targets::node_wire::target },
    Target { name: "node_api", run: targets::node_api::target },
    Target { name: "api", run: targets::api::target },
    Target { name: "events", run: targets::events::target },
    Target { name: "history", run: targets::history::target },
    Target { name: "adapter", run: targets::adapter::target },
    Target { name: "agent_disk", run: targets::agent_disk::target },
    Target { name: "certificates", run: targets::certificates::target },
    Target { name: "text", run: targets::text::target },
];

pub fn find(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}

/// The most bytes that a target may allocate, all allocations of one run added up, freed ones
/// included. A length that an input only claims must not count.
pub fn allocation_bound(input: usize) -> usize {
    8 * 1024 * 1024 + 4_096 * input
}
