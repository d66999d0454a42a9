//! How much each part counts, by what the path is for. Policy: another table, another order.

use rap_proto::mesh::{Mesh, PartWeights};

use super::{ChannelClass, GREATEST, Part, Parts};

/// One weight for each [`Part`], in their order. Only their proportions count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Weights {
    by_part: [u16; Part::ALL.len()],
    sum: u32,
}

impl Weights {
    pub const fn get(&self, part: Part) -> u16 {
        self.by_part[part as usize]
    }

    pub fn iter(&self) -> impl Iterator<Item = (Part, u16)> + '_ {
        Part::ALL.iter().copied().zip(self.by_part)
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
}

impl From<PartWeights> for Weights {
    /// What is not named counts nothing.
    fn from(weights: PartWeights) -> Self {
        let mut by_part = [0; Part::ALL.len()];
        weights.into_iter().for_each(|(part, weight)| by_part[part as usize] = weight);
        Self { by_part, sum: by_part.iter().copied().map(u32::from).sum() }
    }
}

/// The weights of every class.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    by_class: [Weights; ChannelClass::ALL.len()],
}

impl Policy {
    /// As the platform says, and of what it says nothing as this release has it.
    pub fn of(mesh: &Mesh) -> Self {
        let weights = |place: usize| mesh.weights(ChannelClass::ALL[place]).into();
        Self { by_class: std::array::from_fn(weights) }
    }

    pub const fn weights(&self, class: ChannelClass) -> &Weights {
        &self.by_class[class as usize]
    }
}

impl Default for Policy {
    fn default() -> Self {
        Self::of(&Mesh::default())
    }
}
