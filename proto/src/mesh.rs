//! What the platform says of how its nodes keep peers and what makes a path the better one: for every
//! organization alike, as none of them knows a node.
//!
//! Of what nothing is said, every node takes what its release has: [`PeerCounts::of`] and [`weights_of`].

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{Lane, snapshot::Section};

/// The most active peers of any node: as many as a relay keeps at most where nothing is said.
pub const MOST_ACTIVE: u16 = 20;
/// The most warm peers of any node.
pub const MOST_WARM: u16 = 64;
/// The greatest weight of one part.
pub const GREATEST_WEIGHT: u16 = 1_000;

crate::term::terms! {
    /// What kind of node it is, by how it keeps peers.
    PeerKind, "kind of node":
    /// Small or moving: few peers, asked seldom.
    Thin = "thin",
    Normal = "normal",
    /// A relay: others lean on what it knows.
    Relay = "relay",
}

crate::term::terms! {
    /// What a path is to carry. Finer than a lane: two channels of one lane may want other paths.
    ChannelClass, "channel class":
    /// Input and control: the shortest and surest way.
    Interactive = "interactive",
    /// Render and video: room, and an even flow.
    Media = "media",
    /// Small, and must arrive.
    Clipboard = "clipboard",
    /// File transfer: room and patience.
    Bulk = "bulk",
    /// A tunnel's packets: of everything something.
    VpnPackets = "vpn_packets",
    /// May be late or lost, and must be in nobody's way.
    Telemetry = "telemetry",
}

crate::term::terms! {
    /// One input of a score.
    Part, "part of a score":
    Latency = "latency",
    PacketLoss = "packet_loss",
    Reliability = "reliability",
    RegionDistance = "region_distance",
    NodeLoad = "node_load",
    Bandwidth = "bandwidth",
    RoleSuitability = "role_suitability",
    Policy = "policy",
    Trust = "trust",
    RecentFailures = "recent_failures",
}

impl ChannelClass {
    /// The class by which a whole lane chooses its path.
    pub const fn of_lane(lane: Lane) -> Self {
        match lane {
            Lane::Interactive => Self::Interactive,
            Lane::Media => Self::Media,
            Lane::Bulk => Self::Bulk,
        }
    }

    /// The lane that chooses its path by it, if any does.
    pub fn lane(self) -> Option<Lane> {
        Lane::ALL.iter().copied().find(|lane| Self::of_lane(*lane) == self)
    }

    /// Whether any lane chooses its path by it. The weights of another one are kept, and change nothing.
    pub fn is_asked_for(self) -> bool {
        self.lane().is_some()
    }
}

/// How many peers a node keeps near.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct PeerCounts {
    /// Fewer active peers than these is a lack.
    #[cfg_attr(feature = "openapi", schema(maximum = 65535))]
    pub least: u16,
    /// Never more active ones.
    #[cfg_attr(feature = "openapi", schema(maximum = 65535))]
    pub most: u16,
    /// Never more warm ones.
    #[cfg_attr(feature = "openapi", schema(maximum = 65535))]
    pub warm: u16,
}

impl PeerCounts {
    /// Those of this release.
    pub const fn of(kind: PeerKind) -> Self {
        let (least, most, warm) = match kind {
            PeerKind::Thin => (1, 3, 3),
            PeerKind::Normal => (3, 5, 8),
            PeerKind::Relay => (8, MOST_ACTIVE, 32),
        };
        Self { least, most, warm }
    }

    fn check(self, kind: PeerKind) -> Result<(), MeshFault> {
        let Self { least, most, warm } = self;
        match () {
            () if !(1..MOST_ACTIVE).contains(&least) => Err(MeshFault::Least(kind)),
            // One more than the least is the room in which a better peer proves itself.
            () if !(least + 1..=MOST_ACTIVE).contains(&most) => Err(MeshFault::Most(kind)),
            // Whoever becomes active was warm before.
            () if !(1..=MOST_WARM).contains(&warm) => Err(MeshFault::Warm(kind)),
            () => Ok(()),
        }
    }
}

/// How much each part of a score counts. Only their proportions do; what is not named counts nothing.
pub type PartWeights = BTreeMap<Part, u16>;

/// The weights of this release.
pub fn weights_of(class: ChannelClass) -> PartWeights {
    Part::ALL.iter().copied().zip(WEIGHTS[class as usize]).collect()
}

/// Each row adds up to 100. A preference, and a region far away, alone make a difference beyond which
/// relays no longer share the lanes between them.
const WEIGHTS: [[u16; Part::ALL.len()]; ChannelClass::ALL.len()] = [
    [26, 13, 17, 7, 7, 2, 5, 12, 3, 8],
    [13, 11, 11, 7, 11, 19, 5, 12, 3, 8],
    [13, 9, 23, 7, 7, 5, 7, 12, 4, 13],
    [6, 8, 14, 7, 16, 21, 5, 12, 3, 8],
    [11, 13, 13, 7, 12, 15, 5, 12, 4, 8],
    [2, 4, 11, 7, 32, 7, 9, 14, 4, 10],
];

