//! How much each part counts, by what the path is for. Policy: another table, another order.

use super::{GREATEST, Part, Parts};
use rap_proto::Lane;

/// What a path is to carry. Finer than a lane: two channels of one lane may want other paths.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ChannelClass {
    /// Input and control: the shortest and surest way.
    Interactive,
    /// Render and video: room, and an even flow.
    Media,
    /// Small, and must arrive.
    Clipboard,
    /// File transfer: room and patience.
    Bulk,
    /// A tunnel's packets: of everything something.
    VpnPackets,
    /// May be late or lost, and must be in nobody's way.
    Telemetry,
}

impl ChannelClass {
    pub const ALL: [Self; 6] = [
        Self::Interactive,
        Self::Media,
        Self::Clipboard,
        Self::Bulk,
        Self::VpnPackets,
        Self::Telemetry,
    ];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Interactive => "interactive",
            Self::Media => "media",
            Self::Clipboard => "clipboard",
            Self::Bulk => "bulk",
            Self::VpnPackets => "vpn_packets",
            Self::Telemetry => "telemetry",
        }
    }

    /// The class by which a whole lane chooses its path.
    pub const fn of_lane(lane: Lane) -> Self {
        match lane {
            Lane::Interactive => Self::Interactive,
            Lane::Media => Self::Media,
            Lane::Bulk => Self::Bulk,
        }
    }
}

/// One weight for each [`Part`], in their order. Only their proportions count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Weights {
    by_part: [u16; Part::ALL.len()],
    sum: u32,
}

impl Weights {
    /// `None` when all of them are zero: such a table orders nothing.
    pub fn new(by_part: [u16; Part::ALL.len()]) -> Option<Self> {
        let weights = Self::summed(by_part);
        (weights.sum > 0).then_some(weights)
    }

    pub const fn get(&self, part: Part) -> u16 {
        self.by_part[part as usize]
    }

    /// The weighted mean of the parts, from 0 to [`GREATEST`].
    pub fn total(&self, parts: &Parts) -> u16 {
        self.mean(self.weighed(parts))
    }

    /// The sum of the parts, each times its weight. Sums of parts that have nothing in common may be
    /// added: [`Self::mean`] of that is their total.
    pub(super) fn weighed(&self, parts: &Parts) -> u32 {
        let pairs = self.by_part.iter().zip(&parts.0);
        pairs.map(|(weight, part)| u32::from(*weight) * u32::from(*part)).sum()
    }

    pub(super) fn mean(&self, weighed: u32) -> u16 {
        u16::try_from(weighed / self.sum.max(1)).unwrap_or(GREATEST)
    }

    fn summed(by_part: [u16; Part::ALL.len()]) -> Self {
        Self { by_part, sum: by_part.iter().copied().map(u32::from).sum() }
    }
}

/// The weights of every class.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    by_class: [Weights; ChannelClass::ALL.len()],
}

impl Policy {
    pub const fn weights(&self, class: ChannelClass) -> &Weights {
        &self.by_class[class as usize]
    }

    pub const fn set(&mut self, class: ChannelClass, weights: Weights) {
        self.by_class[class as usize] = weights;
    }
}

impl Default for Policy {
    /// Each row adds up to 100: latency, loss, reliability, region, load, bandwidth, role, policy,
    /// trust, failures. A preference, and a region far away, alone make a difference that is not
    /// [`super::relays::NEARLY_THE_SAME`].
    fn default() -> Self {
        Self {
            by_class: [
                Weights::summed([26, 13, 17, 7, 7, 2, 5, 12, 3, 8]),
                Weights::summed([13, 11, 11, 7, 11, 19, 5, 12, 3, 8]),
                Weights::summed([13, 9, 23, 7, 7, 5, 7, 12, 4, 13]),
                Weights::summed([6, 8, 14, 7, 16, 21, 5, 12, 3, 8]),
                Weights::summed([11, 13, 13, 7, 12, 15, 5, 12, 4, 8]),
                Weights::summed([2, 4, 11, 7, 32, 7, 9, 14, 4, 10]),
            ],
        }
    }
}
