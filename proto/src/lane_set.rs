//! Some of the lanes, and never none of them.

use std::{collections::BTreeSet, fmt};

use serde::{Deserialize, Serialize};

use crate::Lane;

/// Lanes that somebody carries. On the wire and in the log a list, the most urgent first.
///
/// INVARIANT: one bit at least, and none but those of [`Lane::ALL`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "BTreeSet<Lane>", into = "BTreeSet<Lane>")]
pub struct LaneSet(u8);

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("one lane at least")]
pub struct NoLane;

impl LaneSet {
    pub const ALL: Self = Self((1 << Lane::ALL.len()) - 1);

    pub const fn has(self, lane: Lane) -> bool {
        self.0 & bit(lane) != 0
    }

    pub fn is_all(&self) -> bool {
        *self == Self::ALL
    }

    /// The most urgent first.
    pub fn iter(self) -> impl Iterator<Item = Lane> {
        Lane::ALL.iter().copied().filter(move |lane| self.has(*lane))
    }

    pub fn most_urgent(self) -> Lane {
        self.iter().next().expect("there is one lane at least")
    }
}

const fn bit(lane: Lane) -> u8 {
    1 << lane as u8
}

impl Default for LaneSet {
    fn default() -> Self {
        Self::ALL
    }
}

impl TryFrom<BTreeSet<Lane>> for LaneSet {
    type Error = NoLane;

    fn try_from(lanes: BTreeSet<Lane>) -> Result<Self, NoLane> {
        let bits = lanes.into_iter().fold(0, |bits, lane| bits | bit(lane));
        if bits == 0 { Err(NoLane) } else { Ok(Self(bits)) }
    }
}

impl From<LaneSet> for BTreeSet<Lane> {
    fn from(lanes: LaneSet) -> Self {
        lanes.iter().collect()
    }
}

impl fmt::Debug for LaneSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_set_has_what_it_was_made_of_and_is_never_empty() {
        assert_eq!(LaneSet::try_from(BTreeSet::new()), Err(NoLane));
        let one = LaneSet::try_from(BTreeSet::from([Lane::Bulk])).unwrap();
        assert_eq!(one.most_urgent(), Lane::Bulk);
        assert!(one.has(Lane::Bulk) && !one.has(Lane::Interactive) && !one.is_all());
        let all: BTreeSet<Lane> = Lane::ALL.iter().copied().collect();
        assert_eq!(LaneSet::try_from(all.clone()), Ok(LaneSet::ALL));
        assert_eq!(BTreeSet::from(LaneSet::default()), all);
        assert_eq!(LaneSet::ALL.most_urgent(), Lane::Interactive);
    }
}
