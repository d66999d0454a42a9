//! What a node knows of one candidate when it asks what that one is worth.

use std::borrow::Cow;

use rap_proto::{
    ClusterId, LaneSet, Name, NodeId, Preference, Timestamp,
    snapshot::{Place, RoleScope},
};

/// A node that a path could lead to or through. It borrows what a snapshot says of it, if that is
/// at hand: a decision looks at a thousand of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate<'a> {
    pub node: NodeId,
    pub cluster: ClusterId,
    pub identity: Identity,
    /// The end of the certificate that it showed last; `None` before its first handshake.
    pub certificate_until: Option<Timestamp>,
    pub roles: Cow<'a, [RoleScope]>,
    /// The authority epoch of the snapshot that names it.
    pub authority_epoch: u64,
    pub region: Option<Cow<'a, Name>>,
    pub preference: Preference,
    /// Which lanes it relays, where it is a relay.
    pub relayed_lanes: LaneSet,
    pub measured: Measured,
}

/// How far a candidate's identity is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Identity {
    /// On the deny list, or known under another key.
    Denied,
    /// No snapshot names it.
    Unknown,
    /// The snapshot names its key.
    Listed,
    /// It also proved that key in a handshake with this node.
    Proven,
}

/// What was measured of a candidate; `None` where nothing was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Measured {
    pub rtt_us: Option<u32>,
    /// Of a million packets to it, how many were lost.
    pub loss_ppm: Option<u32>,
    /// Of 1,000 questions, how many it answered lately.
    pub reliability: Option<u16>,
    /// Of 1,000, how much of its capacity is taken.
    pub load: Option<u16>,
    pub bandwidth_kbps: Option<u32>,
    /// Failures that are not forgotten yet.
    pub failures: u8,
}

/// Whoever takes on nothing new is not looked for.
pub const fn preference(place: &Place) -> Preference {
    if place.draining { Preference::Avoided } else { place.preference }
}

impl Candidate<'_> {
    /// How far apart two regions are: 0 the same, 1 the same before the first dash, 2 neither;
    /// `None` when somebody's region is not known.
    pub fn region_steps(&self, other: Option<&Name>) -> Option<u8> {
        let (own, other) = (self.region.as_ref()?.as_str(), other?.as_str());
        Some(match () {
            () if own == other => 0,
            () if own.split('-').next() == other.split('-').next() => 1,
            () => 2,
        })
    }
}
