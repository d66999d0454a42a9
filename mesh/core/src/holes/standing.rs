//! What an operator is told of a lane's holes.

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
        }
    }
}

/// Why a round came to nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Failure {
    /// No relay saw this node's socket.
    Unseen,
    /// None saw the egress' port, or none where this node would knock.
    FarUnseen,
    /// The egress did not answer.
    Unanswered,
    /// It does not know of holes.
    Unsupported,
    /// Both sides have a NAT that gives each destination another port.
    BothSymmetric,
    /// No knock came through.
    Silent,
    /// One did, but the lane did not move there.
    Unproven,
    /// It was in use, and works no more.
    Lost,
}

impl Failure {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unseen => "unseen",
            Self::FarUnseen => "far_unseen",
            Self::Unanswered => "unanswered",
            Self::Unsupported => "unsupported",
            Self::BothSymmetric => "both_symmetric",
            Self::Silent => "silent",
            Self::Unproven => "unproven",
            Self::Lost => "lost",
        }
    }
}
