//! What every node must have when nothing fails.

use std::time::Duration;

use rap_mesh_core::peers::{Availability, Class};
use rap_proto::NodeRole;

use super::{
    checkers::{CONVERGENCE, MOST_RELAYS},
    lie::Lie,
    node::{SimNode, index_of},
    path::over,
    scope::ORGANIZATIONS,
    world::World,
};

/// Whoever is connected was heard within this.
const FRESH: Duration = Duration::from_secs(30);

impl World {
    pub(super) fn judge(&mut self) {
        if self.stage.violation().is_some() {
            return;
        }
        self.stage.checkers.obeyed(self.stage.now());
        let mut all = 0..self.nodes.len();
        let misled = |world: &mut Self, index| {
            let mut organizations = 0..ORGANIZATIONS.len();
            organizations.find_map(|organization| {
                let unserved = world.unserved(index, organization);
                let misled = || world.misled(index, organization);
                unserved.or_else(misled).or_else(|| world.stranded(index, organization))
            })
        };
        let wrong = all.find_map(|index| self.lack(index).or_else(|| misled(self, index)));
        if let Some(detail) = wrong {
            self.stage.checkers.verdict.violated(CONVERGENCE, detail);
        }
    }

    /// What a node still lacks, though nothing fails.
    fn lack(&self, index: usize) -> Option<String> {
        let book = self.nodes[index].book()?;
        let reachable = self.useful(index).count();
        if reachable == 0 {
            // It goes on asking everybody.
            return None;
        }
        let alive = |other: usize| self.network.hosts[other].up;
        let open = self.stage.checkers.open(index);
        if let Some(dead) = open.iter().find(|other| !alive(**other)) {
            return Some(format!("node {index} holds on to {dead}, which is gone"));
        }
        let now = self.stage.now();
        let answered = &self.nodes[index].answered;
        let fresh =
            |other: &usize| answered.get(other).is_some_and(|heard| now.since(heard.at) < FRESH);
        if let Some(silent) = open.iter().find(|other| !fresh(other)) {
            return Some(format!("node {index} has long heard nothing of {silent}"));
        }
        // Who has just found a relay that forwards now and then has not replaced it yet.
        let in_turns = self.stage.drawn.liar.is_some_and(|lie| lie != Lie::SwallowsAll);
        let least = self.counts(index).0.min(reachable).saturating_sub(usize::from(in_turns));
        if open.len() < least {
            let has = open.len();
            return Some(format!("node {index} has {has} peers of {least}, {reachable} are there"));
        }
        let says = book.standing().availability;
        if says != Availability::Available {
            return Some(format!("node {index} says {says:?}, and {reachable} are there"));
        }
        None
    }

    /// Whether a node keeps no relay near for an organization that it serves, though one is there.
    fn unserved(&self, index: usize, organization: usize) -> Option<String> {
        let book = self.nodes[index].book()?;
        let is_for = |other: usize| self.is_relay_for(other, organization);
        let is_due = self.nodes[index].scope.covers(organization) && self.useful(index).any(is_for);
        let near = book.status(self.stage.now()).into_iter().any(|peer| {
            peer.class != Class::Cold && peer.forwards != Some(false) && is_for(index_of(peer.node))
        });
        (is_due && !near).then(|| format!("node {index} keeps no relay near for {organization}"))
    }

    /// Whether an entry would lead a session of an organization through a relay that does not
    /// forward, as a probe showed or as it is down, though another one does. One that it never came to
    /// probe through may look better than one that is far and busy: the path over it is not set up.
    fn misled(&mut self, index: usize, organization: usize) -> Option<String> {
        if self.nodes[index].role != NodeRole::EntryNode {
            return None;
        }
        let somebody = self.useful(index).any(|other| self.is_relay_for(other, organization));
        let (now, egress) = (self.stage.now(), self.egress_of(index, 0)?);
        let chosen =
            self.nodes[index].ways(now, organization, egress).first().copied().map(over)?;
        let lost = chosen.iter().find(|relay| {
            let host = &self.network.hosts[**relay];
            let is_found = self.stage.checkers.has_found(now, index, **relay);
            host.lie == Some(Lie::SwallowsAll) && is_found || !host.up
        });
        let lost = lost.filter(|_| somebody)?;
        Some(format!("node {index} chose {lost}, which does not forward"))
    }

    /// Whether an entry has no path to an egress, though relays in a row would lead there.
    fn stranded(&mut self, index: usize, organization: usize) -> Option<String> {
        let node = &self.nodes[index];
        if node.role != NodeRole::EntryNode || !node.is_up() || !self.is_whole {
            return None;
        }
        let egresses = [self.egress_of(index, 0)?, self.egress_of(index, 1)?];
        let sound = self.stage.checkers.named(index).iter().copied();
        let sound = sound.filter(|it| self.is_sound(*it) && self.is_relay_for(*it, organization));
        let relays: Vec<usize> = sound.collect();
        egresses.into_iter().find_map(|egress| {
            // Several in a row begin with one that is known to forward: who was not reached for long
            // may be in no chain that is tried.
            let leads = |first: &usize| {
                !self.network.is_walled(index, *first)
                    && (!self.network.is_walled(*first, egress)
                        || self.stage.checkers.saw_forward(index, *first)
                            && self.is_led(*first, egress, (&relays, MOST_RELAYS - 1)))
            };
            let due = self.network.hosts[egress].up && relays.iter().any(leads);
            let stranded = due && {
                let ways = self.nodes[index].ways(self.stage.now(), organization, egress);
                !self.lead((index, organization), egress, ways)
            };
            stranded.then(|| format!("node {index} finds no path to {egress} over {relays:?}"))
        })
    }

    /// Whether at most so many of these relays lead from one node to another.
    fn is_led(&self, from: usize, to: usize, (relays, most): (&[usize], usize)) -> bool {
        let mut next = relays.iter().filter(|relay| !self.network.is_walled(from, **relay));
        most > 0
            && next.any(|relay| {
                !self.network.is_walled(*relay, to) || self.is_led(*relay, to, (relays, most - 1))
            })
    }

    /// Whom a node knows, reaches and can count on.
    fn useful(&self, index: usize) -> impl Iterator<Item = usize> {
        let named = self.stage.checkers.named(index).iter().copied();
        named.filter(move |it| self.is_sound(*it) && !self.network.is_walled(index, *it))
    }

    /// Whoever is there, does not lie, and takes everybody.
    fn is_sound(&self, index: usize) -> bool {
        let host = &self.network.hosts[index];
        host.up && host.lie.is_none() && host.capacity == usize::MAX
    }

    fn is_relay_for(&self, index: usize, organization: usize) -> bool {
        let SimNode { role, scope, .. } = &self.nodes[index];
        *role == NodeRole::RelayNode && scope.covers(organization)
    }
}
