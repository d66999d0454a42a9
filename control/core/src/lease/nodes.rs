//! What the nodes last said of themselves.

use std::collections::{BTreeMap, BTreeSet};

use rap_proto::{Generation, Moment, NodeId, VpnConnectionId};

use super::{MAX_NODES, READY_FOR};

/// What one node says of one connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Readiness {
    /// It would take over: its driver was probed, and nothing is activated for that.
    pub ready: bool,
    /// The newest generation that it agreed to.
    pub floor: Generation,
    /// The generation that it holds.
    pub holding: Option<Generation>,
}

#[derive(Debug, Default)]
pub struct Nodes {
    reports: BTreeMap<NodeId, Reported>,
    draining: BTreeSet<NodeId>,
}

#[derive(Debug)]
struct Reported {
    at: Moment,
    connections: BTreeMap<VpnConnectionId, Readiness>,
}

impl Nodes {
    /// Takes a report. When there are too many nodes, those that have fallen silent make room;
    /// if none has, the report is left out.
    pub(super) fn reported(
        &mut self,
        now: Moment,
        node: NodeId,
        connections: BTreeMap<VpnConnectionId, Readiness>,
    ) {
        if self.reports.len() >= MAX_NODES && !self.reports.contains_key(&node) {
            self.reports.retain(|_, report| now.since(report.at) < READY_FOR);
        }
        if self.reports.len() < MAX_NODES || self.reports.contains_key(&node) {
            self.reports.insert(node, Reported { at: now, connections });
        }
    }

    pub(super) fn drain(&mut self, node: NodeId, draining: bool) {
        if draining {
            self.draining.insert(node);
        } else {
            self.draining.remove(&node);
        }
    }

    pub fn drains(&self, node: NodeId) -> bool {
        self.draining.contains(&node)
    }

    /// Whether a node that was heard lately would take this connection over.
    pub fn is_ready(&self, now: Moment, node: NodeId, connection: VpnConnectionId) -> bool {
        let fresh = self.reports.get(&node).filter(|report| now.since(report.at) < READY_FOR);
        let ready = fresh.and_then(|report| report.connections.get(&connection));
        ready.is_some_and(|readiness| readiness.ready) && !self.drains(node)
    }

    /// Whether the node said that it holds this generation.
    pub fn holds(&self, node: NodeId, connection: VpnConnectionId, generation: Generation) -> bool {
        let report = self.reports.get(&node).and_then(|found| found.connections.get(&connection));
        report.is_some_and(|readiness| readiness.holding == Some(generation))
    }

    /// The highest generation of each connection that any node agreed to.
    pub(super) fn floors(&self) -> BTreeMap<VpnConnectionId, Generation> {
        let mut floors = BTreeMap::new();
        for report in self.reports.values() {
            for (connection, readiness) in &report.connections {
                let floor: &mut Generation = floors.entry(*connection).or_default();
                *floor = readiness.floor.max(*floor);
            }
        }
        floors
    }
}
