//! What a relay does with what it should forward while it answers everybody, and fast.

use std::time::Duration;

use rap_proto::Moment;

use crate::kit::Chance;

/// How long a relay forwards that does so in turns, and how long it then swallows.
const TURN: Duration = Duration::from_secs(150);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lie {
    SwallowsAll,
    LosesHalf,
    SwallowsInTurns,
}

impl Lie {
    pub const ALL: [Self; 3] = [Self::SwallowsAll, Self::LosesHalf, Self::SwallowsInTurns];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::SwallowsAll => "a relay that swallows",
            Self::LosesHalf => "a relay that loses half",
            Self::SwallowsInTurns => "a relay that swallows in turns",
        }
    }

    /// Whether it swallows what it is given now.
    pub fn swallows(self, now: Moment, chance: &mut Chance) -> bool {
        match self {
            Self::SwallowsAll => true,
            Self::LosesHalf => chance.happens(500),
            Self::SwallowsInTurns => {
                let turns = now.since(Moment::default()).as_secs() / TURN.as_secs();
                !turns.is_multiple_of(2)
            }
        }
    }
}
