//! The peers of a node: whom it keeps a connection to, whom it could turn to, and how it finds
//! back when it lost everybody.
//!
//! ```text
//!            answered a probe           promoted
//!   cold ───────────────────▶ warm ───────────────▶ active: connected, heard regularly
//!    ▲                         │ ▲                    │
//!    └── missed two probes ────┘ └─ a better one came ┤
//!    └──────────── missed three heartbeats, or does not forward
//! ```
//!
//! Inputs: the directory of the newest snapshot, the cache that was on disk, answers and their
//! absence, time. Effects: what to ask whom, whom to let go, when to look for a newer directory, what to
//! keep on disk. It asks no control plane for a path, and what it kept is never a source of truth:
//! a node that the directory does not name is nobody's peer.
//!
//! A relay that answers and does not forward is found by [`Effect::ProbeThrough`] alone.
//!
//! INVARIANT: `active` holds at most [`Counts::most_active`] peers, those that were asked and have
//! not answered yet included; `active` and `warm` are exactly the peers of these classes.

pub mod cache;
pub mod directory;
pub mod policy;

pub mod answers;
pub mod peer;
mod places;
pub mod recovery;
pub mod review;
pub(crate) mod spread;
mod status;
pub mod through;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use rap_proto::{Authority, Moment, NodeId, Timestamp};

use crate::score::{ChannelClass, Placement, Question, Weights};
use cache::KeptPeer;
use peer::Peer;
use places::Scope;
use recovery::Recovery;
use spread::Spread;

pub use directory::{Directory, Listed, MAX_PEERS};
pub use policy::{Counts, Hysteresis, Kind, PeerPolicy, kind_of_roles};
pub use recovery::Step;
pub use status::{Availability, PeerStatus, Standing};

/// How often promotions and demotions are thought about; spread by a fifth.
pub const REVIEW: std::time::Duration = std::time::Duration::from_secs(10);
/// How often a changed cache is written, at most.
pub const PERSIST_EVERY: std::time::Duration = std::time::Duration::from_secs(60);
/// The most questions to peers that are not connected, at once.
pub const MAX_PARALLEL: usize = 4;
/// The most effects that wait to be performed: what one input leads to is far less.
pub const MAX_EFFECTS: usize = 4_096;
/// What whoever is kept near is weighed for.
const COMPANY: ChannelClass = ChannelClass::Interactive;

/// How close a peer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// Connected, or being connected.
    Active,
    /// Answered lately: the next to be promoted.
    Warm,
    /// Named by the directory, and no more than that.
    Cold,
}

/// What a peer says of itself when it answers. It can lower what the peer is worth, and not raise it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Said {
    /// Of 1,000, how much of what it can forward is taken.
    pub load: u16,
    pub bandwidth_kbps: u32,
}

/// What was sent to a peer since it last answered, and how much of that did not arrive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Packets {
    pub sent: u64,
    pub lost: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// What the disk held; before the first directory, or never.
    Restore(Vec<KeptPeer>),
    /// The policy from now on: another one when the node's roles changed, or what the platform says.
    Policy(PeerPolicy),
    /// What the newest snapshot says. `at` is its moment on the calendar.
    Directory { directory: Directory, at: Timestamp },
    /// A peer answered a heartbeat or a probe; the handshake proved its key.
    Answered {
        node: NodeId,
        rtt_us: u32,
        /// What it said of itself, if it did.
        said: Option<Said>,
        /// `None` where nobody counts them, as on TCP: what was counted before says nothing of it.
        packets: Option<Packets>,
        certificate_until: Timestamp,
        at: Timestamp,
    },
    /// A peer did not answer.
    Missed { node: NodeId },
    /// A peer is there and takes nobody more.
    Full { node: NodeId },
    /// The connection to an active peer is gone.
    Lost { node: NodeId },
    /// How a probe through a relay ended: the whole round trip, or nothing.
    Through { relay: NodeId, target: NodeId, rtt_us: Option<u32> },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Ask an active peer whether it is there, over a connection that stays.
    Heartbeat { node: NodeId },
    /// Ask a peer once; the connection need not stay.
    Probe { node: NodeId },
    /// Let the connection to a former active peer go.
    Release { node: NodeId },
    /// Set up a real flow through the relay, and shake hands with the target over it.
    ProbeThrough { relay: NodeId, target: NodeId },
    /// Ask for the newest snapshot.
    Refresh,
    /// No peer answers: ask wherever configuration is given out.
    Discover,
    /// Recovery is at this step; `None` when somebody answers again.
    Recovering(Option<Step>),
    /// Keep this in the place of the cache on disk.
    Persist(Vec<u8>),
}

