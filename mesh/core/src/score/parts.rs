//! The ten inputs of a score, each brought to a number from 0 to [`GREATEST`]: more is better.
//!
//! | part | 1000 | 0 |
//! |---|---|---|
//! | `latency` | no round trip at all; 500 at [`HALF_RTT_US`] | never, only near it |
//! | `packet_loss` | none | [`WORST_LOSS_PPM`] or more |
//! | `reliability` | answered every time | never answered |
//! | `region_distance` | the same region | two steps away: 200 |
//! | `node_load` | idle, or it says nothing | full |
//! | `bandwidth` | 16 Gbit/s or more, by its logarithm, or it says nothing | nothing |
//! | `role_suitability` | does what is asked and nothing else | has no role |
//! | `policy` | preferred | avoided |
//! | `trust` | proved its key to this node | never: see the constraints |
//! | `recent_failures` | none | [`MOST_FAILURES`] |

use rap_proto::{NodeRole, Preference, mesh::Part};

use super::{Candidate, GREATEST, Identity, Measured, Question};

/// What a part is worth when nothing was measured: neither the best nor the worst. Not of what a node
/// says of itself.
pub const UNKNOWN: u16 = 500;
/// The round trip that is worth half of none.
pub const HALF_RTT_US: u32 = 40_000;
/// From here on loss is worth nothing: one packet of twenty.
pub const WORST_LOSS_PPM: u32 = 50_000;
/// More failures than these are as bad as these.
pub const MOST_FAILURES: u8 = 5;
/// By the number of failures that are remembered.
const FAILURES: [u16; MOST_FAILURES as usize + 1] = [1_000, 600, 350, 180, 80, 0];
/// The bits of 16 Gbit/s in kbit/s.
const WIDEST_BITS: u32 = 24;

/// One value for each [`Part`], in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parts(pub(super) [u16; Part::ALL.len()]);

impl Parts {
    /// Nothing of anything.
    const NONE: Self = Self([0; Part::ALL.len()]);
    /// All of everything.
    pub(super) const BEST: Self = Self([GREATEST; Part::ALL.len()]);

    pub fn of(question: &Question<'_>, candidate: &Candidate<'_>) -> Self {
        Self::standing(question, candidate).measured(&candidate.measured)
    }

    /// Those that no measurement moves; the others are 0.
    pub(super) fn standing(question: &Question<'_>, candidate: &Candidate<'_>) -> Self {
        let mut parts = Self::NONE;
        parts.set(Part::RegionDistance, region_distance(candidate.region_steps(question.region)));
        parts.set(Part::RoleSuitability, role_suitability(question.role, candidate));
        parts.set(
            Part::Policy,
            match candidate.preference {
                Preference::Avoided => 0,
                Preference::Neutral => UNKNOWN,
                Preference::Preferred => GREATEST,
            },
        );
        let trust = if candidate.identity == Identity::Proven { GREATEST } else { 600 };
        parts.set(Part::Trust, trust);
        parts
    }

    /// Those that measurements alone make; the others are 0.
    pub(super) fn of_measured(measured: &Measured) -> Self {
        Self::NONE.measured(measured)
    }

    /// The same with other measurements.
    pub fn measured(mut self, measured: &Measured) -> Self {
        self.set(Part::Latency, measured.rtt_us.map_or(UNKNOWN, latency));
        self.set(Part::PacketLoss, measured.loss_ppm.map_or(UNKNOWN, packet_loss));
        let reliability = measured.reliability.map_or(UNKNOWN, |of_1000| of_1000.min(GREATEST));
        self.set(Part::Reliability, reliability);
        // A node says these of itself: what it says can lower its worth, and never raise it above that
        // of one that says nothing.
        let idle = measured.load.map_or(GREATEST, |of_1000| GREATEST - of_1000.min(GREATEST));
        self.set(Part::NodeLoad, idle);
        self.set(Part::Bandwidth, measured.bandwidth_kbps.map_or(GREATEST, bandwidth));
        let failures = usize::from(measured.failures.min(MOST_FAILURES));
        self.set(Part::RecentFailures, FAILURES[failures]);
        self
    }

    /// Of each part the lesser.
    pub fn worst(&self, other: &Self) -> Self {
        Self(std::array::from_fn(|place| self.0[place].min(other.0[place])))
    }

    pub const fn get(&self, part: Part) -> u16 {
        self.0[part as usize]
    }

    const fn set(&mut self, part: Part, value: u16) {
        self.0[part as usize] = value;
    }

    pub fn iter(&self) -> impl Iterator<Item = (Part, u16)> + '_ {
        Part::ALL.iter().copied().zip(self.0)
    }
}

fn latency(rtt_us: u32) -> u16 {
    narrow(u32::from(GREATEST) * HALF_RTT_US / HALF_RTT_US.saturating_add(rtt_us))
}

fn packet_loss(ppm: u32) -> u16 {
    let left = WORST_LOSS_PPM.saturating_sub(ppm);
    narrow(left * u32::from(GREATEST) / WORST_LOSS_PPM)
}

const fn region_distance(steps: Option<u8>) -> u16 {
    match steps {
        Some(0) => GREATEST,
        Some(1) => 600,
        Some(_) => 200,
        None => UNKNOWN,
    }
}

fn bandwidth(kbps: u32) -> u16 {
    let bits = (u32::BITS - kbps.leading_zeros()).min(WIDEST_BITS);
    narrow(bits * u32::from(GREATEST) / WIDEST_BITS)
}

/// A relay that is nothing else has its whole machine for it; and who only wants company is best
/// served by a relay, which leads on.
fn role_suitability(asked: Option<NodeRole>, candidate: &Candidate<'_>) -> u16 {
    let wanted = asked.unwrap_or(NodeRole::RelayNode);
    let (mut has, mut others) = (false, false);
    for scope in candidate.roles.iter() {
        has |= scope.role == wanted;
        others |= scope.role != wanted;
    }
    match (has, others) {
        (true, false) => GREATEST,
        (true, true) => 700,
        (false, true) => 300,
        (false, false) => 0,
    }
}

fn narrow(value: u32) -> u16 {
    u16::try_from(value).unwrap_or(GREATEST).min(GREATEST)
}
