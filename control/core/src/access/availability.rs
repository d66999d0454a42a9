//! Whether a resource can be reached, in one word: all that an organization learns of the mesh.
//!
//! The word rests on what control knows anyway: who has which role, and who was heard. It names no
//! node, counts none, and knows nothing of relays and paths. A client that asks for access is judged
//! by the policies and never by the word.

mod words;

use std::time::Duration;

use rap_proto::{NodeId, NodeRole, OrganizationId, Timestamp, api::Availability};

use super::{LIVENESS_MS, Live};
use crate::state::{Node, Resource, State};
pub use words::Words;

/// What is known when the word is given.
pub struct Known<'a> {
    pub state: &'a State,
    /// What each node last said of itself.
    pub live: Box<dyn Fn(NodeId) -> Option<Live> + 'a>,
    /// Since when nodes are heard without a break: before that, nobody's silence means anything.
    pub listening_since: Timestamp,
    pub now: Timestamp,
    /// Whether control grants nothing at the moment.
    pub frozen: bool,
}

/// The words for one organization's resources.
pub struct Outlook<'a> {
    known: Known<'a>,
    organization: OrganizationId,
    /// Whether an entry of the organization takes clients.
    enters: bool,
}

impl<'a> Outlook<'a> {
    pub fn new(known: Known<'a>, organization: OrganizationId) -> Self {
        let is_entry =
            |node: &&Node| node.serves(NodeRole::EntryNode, organization) && has_address(node);
        let mut entries = known.state.nodes().approved().filter(is_entry);
        let enters = entries.any(|node| known.takes_new(node));
        Self { known, organization, enters }
    }

    /// Of a resource of another organization: unavailable, whatever is known of it.
    pub fn of(&self, resource: &Resource) -> Availability {
        let state = self.known.state;
        let is_ours = resource.organization == self.organization
            && state.organizations().is_active(self.organization);
        if !is_ours || !self.enters {
            return Availability::Unavailable;
        }
        let holder = match resource.carried {
            None => None,
            Some(connection) => {
                let lease = state.vpn_connections().get(connection).and_then(|found| found.lease);
                let Some(lease) = lease else { return Availability::Unavailable };
                Some(lease.node)
            }
        };
        let (mut there, mut gone) = (false, false);
        for egress in self.egresses(resource, holder) {
            let takes_new = self.known.takes_new(egress);
            there |= takes_new;
            gone |= !takes_new;
        }
        match (there, gone || self.known.frozen) {
            (false, _) => Availability::Unavailable,
            (true, true) => Availability::Degraded,
            (true, false) => Availability::Available,
        }
    }

    /// The nodes that are meant to reach a resource: of one that a connection carries, the `holder`
    /// of its lease alone.
    fn egresses(&self, resource: &Resource, holder: Option<NodeId>) -> impl Iterator<Item = &Node> {
        let in_pool = self.known.state.nodes().in_pool(resource.pool);
        in_pool
            .filter(|node| node.serves(NodeRole::StreamWorker, self.organization))
            .filter(move |node| holder.is_none_or(|holder| node.id == holder))
    }
}

impl Known<'_> {
    fn takes_new(&self, node: &Node) -> bool {
        let live = (self.live)(node.id);
        let heard =
            live.map_or(self.listening_since, |live| live.seen_at.max(self.listening_since));
        let is_there = self.now.since(heard) <= Duration::from_millis(LIVENESS_MS);
        is_there && !node.draining && !live.is_some_and(|live| live.draining)
    }
}

fn has_address(node: &Node) -> bool {
    !node.addresses.is_empty()
}

#[cfg(test)]
mod tests;