fn check_weights(class: ChannelClass, weights: &PartWeights) -> Result<(), MeshFault> {
    let too_great = weights.iter().find(|(_, weight)| **weight > GREATEST_WEIGHT);
    match too_great {
        Some((part, _)) => Err(MeshFault::Weight(class, *part)),
        None if weights.values().all(|weight| *weight == 0) => Err(MeshFault::NoWeight(class)),
        None => Ok(()),
    }
}

/// All that the platform says.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MeshRule {
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub peers: BTreeMap<PeerKind, PeerCounts>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub weights: BTreeMap<ChannelClass, PartWeights>,
}

impl MeshRule {
    /// Whether all of it is within its bounds; otherwise the first that is not.
    pub fn check(&self) -> Result<(), MeshFault> {
        self.peers.iter().try_for_each(|(kind, counts)| counts.check(*kind))?;
        self.weights.iter().try_for_each(|(class, weights)| check_weights(*class, weights))
    }
}

/// What is out of its bounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MeshFault {
    #[error("peers.{0}.least: a node keeps at least 1 and fewer than {MOST_ACTIVE} active peers")]
    Least(PeerKind),
    #[error("peers.{0}.most: more active peers than the least, and at most {MOST_ACTIVE}")]
    Most(PeerKind),
    #[error("peers.{0}.warm: a node keeps 1 to {MOST_WARM} warm peers")]
    Warm(PeerKind),
    #[error("weights.{0}.{1}: a weight is at most {GREATEST_WEIGHT}")]
    Weight(ChannelClass, Part),
    #[error("weights.{0}: at least one part counts")]
    NoWeight(ChannelClass),
}

impl MeshFault {
    /// Where it stands in the rule.
    pub fn field(self) -> String {
        match self {
            Self::Least(kind) => format!("peers.{kind}.least"),
            Self::Most(kind) => format!("peers.{kind}.most"),
            Self::Warm(kind) => format!("peers.{kind}.warm"),
            Self::Weight(class, part) => format!("weights.{class}.{part}"),
            Self::NoWeight(class) => format!("weights.{class}"),
        }
    }

    pub const fn rule(self) -> &'static str {
        match self {
            Self::Least(_) => "least_out_of_range",
            Self::Most(_) => "most_out_of_range",
            Self::Warm(_) => "warm_out_of_range",
            Self::Weight(..) => "weight_too_great",
            Self::NoWeight(_) => "no_weight",
        }
    }
}

/// What a node is told of it. There only where anything is said. A word that this release does not know
/// is passed over: it is of a later one.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Mesh {
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    peers: BTreeMap<String, Told>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    weights: BTreeMap<String, BTreeMap<String, u16>>,
}

/// The counts of one kind. Whatever a later release has beside these is passed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Told {
    least: u16,
    most: u16,
    warm: u16,
}

impl Mesh {
    /// Whether nothing is said.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// How many peers a node keeps near. What is out of the bounds of this release counts as not said.
    pub fn counts(&self, kind: PeerKind) -> PeerCounts {
        let said = self.peers.get(kind.as_str());
        let said = said.map(|Told { least, most, warm }| PeerCounts {
            least: *least,
            most: *most,
            warm: *warm,
        });
        said.filter(|said| said.check(kind).is_ok()).unwrap_or(PeerCounts::of(kind))
    }

    /// What each part counts for a path. As [`Self::counts`].
    pub fn weights(&self, class: ChannelClass) -> PartWeights {
        let said = self.weights.get(class.as_str()).map(known);
        said.filter(|said| check_weights(class, said).is_ok()).unwrap_or_else(|| weights_of(class))
    }
}

fn known(said: &BTreeMap<String, u16>) -> PartWeights {
    said.iter().filter_map(|(part, weight)| Some((part.parse().ok()?, *weight))).collect()
}

impl From<&MeshRule> for Mesh {
    fn from(rule: &MeshRule) -> Self {
        let told = |PeerCounts { least, most, warm }: &PeerCounts| Told {
            least: *least,
            most: *most,
            warm: *warm,
        };
        let peers = rule.peers.iter().map(|(kind, counts)| (kind.to_string(), told(counts)));
        let weights = rule.weights.iter().map(|(class, weights)| {
            let weights = weights.iter().map(|(part, weight)| (part.to_string(), *weight));
            (class.to_string(), weights.collect())
        });
        Self { peers: peers.collect(), weights: weights.collect() }
    }
}

impl Section for Mesh {
    const NAME: &'static str = "mesh";
}

#[cfg(test)]
mod tests;
