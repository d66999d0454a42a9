//! One node of the fleet: the real peer book, and what its shell would do around it.

mod ways;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use rap_mesh_core::{
    View,
    paths::PathBook,
    peers::{
        Counts, Directory, Effect, Hysteresis, Input, Kind, Listed, PeerBook, PeerPolicy, cache,
    },
    score::Decisions,
};
use rap_proto::{
    ClusterId, Digest, LaneSet, Moment, NodeId, NodeRole, Preference, Timestamp, mesh::Mesh,
};

use super::{mutation::Mutation, scope::Scope};

pub use ways::Next;

pub const CLUSTER: ClusterId = ClusterId::from_u128(1);

pub struct SimNode {
    pub index: usize,
    pub role: NodeRole,
    pub scope: Scope,
    mutation: Option<Mutation>,
    /// `None` while it is down, as what it was told.
    book: Option<PeerBook>,
    view: Option<Arc<View>>,
    decisions: Decisions,
    paths: PathBook,
    /// Which run this is: answers to an earlier one go nowhere.
    pub boot: u32,
    pub armed: Option<Moment>,
    disk: Option<Vec<u8>>,
    /// The relays through which a probe arrived once.
    pub forwarded: BTreeSet<usize>,
    /// What is heard of each connection that was asked for.
    pub answered: BTreeMap<usize, Heard>,
}

#[derive(Debug, Clone, Copy)]
pub struct Heard {
    /// When it was answered last, or first asked for.
    pub at: Moment,
    pub is_open: bool,
}

/// The number that a node is drawn from.
pub fn id_of(index: usize) -> NodeId {
    NodeId::from_u128(1 + index as u128)
}

pub fn index_of(node: NodeId) -> usize {
    usize::try_from(node.uuid().as_u128() - 1).unwrap_or(usize::MAX)
}

pub fn key_of(index: usize) -> Digest {
    Digest::of(&index.to_be_bytes())
}

/// The calendar of the world; everybody agrees on it.
pub fn calendar(now: Moment) -> Timestamp {
    Timestamp::from_unix_millis(i64::try_from(now.micros() / 1_000).unwrap_or(i64::MAX))
}

impl SimNode {
    pub fn new(index: usize, (role, scope): (NodeRole, Scope), mutation: Option<Mutation>) -> Self {
        Self {
            index,
            role,
            scope,
            mutation,
            book: None,
            view: None,
            decisions: Decisions::default(),
            paths: PathBook::default(),
            boot: 0,
            armed: None,
            disk: None,
            forwarded: BTreeSet::new(),
            answered: BTreeMap::new(),
        }
    }

    pub fn is_up(&self) -> bool {
        self.book.is_some()
    }

    pub fn book(&self) -> Option<&PeerBook> {
        self.book.as_ref()
    }

    /// Starts with what is on the disk and the snapshot of the moment.
    pub fn boot(&mut self, now: Moment, seed: u64, view: Arc<View>) {
        let mut directory = self.directory(&view);
        self.boot += 1;
        self.armed = None;
        self.answered.clear();
        self.forwarded.clear();
        self.paths.clear();
        let mut book = PeerBook::new(self.policy(&view.mesh), seed);
        if let Some(kept) = self.disk.as_ref().and_then(|bytes| cache::decode(bytes).ok()) {
            if self.planted(Mutation::CacheIsTruth) {
                believe(&mut directory, &kept);
            }
            book.handle_input(now, Input::Restore(kept));
        }
        book.handle_input(now, Input::Directory { directory, at: calendar(now) });
        self.book = Some(book);
        self.view = Some(view);
    }

    /// What a newer snapshot says of peers, which its shell tells the book first, and sees to what
    /// follows.
    pub fn obey(&mut self, now: Moment, mesh: &Mesh) {
        if !self.planted(Mutation::WithdrawalIgnored) {
            self.handle(now, Input::Policy(self.policy(mesh)));
        }
    }

    /// A newer snapshot, as its shell hands it to the mesh and to the book.
    pub fn take(&mut self, now: Moment, view: Arc<View>) {
        if self.is_up() && !self.planted(Mutation::WithdrawalIgnored) {
            let directory = self.directory(&view);
            self.view = Some(view);
            self.handle(now, Input::Directory { directory, at: calendar(now) });
        }
    }

    pub fn crash(&mut self) {
        self.book = None;
        self.view = None;
        self.armed = None;
    }

    pub fn handle(&mut self, now: Moment, input: Input) {
        if let Some(book) = &mut self.book {
            book.handle_input(now, input);
        }
    }

    pub fn handle_timeout(&mut self, now: Moment) {
        if let Some(book) = &mut self.book {
            book.handle_timeout(now);
        }
    }

    pub fn poll_effect(&mut self) -> Option<Effect> {
        let effect = self.book.as_mut()?.poll_effect()?;
        if let Effect::Persist(bytes) = &effect {
            self.disk = Some(bytes.clone());
        }
        if let Effect::Recovering(Some(step)) = effect
            && self.planted(Mutation::StepsSkipped)
            && step == rap_mesh_core::peers::Step::Active
        {
            return self.poll_effect();
        }
        Some(effect)
    }

    pub fn poll_timeout(&self) -> Option<Moment> {
        self.book.as_ref()?.poll_timeout()
    }

    /// Whether it takes a relay for one that forwards, whatever becomes of its probe.
    pub fn believes(&self, relay: usize) -> bool {
        self.planted(Mutation::ThroughSkipped)
            || self.planted(Mutation::ForwardedOnce) && self.forwarded.contains(&relay)
    }

    fn directory(&self, view: &View) -> Directory {
        let mut directory = Directory::of_view(view);
        if self.planted(Mutation::PlacesShared) {
            // What is led over them is chosen by the view.
            let roles = directory.listed.iter_mut().flat_map(|listed| &mut listed.roles);
            roles.for_each(|role| role.organizations = None);
        }
        directory
    }

    fn policy(&self, mesh: &Mesh) -> PeerPolicy {
        let kind = if self.role == NodeRole::RelayNode { Kind::Relay } else { Kind::Normal };
        let mut policy = PeerPolicy::told(kind, mesh);
        match self.mutation {
            Some(Mutation::BoundDoubled) => {
                let Counts { least_active, most_active, .. } = policy.counts;
                policy.counts.least_active = least_active * 2;
                policy.counts.most_active = most_active * 2;
            }
            Some(Mutation::NoHysteresis) => {
                let none = std::time::Duration::ZERO;
                policy.hysteresis = Hysteresis {
                    margin: 0,
                    confirmations: 0,
                    tenure: none,
                    pause: none,
                    first_rest: none,
                    greatest_rest: none,
                };
            }
            Some(Mutation::RuleIgnored) => policy = PeerPolicy::of(kind),
            _ => {}
        }
        policy
    }

    pub fn planted(&self, mutation: Mutation) -> bool {
        self.mutation == Some(mutation)
    }
}

/// Lists whom a cache names as well.
fn believe(directory: &mut Directory, kept: &[cache::KeptPeer]) {
    let named: BTreeSet<NodeId> = directory.listed.iter().map(|listed| listed.node).collect();
    for peer in kept.iter().filter(|peer| !named.contains(&peer.node_id)) {
        directory.listed.push(Listed {
            node: peer.node_id,
            key: peer.fingerprint,
            roles: peer.roles.iter().map(|role| Scope::Everybody.of_role(*role)).collect(),
            addresses: peer.endpoint_candidates.clone(),
            region: peer.region.clone(),
            preference: Preference::Neutral,
            relayed_lanes: LaneSet::ALL,
        });
    }
}
