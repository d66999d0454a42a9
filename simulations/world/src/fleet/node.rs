//! One node of the fleet: the real peer book, and what its shell would do around it.

use std::collections::{BTreeMap, BTreeSet};

use rap_mesh_core::{
    peers::{Counts, Directory, Effect, Hysteresis, Input, Kind, PeerBook, PeerPolicy, cache},
    score::{ChannelClass, Placement, Policy, Question, rank},
};
use rap_proto::{
    Authority, ClusterId, Digest, Moment, Name, NodeId, NodeRole, OrganizationId, Preference,
    Timestamp,
    snapshot::{RoleScope, StalePolicy},
};

use super::mutation::Mutation;

pub const CLUSTER: ClusterId = ClusterId::from_u128(1);
pub const ORGANIZATION: OrganizationId = OrganizationId::from_u128(1);

pub struct SimNode {
    pub index: usize,
    pub role: NodeRole,
    mutation: Option<Mutation>,
    policy: PeerPolicy,
    /// `None` while it is down.
    book: Option<PeerBook>,
    /// Which run this is: answers to an earlier one go nowhere.
    pub boot: u32,
    pub armed: Option<Moment>,
    disk: Option<Vec<u8>>,
    /// When each connection that was asked for was answered last.
    pub answered: BTreeMap<usize, Option<Moment>>,
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

pub fn roles(role: NodeRole) -> Vec<RoleScope> {
    vec![RoleScope { role, organizations: None }]
}

pub fn region_name(region: usize) -> Option<Name> {
    format!("r{region}-a").parse().ok()
}

/// The calendar of the world; everybody agrees on it.
pub fn calendar(now: Moment) -> Timestamp {
    Timestamp::from_unix_millis(i64::try_from(now.micros() / 1_000).unwrap_or(i64::MAX))
}

impl SimNode {
    pub fn new(index: usize, role: NodeRole, mutation: Option<Mutation>) -> Self {
        let kind = if role == NodeRole::RelayNode { Kind::Relay } else { Kind::Normal };
        let mut policy = PeerPolicy::of(kind);
        match mutation {
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
            _ => {}
        }
        Self {
            index,
            role,
            mutation,
            policy,
            book: None,
            boot: 0,
            armed: None,
            disk: None,
            answered: BTreeMap::new(),
        }
    }

    pub fn is_up(&self) -> bool {
        self.book.is_some()
    }

    pub fn book(&self) -> Option<&PeerBook> {
        self.book.as_ref()
    }

    /// Starts with what is on the disk and the directory of the moment.
    pub fn boot(&mut self, now: Moment, seed: u64, mut directory: Directory) {
        self.boot += 1;
        self.armed = None;
        self.answered.clear();
        let mut book = PeerBook::new(self.policy, Policy::default(), seed);
        if let Some(kept) = self.disk.as_ref().and_then(|bytes| cache::decode(bytes).ok()) {
            if self.planted(Mutation::CacheIsTruth) {
                believe(&mut directory, &kept);
            }
            book.handle_input(now, Input::Restore(kept));
        }
        book.handle_input(now, Input::Directory { directory, at: calendar(now) });
        self.book = Some(book);
    }

    pub fn crash(&mut self) {
        self.book = None;
        self.armed = None;
    }

    pub fn handle(&mut self, now: Moment, input: Input) {
        let ignored =
            self.planted(Mutation::WithdrawalIgnored) && matches!(input, Input::Directory { .. });
        if let Some(book) = &mut self.book
            && !ignored
        {
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

    /// The relay that it would lead a session through.
    pub fn choose(&self, now: Moment) -> Option<usize> {
        let book = self.book.as_ref()?;
        let role = (!self.planted(Mutation::RoleNotChecked)).then_some(NodeRole::RelayNode);
        let question = Question {
            now: calendar(now),
            cluster: CLUSTER,
            organization: Some(ORGANIZATION),
            role,
            placement: Placement::Anywhere,
            authority_epoch: 1,
            authority: Authority::Healthy,
            class: ChannelClass::Interactive,
            region: None,
        };
        let policy = Policy::default();
        let candidates: Vec<_> = book.path_candidates().collect();
        let best = rank(&question, policy.weights(question.class), &candidates, 1);
        best.first().map(|ranked| index_of(ranked.node))
    }

    pub fn planted(&self, mutation: Mutation) -> bool {
        self.mutation == Some(mutation)
    }
}

/// Lists whom a cache names as well.
fn believe(directory: &mut Directory, kept: &[cache::KeptPeer]) {
    let named: BTreeSet<NodeId> = directory.listed.iter().map(|listed| listed.node).collect();
    for peer in kept.iter().filter(|peer| !named.contains(&peer.node_id)) {
        directory.listed.push(rap_mesh_core::peers::Listed {
            node: peer.node_id,
            key: peer.fingerprint,
            roles: peer.roles.iter().flat_map(|role| roles(*role)).collect(),
            addresses: peer.endpoint_candidates.clone(),
            region: peer.region.clone(),
            preference: Preference::Neutral,
        });
    }
}

/// What a directory is made of that is the same for all.
pub fn directory(own: usize, role: NodeRole, region: usize, version: u64) -> Directory {
    Directory {
        cluster: CLUSTER,
        own: id_of(own),
        own_roles: roles(role),
        region: region_name(region),
        authority_epoch: 1,
        version,
        stale_policy: StalePolicy::KeepSessions,
        listed: Vec::new(),
    }
}
