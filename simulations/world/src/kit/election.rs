//! Which replica of control leads.

use super::{Stage, World};

/// One of those that work leads, and sometimes two do: of `two_leaders` in 1,000 looks, the one
/// before does not yet hear that it leads no more. Both places are the same where there is one.
pub fn elect<W: World>(
    stage: &mut Stage<W>,
    leader: &mut usize,
    works: &[bool],
    two_leaders: u64,
) -> [usize; 2] {
    let before = *leader;
    if !works[before] || stage.chance.happens(two_leaders) {
        let other = stage.any(works.len());
        if works[other] {
            *leader = other;
        }
    }
    let two = stage.failing && stage.chance.happens(two_leaders);
    if two && before != *leader {
        stage.coverage.fault("two leaders");
    }
    [*leader, if two { before } else { *leader }]
}
