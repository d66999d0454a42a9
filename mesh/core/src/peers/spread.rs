//! Spread in time from bits that the shell draws.

use std::time::Duration;

use rap_proto::NodeId;

/// Numbers that follow from a seed (SplitMix64); for spreading load, never for secrets.
#[derive(Debug, Clone)]
pub(crate) struct Spread(u64);

impl Spread {
    pub(crate) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A duration between `base - base·percent/100` and `base + base·percent/100`.
    pub(crate) fn around(&mut self, base: Duration, percent: u32) -> Duration {
        let base = u64::try_from(base.as_micros()).unwrap_or(u64::MAX / 4).min(u64::MAX / 4);
        let spread = base / 100 * u64::from(percent.min(100));
        let offset = self.next() % (2 * spread + 1);
        Duration::from_micros(base - spread + offset)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mixed(self.0)
    }
}

/// The place of another node, or of an organization, in a node's order: the same every time, and
/// different from node to node, so that a fleet does not ask the same few first.
pub(super) fn place(own: NodeId, other: (u64, u64)) -> u64 {
    let own = own.uuid().as_u64_pair();
    mixed(mixed(own.0 ^ other.0).wrapping_add(mixed(own.1.rotate_left(17) ^ other.1)))
}

const fn mixed(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
