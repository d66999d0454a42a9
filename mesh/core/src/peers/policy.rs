//! How many peers of which class, how often they are asked, and how slowly minds are changed.

use std::time::Duration;

use rap_proto::{
    NodeRole,
    mesh::{Mesh, PeerCounts},
    snapshot::RoleScope,
};

use crate::score;

pub use rap_proto::mesh::PeerKind as Kind;

/// The kind of a node by what it was assigned.
pub fn kind_of_roles(roles: &[RoleScope]) -> Kind {
    let relays = roles.iter().any(|scope| scope.role == NodeRole::RelayNode);
    if relays { Kind::Relay } else { Kind::Normal }
}

/// The policy of one node. [`PeerPolicy::of`] is that of its release, [`PeerPolicy::told`] the same as far as
/// the platform says nothing else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeerPolicy {
    pub counts: Counts,
    /// How often an active peer is asked.
    pub heartbeat: Duration,
    /// How often a warm peer is asked, and a relay is probed through.
    pub probe: Duration,
    /// How often the directory is asked for.
    pub refresh: Duration,
    pub hysteresis: Hysteresis,
    /// What makes a peer the better one.
    pub weights: score::Policy,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    /// Fewer active peers than these is a lack.
    pub least_active: usize,
    /// Never more.
    pub most_active: usize,
    pub most_warm: usize,
    /// So many of the places that a node settles at are kept for relays that forward, and as many
    /// of the warm ones, whatever others are worth as company: a relay that nobody keeps near is
    /// one that nobody tried.
    pub relays: usize,
}

impl Counts {
    /// How many active peers a node settles at: what lies above is room for a better one to prove
    /// itself before a worse one goes.
    pub const fn aim(&self) -> usize {
        (self.least_active + self.most_active) / 2
    }
}

/// What keeps promotions and demotions from following each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hysteresis {
    /// By how much of 1,000 a warm peer must be better than the worst active one.
    pub margin: u16,
    /// In how many reviews, one after the other.
    pub confirmations: u8,
    /// How long an active peer stays before a better one can take its place.
    pub tenure: Duration,
    /// How long nobody else is exchanged after that; spread by a fifth. There is always somebody
    /// who has become a little better, and more of them the more nodes there are.
    pub pause: Duration,
    /// How long a demoted peer is left alone; doubles each time.
    pub first_rest: Duration,
    pub greatest_rest: Duration,
}

/// See [`Hysteresis::margin`].
pub const SWAP_MARGIN: u16 = 80;
/// See [`Hysteresis::confirmations`].
pub const SWAP_CONFIRMATIONS: u8 = 3;
/// See [`Hysteresis::tenure`].
pub const LEAST_TENURE: Duration = Duration::from_secs(120);
/// See [`Hysteresis::pause`].
pub const SWAP_PAUSE: Duration = Duration::from_secs(120);
/// See [`Hysteresis::first_rest`].
pub const FIRST_REST: Duration = Duration::from_secs(30);
/// See [`Hysteresis::greatest_rest`].
pub const GREATEST_REST: Duration = Duration::from_secs(600);

impl Default for Hysteresis {
    fn default() -> Self {
        Self {
            margin: SWAP_MARGIN,
            confirmations: SWAP_CONFIRMATIONS,
            tenure: LEAST_TENURE,
            pause: SWAP_PAUSE,
            first_rest: FIRST_REST,
            greatest_rest: GREATEST_REST,
        }
    }
}

/// The places that are kept for relays; see [`Counts::relays`].
const fn relay_places(kind: Kind) -> usize {
    match kind {
        Kind::Thin => 1,
        Kind::Normal => 2,
        Kind::Relay => 4,
    }
}

impl Counts {
    fn told(kind: Kind, mesh: &Mesh) -> Self {
        let PeerCounts { least, most, warm } = mesh.counts(kind);
        let (least_active, most_active) = (usize::from(least), usize::from(most));
        let mut counts =
            Self { least_active, most_active, most_warm: usize::from(warm), relays: 0 };
        counts.relays = relay_places(kind).min(counts.aim()).min(counts.most_warm);
        counts
    }
}

impl PeerPolicy {
    pub fn of(kind: Kind) -> Self {
        Self::told(kind, &Mesh::default())
    }

    pub fn told(kind: Kind, mesh: &Mesh) -> Self {
        let seconds = Duration::from_secs;
        let (heartbeat, probe, refresh) = match kind {
            Kind::Thin => (15, 120, 900),
            Kind::Normal => (10, 60, 600),
            Kind::Relay => (5, 30, 300),
        };
        Self {
            counts: Counts::told(kind, mesh),
            heartbeat: seconds(heartbeat),
            probe: seconds(probe),
            refresh: seconds(refresh),
            hysteresis: Hysteresis::default(),
            weights: score::Policy::of(mesh),
        }
    }
}
