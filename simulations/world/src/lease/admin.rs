//! What people want: which connections there are, who may hold them, which nodes drain.

use std::collections::{BTreeMap, BTreeSet};

use rap_control_core::lease::Desired;
use rap_proto::{LeaseClass, NodeId, VpnConnectionId};

use crate::kit::Chance;

/// The most connections that a run draws.
pub const MAX_CONNECTIONS: u64 = 2;

#[derive(Debug, Clone, Default)]
pub struct Wishes {
    pub connections: Vec<Wish>,
    pub draining: BTreeSet<usize>,
}

#[derive(Debug, Clone)]
pub struct Wish {
    pub class: LeaseClass,
    pub enabled: bool,
    /// By index, the preferred ones first.
    pub nodes: Vec<usize>,
}

pub fn connection_id(index: usize) -> VpnConnectionId {
    VpnConnectionId::from_u128(1 + index as u128)
}

pub fn connection_index(id: VpnConnectionId) -> usize {
    usize::try_from(id.uuid().as_u128() - 1).expect("one of few")
}

pub fn node_id(index: usize) -> NodeId {
    NodeId::from_u128(1 + index as u128)
}

pub fn node_index(id: NodeId) -> usize {
    usize::try_from(id.uuid().as_u128() - 1).expect("one of few")
}

impl Wishes {
    /// `steady` of 1,000 worlds have connections of that class.
    pub fn draw(nodes: usize, steady: u64, chance: &mut Chance) -> Self {
        let class = if chance.happens(steady) { LeaseClass::Steady } else { LeaseClass::Fast };
        let wish = |chance: &mut Chance| {
            let wish = Wish { class, enabled: true, nodes: (0..nodes).collect() };
            Self::shuffled(wish, chance)
        };
        let count = 1 + chance.below(MAX_CONNECTIONS);
        let connections = (0..count).map(|_| wish(chance)).collect();
        Self { connections, draining: BTreeSet::new() }
    }

    fn shuffled(mut wish: Wish, chance: &mut Chance) -> Wish {
        for place in (1..wish.nodes.len()).rev() {
            let other = usize::try_from(chance.below(place as u64 + 1)).unwrap_or(0);
            wish.nodes.swap(place, other);
        }
        wish
    }

    /// Somebody changes his mind; returns what about.
    pub fn change(&mut self, nodes: usize, chance: &mut Chance) -> &'static str {
        let any = |chance: &mut Chance, bound: usize| {
            usize::try_from(chance.below(bound as u64)).unwrap_or(0)
        };
        let connection = any(chance, self.connections.len());
        let node = any(chance, nodes);
        let wish = &mut self.connections[connection];
        match chance.below(8) {
            0 => {
                wish.enabled = !wish.enabled;
                "enabled or disabled"
            }
            1 => {
                let all = Wish { nodes: (0..nodes).collect(), ..wish.clone() };
                *wish = Self::shuffled(all, chance);
                // One node less may hold it, but never none.
                if nodes > 2 && chance.happens(500) {
                    wish.nodes.pop();
                }
                "allowed nodes"
            }
            _ if self.draining.remove(&node) => "drain ended",
            _ => {
                self.draining.insert(node);
                "drain"
            }
        }
    }

    /// At the end everything is wanted, and at most one node drains.
    pub fn settle(&mut self, nodes: usize, chance: &mut Chance) {
        self.draining.clear();
        for wish in &mut self.connections {
            wish.enabled = true;
            wish.nodes = (0..nodes).collect();
        }
        if chance.happens(500) {
            self.draining.insert(usize::try_from(chance.below(nodes as u64)).unwrap_or(0));
        }
    }

    pub fn classes(&self) -> Vec<LeaseClass> {
        self.connections.iter().map(|wish| wish.class).collect()
    }

    pub fn desired(&self) -> BTreeMap<VpnConnectionId, Desired> {
        let desired = |(index, wish): (usize, &Wish)| {
            let nodes = wish.nodes.iter().map(|node| node_id(*node)).collect();
            let (class, enabled) = (wish.class, wish.enabled);
            (connection_id(index), Desired { class, enabled, nodes, drain: None })
        };
        self.connections.iter().enumerate().map(desired).collect()
    }
}
