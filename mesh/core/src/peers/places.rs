//! The places that are kept for relays. As company a relay may be worth less than others nearby; but
//! only one that is kept near is probed through, and what was not tried may swallow.
//!
//! What one organization's relays are worth helps no other one. So of each scope one relay that leads
//! for it is kept active or warm, whoever has to become cold for that. Of more scopes than
//! [`Counts::most_warm`](super::Counts::most_warm) the first have such a place, the platform's before
//! all, and the organizations' in an order that differs from node to node.

use std::collections::BTreeSet;

use rap_proto::{Moment, NodeId, NodeRole, OrganizationId, mesh::MOST_WARM};

use super::{Class, Directory, PeerBook, peer::Peer, spread::place};
use crate::admission::scopes;

/// Whom a relay forwards for: one organization or, as one of the platform's, all of them.
pub(super) type Scope = Option<OrganizationId>;

/// The scopes of the relays that a directory names, as far as they are the node's own: those that have
/// a place before the others, and no more than any node has places for.
pub(super) fn scopes_by_rank(directory: &Directory) -> Vec<Scope> {
    let is_own = |organization: &OrganizationId| {
        directory.own_roles.iter().any(|role| role.covers(*organization))
    };
    let mut all: BTreeSet<(u64, Scope)> = BTreeSet::new();
    for listed in &directory.listed {
        for relay in scopes(&listed.roles, NodeRole::RelayNode) {
            let Some(organizations) = &relay.organizations else {
                all.insert((0, None));
                continue;
            };
            let own = organizations.iter().filter(|organization| is_own(organization));
            all.extend(own.map(|one| (place(directory.own, one.uuid().as_u64_pair()), Some(*one))));
        }
    }
    all.into_iter().map(|(_, scope)| scope).take(MOST_WARM.into()).collect()
}

impl PeerBook {
    pub(super) fn active_relays(&self) -> usize {
        self.active.iter().filter(|node| self.peers[*node].leads()).count()
    }

    /// How many of the relays' places are empty, or somebody else's.
    pub(super) fn lacking_relays(&self) -> usize {
        self.policy.counts.relays.saturating_sub(self.active_relays())
    }

    pub(super) fn lacks_relays(&self) -> bool {
        self.lacking_relays() > 0
    }

    /// Whether there are more relays than places that are kept for them.
    pub(super) fn spare_relay(&self) -> bool {
        self.active_relays() > self.policy.counts.relays
    }

    /// The scopes for which no relay leads that is near, `left_out` aside: of those that have a place,
    /// or of all when none leads for anybody.
    pub(super) fn missed_scopes(&self, left_out: Option<NodeId>) -> Vec<Scope> {
        let near = self.active.iter().chain(&self.warm).filter(|node| Some(**node) != left_out);
        let near: Vec<&Peer> = near.map(|node| &self.peers[node]).filter(|it| it.leads()).collect();
        let places = if near.is_empty() { self.scopes.len() } else { self.policy.counts.most_warm };
        let missed = |scope: &Scope| !near.iter().any(|relay| relay.is_relay_for(*scope));
        self.scopes.iter().take(places).copied().filter(missed).collect()
    }

    /// Whether a scope is without any relay near unless it is this one.
    fn is_needed(&self, node: NodeId) -> bool {
        let missed = self.missed_scopes(Some(node));
        missed.into_iter().any(|scope| self.peers[&node].is_relay_for(scope))
    }

    /// Whether relays are to be asked before others: too few are near.
    pub(super) fn seeks_relays(&self) -> bool {
        self.lacks_relays() || self.warm_relays() < self.policy.counts.relays
    }

    /// Makes a peer warm, if there is room, or it is its to take. Whether it did.
    pub(super) fn warm_up(&mut self, now: Moment, node: NodeId) -> bool {
        if self.warm.len() >= self.policy.counts.most_warm {
            let Some(least) = self.gives_way_to(now, node) else { return false };
            self.set_class(now, least, Class::Cold);
        }
        self.set_class(now, node, Class::Warm);
        true
    }

    /// The worst warm peer that sits in a relay's place, when a relay comes.
    fn gives_way_to(&self, now: Moment, node: NodeId) -> Option<NodeId> {
        let is_needed = self.is_needed(node);
        let comes = self.peers[&node].leads() && self.warm_relays() < self.policy.counts.relays;
        if !comes && !is_needed {
            return None;
        }
        let worst = |nodes: Vec<NodeId>| Some(self.best(now, &nodes, usize::MAX).last()?.node);
        let (relays, others) =
            self.warm.iter().copied().partition(|warm: &NodeId| self.peers[warm].leads());
        let spare = |relays: Vec<NodeId>| {
            relays.into_iter().filter(|relay| !self.is_needed(*relay)).collect()
        };
        worst(others).or_else(|| worst(spare(relays)).filter(|_| is_needed))
    }

    fn warm_relays(&self) -> usize {
        self.warm.iter().filter(|node| self.peers[*node].leads()).count()
    }
}
