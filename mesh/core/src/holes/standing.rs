//! What an operator is told of a lane's holes.

use std::collections::BTreeMap;

pub use rap_proto::hole::Failure;
use rap_proto::wire::lane::Mapping;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Standing {
    pub step: Step,
    /// How the NATs of this side and of the egress' side were found.
    pub own: Mapping,
    pub far: Mapping,
    /// Why the last round came to nothing.
    pub failure: Option<Failure>,
    /// How many rounds there were.
    pub rounds: u32,
}

/// How far a lane is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Step {
    /// No hole is wanted: the lane is direct.
    #[default]
    Idle,
    Resting,
    Looking,
    Meeting,
    Knocking,
    Trying,
    Open,
    GivenUp,
    /// The platform allows no direct paths.
    Forbidden,
}

impl Step {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Resting => "resting",
            Self::Looking => "looking",
            Self::Meeting => "meeting",
            Self::Knocking => "knocking",
            Self::Trying => "trying",
            Self::Open => "open",
            Self::GivenUp => "given_up",
            Self::Forbidden => "forbidden",
        }
    }
}

/// What rounds came to, counted until they are taken: `found`, or why not.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Outcomes {
    pub found: u64,
    pub failed: BTreeMap<Failure, u64>,
}
