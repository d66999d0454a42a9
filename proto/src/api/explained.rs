use std::collections::BTreeMap;

use super::bodies;
use crate::{Constraint, Lane, Name, NodeId};

bodies! {
    /// `GET /nodes/{node}/why/{other}`: what a node says of another, which nobody
    /// checks, and what control knows.
    pub struct Explained {
        /// Who says it.
        pub node: NodeId,
        /// Of whom.
        pub other: NodeId,
        /// Absent when the other is no peer of the node.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub peer: Option<ExplainedPeer>,
        /// The lanes from the one to the other.
        pub lanes: Vec<ExplainedLane>,
        /// The relays that the node could go through, the best first.
        pub relays: Vec<ExplainedPeer>,
        /// What rules the other and further relays out for the node, as control knows it; absent
        /// when nothing does.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        pub ruled_out: Vec<RuledOut>,
        /// By the channel classes of lanes, what each part of a score counts there: the scores told
        /// here are of `interactive`. Absent from a node of a release that does not tell.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        pub weights: BTreeMap<String, BTreeMap<String, u16>>,
    }

    /// One constraint that rules a node out.
    pub struct RuledOut {
        pub node: NodeId,
        pub name: Name,
        pub constraint: Constraint,
        /// For people.
        pub reason: String,
    }

    pub struct ExplainedPeer {
        pub node: NodeId,
        /// Absent for a node that the control plane does not know any more.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub name: Option<Name>,
        /// `active`, `warm` or `cold`.
        pub class: String,
        pub up: bool,
        pub resting: bool,
        /// Whether what it was given to forward arrived; absent before the first try.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub forwards: Option<bool>,
        /// Of 1,000; absent when a constraint rules it out.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub score: Option<u16>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub excluded_by: Option<String>,
        /// What the score is made of, each of 1,000.
        pub parts: BTreeMap<String, u16>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub rtt_us: Option<u32>,
        pub failures: u8,
    }

    pub struct ExplainedLane {
        pub lane: Lane,
        /// The relay that it goes through; absent when it goes directly.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub relay: Option<NodeId>,
        /// The relays behind that one, in their order; absent when there is none.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        pub onward: Vec<NodeId>,
        pub rtt_ms: u64,
        /// Why it last changed its path.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub last_switch: Option<String>,
        /// Absent where no hole is wanted, and from a node of a release that does not tell.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub hole: Option<ExplainedHole>,
    }

    /// How far a lane is with a direct path through NATs.
    pub struct ExplainedHole {
        /// `open` where one carries the lane, `given_up`, `forbidden` by the platform, or what is being done.
        pub step: String,
        /// What the NATs on the node's side do with a port, and those on the other's: `steady`,
        /// `symmetric` or `unknown`.
        pub own_nat: String,
        pub far_nat: String,
        /// Why the last round came to nothing.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub failure: Option<String>,
    }
}
