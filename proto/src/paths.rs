//! What the platform says of the paths between its nodes, for every organization alike: an organization
//! knows nothing of nodes, and so has no say in how they reach each other.

use std::ops::Not;

use serde::{Deserialize, Serialize};

use crate::{Lane, NodeId, OrganizationId, snapshot::Section};

crate::term::terms! {
    /// Whether lanes may lead from entry to egress over no other node, and when.
    #[derive(Default)]
    DirectPaths, "rule for direct paths":
    /// Wherever one works.
    #[default]
    Allowed = "allowed",
    /// None is looked for, and none is kept: without a relay there is no path.
    Forbidden = "forbidden",
    /// One takes the place of a way over relays where its round trip is not longer, and is left where it
    /// is clearly longer.
    WhenBetter = "when_better",
}

crate::term::terms! {
    /// What a path leads over.
    PathKind, "kind of path":
    Direct = "direct",
    /// One relay.
    Relayed = "relayed",
    /// Several relays, one behind the other.
    Chained = "chained",
}

crate::term::terms! {
    /// What the flows of a lane run on.
    PathCarrier, "carrier":
    Quic = "quic",
    Tcp = "tcp",
}

/// The platform's rule for direct paths.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct PathRule {
    #[serde(default, skip_serializing_if = "DirectPaths::is_usual")]
    pub direct: DirectPaths,
    /// Whether entries report each lane that takes a direct path or leaves it.
    #[serde(default, skip_serializing_if = "Not::not")]
    pub audited: bool,
}

impl DirectPaths {
    /// Whether a lane may have one at all.
    pub const fn are_allowed(&self) -> bool {
        !matches!(self, Self::Forbidden)
    }

    /// Whether it is what holds where nothing is said.
    const fn is_usual(&self) -> bool {
        matches!(self, Self::Allowed)
    }
}

/// What a node is told of the platform's word on paths. There only where anything is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(from = "Told", into = "Told")]
pub struct Paths {
    pub rule: PathRule,
}

/// The section as it is written. A node that does not know a word of the rule would refuse its whole
/// snapshot, and with it whom it is to trust no longer: a word that came later has a field of its own.
#[derive(Serialize, Deserialize)]
struct Told {
    #[serde(default)]
    rule: PathRule,
    /// [`DirectPaths::WhenBetter`]; whoever does not know the field takes direct paths as allowed.
    #[serde(default, skip_serializing_if = "Not::not")]
    when_better: bool,
}

impl From<Paths> for Told {
    fn from(Paths { rule }: Paths) -> Self {
        match rule.direct {
            DirectPaths::WhenBetter => {
                Self { rule: PathRule { direct: DirectPaths::Allowed, ..rule }, when_better: true }
            }
            DirectPaths::Allowed | DirectPaths::Forbidden => Self { rule, when_better: false },
        }
    }
}

impl From<Told> for Paths {
    fn from(Told { mut rule, when_better }: Told) -> Self {
        if when_better && rule.direct.are_allowed() {
            rule.direct = DirectPaths::WhenBetter;
        }
        Self { rule }
    }
}

impl Paths {
    /// Whether nothing is said.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl Section for Paths {
    const NAME: &'static str = "paths";
}

/// A lane at its entry took a direct path, or left the one that it had.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PathChange {
    pub egress: NodeId,
    /// Whose lane it is.
    pub organization: OrganizationId,
    pub lane: Lane,
    /// A lane's connection on QUIC has one path; its flows on TCP are counted as one, which is direct
    /// for as long as any of them is.
    pub carrier: PathCarrier,
    /// Absent where there was no path before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<PathKind>,
    /// Absent where there is none afterwards.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<PathKind>,
    /// So many changes of the organization, or of those that share a part with it, before this one were not
    /// reported, as there were too many at once.
    /// What the spool of the node leaves out is not among them.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub left_out: u64,
}

const fn is_zero(count: &u64) -> bool {
    *count == 0
}
