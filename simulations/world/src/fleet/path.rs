//! How entries come to have paths: the real order of attempts, and at each relay on the way the real
//! check of whoever asks it.

use rap_mesh_core::paths::{Attempt, Candidate};
use rap_proto::{
    Lane, NodeId, NodeRole,
    wire::hop::{MAX_HOPS, Onward},
};

use super::{
    EVERYBODY, HOP_COUNTS, HOPS, ONE_ALONE, RELAYS,
    faults::FaultMix,
    network::Welcome,
    node::{Next, id_of, index_of},
    scope::{ORGANIZATIONS, Scope},
    world::World,
};

impl World {
    /// Puts relays in a row before the first egress, where there are few enough of them to be tried
    /// in every order.
    pub(super) fn wall(&mut self, relays: &[usize]) {
        let FaultMix { behind, liar, full, .. } = self.stage.mix;
        let mut free: Vec<usize> = relays.to_vec();
        if full {
            free.remove(1);
        }
        if liar.is_some() {
            free.remove(0);
        }
        let egress = self.with_role(NodeRole::StreamWorker)[0];
        if relays.len() > MAX_HOPS || behind.min(free.len()) < 2 {
            return;
        }
        let mut row = Vec::new();
        while row.len() < behind && !free.is_empty() {
            row.push(free.swap_remove(self.stage.any(free.len())));
        }
        row.push(egress);
        self.stage.coverage.fault("an egress behind relays");
        self.stage.note(format_args!("{row:?} are in a row"));
        self.network.wall(row);
    }

    /// The egress that an entry leads to in this round of choices: the first two that it knows have
    /// their turns.
    pub(super) fn egress_of(&self, index: usize, round: usize) -> Option<usize> {
        let named = self.stage.checkers.named(index).iter().copied();
        let mut egresses = named.filter(|it| self.nodes[*it].role == NodeRole::StreamWorker);
        let first = egresses.next()?;
        Some(if round.is_multiple_of(2) { first } else { egresses.next().unwrap_or(first) })
    }

    /// Leads a lane of an organization over the first way to `egress` that is set up.
    pub(super) fn lead(
        &mut self,
        (index, organization): (usize, usize),
        egress: usize,
        ways: Vec<Candidate>,
    ) -> bool {
        let now = self.stage.now();
        for Attempt { candidate, .. } in self.nodes[index].plan(now, egress, ways) {
            let relays = over(candidate);
            self.stage.checkers.leads_over(now, index, organization, &relays);
            let is_up = self.sets_up(index, organization, egress, &relays);
            self.nodes[index].tried(now, egress, candidate, is_up);
            if is_up {
                self.hold(index, organization, relays);
                return true;
            }
        }
        self.let_go(index, organization);
        false
    }

    /// Counts what an entry leads over these from now on.
    pub(super) fn hold(&mut self, index: usize, organization: usize, relays: Vec<usize>) {
        if self.led.get(&(index, organization)) == Some(&relays) {
            return;
        }
        self.let_go(index, organization);
        for relay in &relays {
            self.network.hosts[*relay].carries += 1;
            let scoped = self.nodes[*relay].scope != Scope::Everybody;
            self.stage.coverage.count(RELAYS, if scoped { ONE_ALONE } else { EVERYBODY });
        }
        if let Some(count) = relays.len().checked_sub(1).and_then(|more| HOP_COUNTS.get(more)) {
            self.stage.coverage.count(HOPS, *count);
        }
        self.stage.checkers.goes_on_over(index, organization, relays.clone());
        self.led.insert((index, organization), relays);
    }

    pub(super) fn let_go(&mut self, index: usize, organization: usize) {
        self.stage.checkers.let_go(index, organization);
        for relay in self.led.remove(&(index, organization)).unwrap_or_default() {
            self.network.hosts[relay].carries -= 1;
        }
    }

    /// Whether each relay is reached by the one before it and passes it on, and the egress answers.
    fn sets_up(
        &mut self,
        index: usize,
        organization: usize,
        egress: usize,
        relays: &[usize],
    ) -> bool {
        let &[mut relay, ref onward @ ..] = relays else { return false };
        let mut asker = index;
        let mut asked = Onward {
            relays: onward.iter().copied().map(id_of).collect::<Vec<NodeId>>(),
            target: id_of(egress),
            lane: Lane::Interactive,
            organization: ORGANIZATIONS[organization],
        };
        let alone = onward.is_empty();
        for _ in relays {
            if !self.takes(relay, asker) {
                return false;
            }
            let now = self.stage.now();
            let Some(next) = self.nodes[relay].passes_on(now, asker, &asked, alone) else {
                return false;
            };
            let to = next.index();
            self.stage.checkers.passes_on(now, relay, (asker, to), organization);
            if self.network.swallows(relay, now, &mut self.stage.chance) {
                return false;
            }
            match next {
                Next::Relay(_, rest) => asked = rest,
                Next::Egress(_) => return self.reaches(relay, to),
            }
            (asker, relay) = (relay, to);
        }
        false
    }

    fn takes(&mut self, relay: usize, asker: usize) -> bool {
        self.reaches(asker, relay) && self.network.welcome(relay, asker, false) == Welcome::Taken
    }

    fn reaches(&mut self, one: usize, other: usize) -> bool {
        self.network.round_trip(one, other, &mut self.stage.chance)
    }
}

/// The relays that a way leads over.
pub(super) fn over(way: Candidate) -> Vec<usize> {
    way.relays().iter().copied().map(index_of).collect()
}
