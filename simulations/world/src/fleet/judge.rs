//! What every node must have when nothing fails.

use std::time::Duration;

use rap_mesh_core::peers::Availability;
use rap_proto::NodeRole;

use super::{
    checkers::CONVERGENCE,
    node::SimNode,
    scope::ORGANIZATIONS,
    world::{NORMAL, RELAY, World},
};

/// Whoever is connected was heard within this.
const FRESH: Duration = Duration::from_secs(30);

impl World {
    pub(super) fn judge(&mut self) {
        if self.stage.violation().is_some() {
            return;
        }
        let mut all = 0..self.nodes.len();
        let misled = |world: &mut Self, index| {
            (0..ORGANIZATIONS.len()).find_map(|organization| world.misled(index, organization))
        };
        let wrong = all.find_map(|index| self.lack(index).or_else(|| misled(self, index)));
        if let Some(detail) = wrong {
            self.stage.checkers.verdict.violated(CONVERGENCE, detail);
        }
    }

    /// What a node still lacks, though nothing fails.
    fn lack(&self, index: usize) -> Option<String> {
        let book = self.nodes[index].book()?;
        let alive = |other: usize| self.network.hosts[other].up;
        let open = self.stage.checkers.open(index);
        if let Some(dead) = open.iter().find(|other| !alive(**other)) {
            return Some(format!("node {index} holds on to {dead}, which is gone"));
        }
        let now = self.stage.now();
        let answered = &self.nodes[index].answered;
        let fresh = |other: &usize| {
            answered.get(other).copied().flatten().is_some_and(|at| now.since(at) < FRESH)
        };
        if let Some(silent) = open.iter().find(|other| !fresh(other)) {
            return Some(format!("node {index} has long heard nothing of {silent}"));
        }
        let reachable = self.useful(index).count();
        let relay = self.nodes[index].role == NodeRole::RelayNode;
        let least = if relay { RELAY.0 } else { NORMAL.0 }.min(reachable);
        if open.len() < least {
            let has = open.len();
            return Some(format!("node {index} has {has} peers of {least}, {reachable} are there"));
        }
        let says = book.standing().availability;
        if reachable > 0 && says != Availability::Available {
            return Some(format!("node {index} says {says:?}, and {reachable} are there"));
        }
        None
    }

    /// Whether an entry would lead a session of an organization through a relay that does not
    /// forward, though another one does.
    fn misled(&mut self, index: usize, organization: usize) -> Option<String> {
        if self.nodes[index].role != NodeRole::EntryNode {
            return None;
        }
        let is_relay = |other: usize| {
            let SimNode { role, scope, .. } = &self.nodes[other];
            *role == NodeRole::RelayNode && scope.covers(organization)
        };
        let somebody = self.useful(index).any(is_relay);
        let chosen = self.chosen_by(index, organization, self.stage.now())?;
        let lost = chosen.iter().find(|relay| {
            let host = &self.network.hosts[**relay];
            host.swallows || !host.up
        });
        let lost = lost.filter(|_| somebody)?;
        Some(format!("node {index} chose {lost}, which does not forward"))
    }

    /// Whom a node knows and can count on: no relay that swallows, and none that takes nobody.
    fn useful(&self, index: usize) -> impl Iterator<Item = usize> {
        let named = self.stage.checkers.named(index).iter().copied();
        named.filter(|other| {
            let host = &self.network.hosts[*other];
            host.up && !host.swallows && host.capacity == usize::MAX
        })
    }
}
