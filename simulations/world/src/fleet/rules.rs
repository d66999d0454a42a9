//! Rules that change while the fleet runs: how many peers nodes keep and what counts for a way, and
//! for whom a relay is one.

use std::time::Duration;

use rap_proto::{
    NodeRole,
    mesh::{
        ChannelClass, MOST_ACTIVE, Mesh, MeshRule, PartWeights, PeerCounts, PeerKind, weights_of,
    },
};

use crate::kit::Chance;

use super::{
    checkers::OBEYED_WITHIN,
    scope::{ORGANIZATIONS, Scope},
    world::{Event, NORMAL, RELAY, World},
};

/// Within this everybody is told of what changed.
pub(super) const TOLD_WITHIN: Duration = Duration::from_secs(5);

impl World {
    /// The platform says other counts and weights.
    pub(super) fn rule(&mut self) {
        let rule = draw(&mut self.stage.chance);
        assert!(rule.check().is_ok(), "the world says what may be said");
        self.stage.coverage.fault("other counts and weights");
        self.stage.note(format_args!("other counts: {:?}", rule.peers));
        self.mesh = Mesh::from(&rule);
        self.rule = rule;
        let most: Vec<usize> = (0..self.nodes.len()).map(|index| self.counts(index).1).collect();
        let now = self.stage.now();
        self.stage.checkers.ruled(now, &most);
        self.tell_of_change(|_, _| true);
    }

    /// A relay is given to others, and taken from some.
    pub(super) fn reassign(&mut self) {
        let relays = self.with_role(NodeRole::RelayNode);
        let relay = self.stage.chance.pick(&relays).copied().unwrap_or(0);
        let scope = Scope::draw(&mut self.stage.chance);
        if self.nodes[relay].scope == scope {
            return;
        }
        self.stage.coverage.fault("another scope");
        self.stage.note(format_args!("relay {relay} is for {scope:?}"));
        self.nodes[relay].scope = scope;
        let now = self.stage.now();
        self.stage.checkers.reassigned(now, relay, scope);
        self.tell_of_change(|world, node| node == relay || world.told[node].contains(&relay));
    }

    /// At least and at most so many connections a node keeps.
    pub(super) fn counts(&self, index: usize) -> (usize, usize) {
        let (kind, usual) = match self.nodes[index].role {
            NodeRole::RelayNode => (PeerKind::Relay, RELAY),
            _ => (PeerKind::Normal, NORMAL),
        };
        let said = self.rule.peers.get(&kind);
        said.map_or(usual, |counts| (usize::from(counts.least), usize::from(counts.most)))
    }

    /// Lets go of what leads over relays that a node's newest directory does not allow any more.
    pub(super) fn leave_forbidden(&mut self, index: usize) {
        for organization in 0..ORGANIZATIONS.len() {
            let relays = self.led.get(&(index, organization));
            if relays.is_some_and(|relays| !self.nodes[index].may_lead(organization, relays)) {
                self.let_go(index, organization);
            }
        }
    }

    fn tell_of_change(&mut self, concerns: impl Fn(&Self, usize) -> bool) {
        self.version += 1;
        for node in 0..self.nodes.len() {
            if concerns(self, node) {
                self.stage.within(Duration::ZERO, TOLD_WITHIN, Event::Directory(node));
            }
        }
        self.stage.after(OBEYED_WITHIN, Event::Obeyed);
    }
}

/// Any counts, and each weight a quarter more or less than usual at the most.
fn draw(chance: &mut Chance) -> MeshRule {
    let kinds = [(PeerKind::Normal, 4, 10), (PeerKind::Relay, 12, 32)];
    let peers = kinds.map(|(kind, least, warm)| (kind, counts(chance, least, warm)));
    let weights = ChannelClass::ALL.iter().map(|class| (*class, weights(*class, chance)));
    MeshRule { weights: weights.collect(), peers: peers.into() }
}

fn counts(chance: &mut Chance, greatest_least: u16, greatest_warm: u16) -> PeerCounts {
    let least = 1 + below(chance, greatest_least);
    let most = (least + 1 + below(chance, 4)).min(MOST_ACTIVE);
    PeerCounts { least, most, warm: 2 + below(chance, greatest_warm - 1) }
}

fn weights(class: ChannelClass, chance: &mut Chance) -> PartWeights {
    let usual = weights_of(class).into_iter();
    usual.map(|(part, weight)| (part, (weight * (75 + below(chance, 51)) / 100).max(1))).collect()
}

fn below(chance: &mut Chance, bound: u16) -> u16 {
    u16::try_from(chance.below(u64::from(bound))).unwrap_or(0)
}
