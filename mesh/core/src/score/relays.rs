//! The relays of a view in the order in which a path should try them.

use std::{cmp::Reverse, collections::BTreeMap};

use rap_proto::{Authority, NodeId, NodeRole, OrganizationId, Timestamp};

use super::{
    Candidate, ChannelClass, Explained, Identity, MAX_CANDIDATES, Measured, Placement, Policy,
    Preference, Question, Ranked, explain, rank,
};
use crate::{View, paths::spread_over};

/// Totals that differ by less are taken for equal: else the best relay carries everything.
pub const NEARLY_THE_SAME: u16 = 50;

/// Whether a path is for something that begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Use {
    New,
    /// Whether it may go on is the stale policy's to say; isolation alone takes no relay from it.
    Running,
}

/// Asks for an organization's relays. Who is one, the view says; `known` adds what was measured.
#[derive(Debug, Clone, Copy)]
pub struct RelayQuestion<'a> {
    pub view: &'a View,
    pub known: &'a BTreeMap<NodeId, Candidate>,
    pub policy: &'a Policy,
    pub organization: OrganizationId,
    pub class: ChannelClass,
    pub purpose: Use,
    pub now: Timestamp,
}

impl RelayQuestion<'_> {
    /// Every relay that may lead to `target`, best first. Where two are worth nearly the same, one
    /// target tries this one first and another target that one.
    pub fn order(&self, target: NodeId) -> Vec<Ranked> {
        let candidates = self.candidates();
        let weights = self.policy.weights(self.class);
        let ranked = rank(&self.question(), weights, &candidates, MAX_CANDIDATES);
        let totals: BTreeMap<NodeId, u16> =
            ranked.into_iter().map(|one| (one.node, one.total)).collect();
        let nodes = totals.keys().copied().filter(|node| *node != target);
        let mut spread = spread_over(self.view.node, target, nodes);
        spread.sort_by_key(|node| Reverse(totals[node] / NEARLY_THE_SAME));
        spread.into_iter().map(|node| Ranked { node, total: totals[&node] }).collect()
    }

    pub fn explain(&self) -> Vec<Explained> {
        let candidates = self.candidates();
        explain(&self.question(), self.policy.weights(self.class), &candidates)
    }

    fn question(&self) -> Question<'_> {
        Question {
            now: self.now,
            cluster: self.view.cluster,
            organization: Some(self.organization),
            role: Some(NodeRole::RelayNode),
            placement: Placement::Anywhere,
            authority_epoch: self.view.authority_epoch,
            authority: match self.purpose {
                Use::New => self.view.authority,
                Use::Running => Authority::Healthy,
            },
            class: self.class,
            region: None,
        }
    }

    fn candidates(&self) -> Vec<Candidate> {
        let others = self.view.relays(self.organization).filter(|it| it.node != self.view.node);
        others
            .map(|peer| {
                let known = self.known.get(&peer.node);
                let measured = known.map_or_else(Measured::default, |known| known.measured);
                let proven = known.is_some_and(|known| known.identity == Identity::Proven);
                Candidate {
                    node: peer.node,
                    cluster: self.view.cluster,
                    identity: if proven { Identity::Proven } else { Identity::Listed },
                    certificate_until: known.and_then(|known| known.certificate_until),
                    roles: peer.roles.clone(),
                    authority_epoch: self.view.authority_epoch,
                    region: known.and_then(|known| known.region.clone()),
                    preference: Preference::Neutral,
                    measured,
                }
            })
            .collect()
    }
}

#[cfg(test)]
mod tests;
