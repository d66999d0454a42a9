//! What people want of the connections, as the state tells it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use rap_proto::{
    Generation, NodeId, VpnConnectionId,
    bus::{LeaseReport, MAX_REPORTED_CONNECTIONS, ReportedConnection},
};

use super::{Desired, Readiness, carriers, carriers::connectors, is_wanted};
use crate::state::{HeldLease, State, VpnConnection};

/// All of it at one position of the log.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Wishes {
    pub desired: BTreeMap<VpnConnectionId, Desired>,
    /// The nodes that take nothing new and give up what they have.
    pub draining: BTreeSet<NodeId>,
    /// Of each connection's stream. Taken before the lease table is read, a revision is never
    /// newer than what the table shows, and a command over an older one is refused.
    pub revisions: BTreeMap<VpnConnectionId, u64>,
    /// The timeline of the database whose losses somebody gave up last.
    pub loss_accepted: Option<u64>,
}

/// All nodes are looked at once for each organization, and not for each connection: it is asked at
/// every change of the state.
pub fn wishes(state: &State) -> Wishes {
    let mut of_any = BTreeMap::new();
    let mut nodes = |found: &VpnConnection| {
        if !found.nodes.is_empty() {
            return carriers(state, found).map(|node| node.id).collect();
        }
        let organization = found.organization;
        let all = || connectors(state, organization).map(|node| node.id).collect();
        Arc::clone(of_any.entry(organization).or_insert_with(all))
    };
    let mut desired = |found: &VpnConnection| Desired {
        class: found.class,
        enabled: is_wanted(state, found),
        nodes: nodes(found),
        drain: found.lease.filter(|lease| lease.drain_requested).map(generation),
    };
    let connections = || state.vpn_connections().iter();
    let draining = state.nodes().approved().filter(|node| node.draining);
    Wishes {
        desired: connections().map(|found| (found.id, desired(found))).collect(),
        draining: draining.map(|node| node.id).collect(),
        revisions: connections().map(|found| (found.id, found.stamp.revision)).collect(),
        loss_accepted: state.authority().loss_accepted,
    }
}

impl Wishes {
    /// What of a node's report counts: the connections that it may carry, and not more than a
    /// report may hold.
    pub fn believe(
        &self,
        node: NodeId,
        report: &LeaseReport,
    ) -> BTreeMap<VpnConnectionId, Readiness> {
        let carried = |reported: &&ReportedConnection| {
            let desired = self.desired.get(&reported.connection);
            desired.is_some_and(|desired| desired.nodes.contains(&node))
        };
        let readiness = |reported: &ReportedConnection| {
            let ReportedConnection { connection, ready, floor, holding } = *reported;
            (connection, Readiness { ready, floor, holding })
        };
        let reported = report.connections.iter().take(MAX_REPORTED_CONNECTIONS);
        reported.filter(carried).map(readiness).collect()
    }
}

fn generation(lease: HeldLease) -> Generation {
    Generation::new(lease.generation)
}
