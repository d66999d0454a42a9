//! What an operator does after a database lost what was stored last, and decided to go on without it.

use std::collections::BTreeSet;

use rap_events::{
    Aggregate as _,
    authority::{Authority, AuthorityCommand},
    cluster::{Cluster, ClusterCommand},
    node::{Node, NodeCommand},
    vpn_connection::VpnConnection,
};
use rap_proto::NodeId;

use super::{Control, at_once};
use crate::{cast, turn::Turn};

impl Control {
    /// Revokes again whose revocation was lost, makes the log as long as it ever was, so that every
    /// node's snapshot becomes newer than what it has, and gives up the grants that were lost.
    ///
    /// # Panics
    /// When the log cannot be reached, or refuses.
    pub fn make_good(&mut self, turn: &mut Turn<'_>, highest: u64, revoked: &BTreeSet<NodeId>) {
        let now = turn.now;
        let approved = |node: &&NodeId| {
            let found = self.state().and_then(|state| state.nodes().get(**node));
            found.is_some_and(|found| found.is_approved())
        };
        let again: Vec<NodeId> = revoked.iter().filter(approved).copied().collect();
        for node in again {
            let revoke = NodeCommand::Revoke { note: String::new() };
            self.run::<Node>(now, node.uuid(), revoke).expect("its revocation was lost");
        }
        let page = self.leases.read_leases(VpnConnection::CATEGORY, None, 1);
        let timeline = at_once(page).expect("the primary is up").at.timeline;
        let accept = AuthorityCommand::AcceptLoss { timeline };
        self.run::<Authority>(now, cast::CLUSTER.uuid(), accept).expect("it is a new timeline");
        // Once at least: a log that has grown past what was lost may have said nothing new to a node.
        loop {
            let renew = ClusterCommand::RenewSnapshots;
            self.run::<Cluster>(now, cast::CLUSTER.uuid(), renew).expect("the log is there");
            if at_once(self.log.head()).expect("the primary is up") > highest {
                break;
            }
        }
        self.settle(turn);
    }
}