/// The machine. Feed an input or the time, drain the effects, arm a timer.
pub struct PeerBook {
    policy: PeerPolicy,
    spread: Spread,
    directory: Option<Directory>,
    /// Those of the relays that it names, the ones that have a place first.
    scopes: Vec<Scope>,
    kept: BTreeMap<NodeId, KeptPeer>,
    peers: BTreeMap<NodeId, Peer>,
    active: BTreeSet<NodeId>,
    warm: BTreeSet<NodeId>,
    /// Cold peers that were asked.
    asked: BTreeSet<NodeId>,
    recovery: Option<Recovery>,
    /// A moment and what the calendar said then.
    calendar: (Moment, Timestamp),
    review_at: Moment,
    /// Nobody is exchanged before this.
    swap_after: Moment,
    refresh_at: Moment,
    persist_at: Option<Moment>,
    effects: VecDeque<Effect>,
}

impl PeerBook {
    /// `seed` is random bits: what it spreads in time differs from node to node.
    pub fn new(policy: PeerPolicy, seed: u64) -> Self {
        Self {
            policy,
            spread: Spread::new(seed),
            directory: None,
            scopes: Vec::new(),
            kept: BTreeMap::new(),
            peers: BTreeMap::new(),
            active: BTreeSet::new(),
            warm: BTreeSet::new(),
            asked: BTreeSet::new(),
            recovery: None,
            calendar: (Moment::default(), Timestamp::default()),
            review_at: Moment::default(),
            swap_after: Moment::default(),
            refresh_at: Moment::default(),
            persist_at: None,
            effects: VecDeque::new(),
        }
    }

    pub fn handle_input(&mut self, now: Moment, input: Input) {
        match input {
            Input::Restore(kept) => {
                self.kept = kept.into_iter().map(|peer| (peer.node_id, peer)).collect();
            }
            Input::Policy(policy) => self.obey(now, policy),
            Input::Directory { directory, at } => {
                self.calendar = (now, at);
                self.take_up(now, directory);
            }
            Input::Answered { node, rtt_us, said, packets, certificate_until, at } => {
                self.calendar = (now, at);
                self.answered(now, node, (rtt_us, said, packets), certificate_until, at);
            }
            Input::Missed { node } => self.missed(now, node),
            Input::Full { node } => self.full(now, node),
            Input::Lost { node } => self.lost(now, node),
            Input::Through { relay, target, rtt_us } => self.through(now, relay, target, rtt_us),
        }
        self.recover(now);
    }

    /// To be called at or after the moment that [`Self::poll_timeout`] named; calling it earlier
    /// changes nothing.
    pub fn handle_timeout(&mut self, now: Moment) {
        if self.directory.is_none() {
            return;
        }
        let due = self.due(now);
        self.count_overdue(now, &due);
        self.ask_what_is_due(now, &due);
        if self.review_at <= now {
            self.review_at = now + self.spread.around(REVIEW, 20);
            self.review(now);
        }
        if self.refresh_at <= now {
            self.refresh_at = now + self.spread.around(self.policy.refresh, 20);
            self.say(Effect::Refresh);
        }
        if self.persist_at.is_some_and(|at| at <= now) {
            self.persist_at = None;
            self.persist();
        }
        self.recover(now);
    }

    pub fn poll_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    pub fn poll_timeout(&self) -> Option<Moment> {
        self.directory.as_ref()?;
        // A cold peer that nobody asked waits for nothing, and looking is cheaper than finding.
        self.peers
            .values()
            .filter_map(Peer::poll_timeout)
            .chain(self.persist_at)
            .chain(self.recovery_timeout())
            .chain([self.review_at, self.refresh_at])
            .min()
    }

    /// What this node asks of the ones that it keeps near: company, and nothing for anybody.
    fn company(&self, now: Moment) -> Question<'_> {
        let directory = self.directory.as_ref().expect("there are peers, so there is a directory");
        Question {
            now: self.calendar_at(now),
            cluster: directory.cluster,
            organization: None,
            role: None,
            relayed: None,
            placement: Placement::Anywhere,
            authority_epoch: directory.authority_epoch,
            // Whoever is isolated needs its peers more than others.
            authority: Authority::Unheard,
            class: COMPANY,
            region: directory.region.as_ref(),
        }
    }

    /// What makes one of them better company than another.
    const fn company_weights(&self) -> &Weights {
        self.policy.weights.weights(COMPANY)
    }

    fn calendar_at(&self, now: Moment) -> Timestamp {
        let (moment, timestamp) = self.calendar;
        timestamp + now.since(moment)
    }

    fn say(&mut self, effect: Effect) {
        // A driver that drains after each input never gets here.
        if self.effects.len() < MAX_EFFECTS {
            self.effects.push_back(effect);
        }
    }

    fn persist(&mut self) {
        let bytes = cache::encode(&self.keep());
        self.say(Effect::Persist(bytes));
    }

    fn changed(&mut self, now: Moment) {
        self.persist_at.get_or_insert(now + PERSIST_EVERY);
    }
}

#[cfg(test)]
mod tests;
