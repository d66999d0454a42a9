//! How many peers of which class, how often they are asked, and how slowly minds are changed.

use std::time::Duration;

use rap_proto::{NodeRole, snapshot::RoleScope};

/// What kind of node the policy is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Small or moving: few peers, asked seldom.
    Thin,
    Normal,
    /// A relay: others lean on what it knows.
    Relay,
}

impl Kind {
    pub const ALL: [Self; 3] = [Self::Thin, Self::Normal, Self::Relay];

    /// By what a node was assigned.
    pub fn of_roles(roles: &[RoleScope]) -> Self {
        let relays = roles.iter().any(|scope| scope.role == NodeRole::RelayNode);
        if relays { Self::Relay } else { Self::Normal }
    }
}

/// The policy of one node. [`PeerPolicy::of`] has the defaults; any of it may be set otherwise.
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

impl PeerPolicy {
    pub fn of(kind: Kind) -> Self {
        let seconds = Duration::from_secs;
        let (counts, heartbeat, probe, refresh) = match kind {
            Kind::Thin => ((1, 3, 3, 1), 15, 120, 900),
            Kind::Normal => ((3, 5, 8, 2), 10, 60, 600),
            Kind::Relay => ((8, 20, 32, 4), 5, 30, 300),
        };
        let (least_active, most_active, most_warm, relays) = counts;
        Self {
            counts: Counts { least_active, most_active, most_warm, relays },
            heartbeat: seconds(heartbeat),
            probe: seconds(probe),
            refresh: seconds(refresh),
            hysteresis: Hysteresis::default(),
        }
    }
}
