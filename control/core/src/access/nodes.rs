use std::{cmp::Reverse, collections::BTreeMap, time::Duration};

use rap_proto::{
    Digest, Generation, Leased, NodeId, NodeRole, OrganizationId, PoolId, RefusalCode, SessionId,
    Timestamp, VpnConnectionId, token::MAX_AUDIENCE,
};

use crate::state::{Node, State};

/// For how long after its last word a node counts as alive.
pub const LIVENESS_MS: u64 = 45_000;

/// What nodes last said of themselves. Never in the log: a hint for choosing, no condition.
pub type Liveness = BTreeMap<NodeId, Live>;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Live {
    pub seen_at: Timestamp,
    pub snapshot_version: u64,
    /// Whether the node itself says that it takes nothing new.
    pub draining: bool,
}

/// One choice of nodes: for whom, and what is known of them.
pub(super) struct Choice<'a> {
    pub(super) state: &'a State,
    pub(super) live: &'a Liveness,
    pub(super) now: Timestamp,
    pub(super) organization: OrganizationId,
    pub(super) session: SessionId,
    /// The nodes of the session's last token: its client is connected through one of them.
    pub(super) held: &'a dyn Fn(NodeId) -> bool,
}

/// Why no node can be named: the code, and what the auditor reads.
pub(super) type NoNode = (RefusalCode, &'static str);

impl Choice<'_> {
    /// The entries that may accept the client, best first.
    pub(super) fn entries(&self) -> Result<Vec<&Node>, NoNode> {
        let role = NodeRole::EntryNode;
        let with_role: Vec<&Node> = self
            .state
            .nodes()
            .approved()
            .filter(|node| node.serves(role, self.organization))
            .collect();
        if with_role.is_empty() {
            return Err((RefusalCode::RoleNotAssigned, "no node is an entry for the organization"));
        }
        let reachable = with_role.into_iter().filter(|node| !node.addresses.is_empty()).collect();
        self.best(reachable, "every entry of the organization is draining")
    }

    /// Who holds the lease of a connection, and under which generation, as far as events say.
    pub(super) fn holder(&self, connection: VpnConnectionId) -> Result<(NodeId, Leased), NoNode> {
        let found = self.state.vpn_connections().get(connection);
        let lease = found
            .filter(|found| found.organization == self.organization)
            .and_then(|found| found.lease)
            .ok_or((RefusalCode::LeaseNotHeld, "no node holds the lease of its connection"))?;
        let generation = Generation::new(lease.generation);
        Ok((lease.node, Leased { connection, generation }))
    }

    /// The nodes that may reach a resource of `pool`, best first. Of a resource that a connection
    /// carries only the `holder` of that one's lease.
    pub(super) fn egresses(
        &self,
        pool: PoolId,
        holder: Option<NodeId>,
    ) -> Result<Vec<&Node>, NoNode> {
        let in_pool: Vec<&Node> = self.state.nodes().in_pool(pool).collect();
        if in_pool.is_empty() {
            return Err((
                RefusalCode::PathUnavailable,
                "no node serves the resource's egress pool",
            ));
        }
        let role = NodeRole::StreamWorker;
        let with_role: Vec<&Node> =
            in_pool.into_iter().filter(|node| node.serves(role, self.organization)).collect();
        if with_role.is_empty() {
            let reason = "no node of the egress pool has the role for the organization";
            return Err((RefusalCode::RoleNotAssigned, reason));
        }
        let is_holder = |node: &&Node| holder.is_none_or(|holder| node.id == holder);
        let with_role: Vec<&Node> = with_role.into_iter().filter(is_holder).collect();
        if with_role.is_empty() {
            let reason = "the holder of its connection's lease is no egress of its pool";
            return Err((RefusalCode::LeaseNotHeld, reason));
        }
        self.best(with_role, "every node of the egress pool is draining")
    }

    fn best<'n>(
        &self,
        nodes: Vec<&'n Node>,
        draining: &'static str,
    ) -> Result<Vec<&'n Node>, NoNode> {
        if nodes.is_empty() {
            return Err((RefusalCode::PathUnavailable, "no entry has an address"));
        }
        let takes_new = |node: &&Node| !self.is_draining(node) || (self.held)(node.id);
        let mut nodes: Vec<&Node> = nodes.into_iter().filter(takes_new).collect();
        if nodes.is_empty() {
            return Err((RefusalCode::NodeDraining, draining));
        }
        nodes.sort_by_cached_key(|node| self.rank(node));
        nodes.truncate(MAX_AUDIENCE);
        Ok(nodes)
    }

    fn is_draining(&self, node: &Node) -> bool {
        node.draining || self.live.get(&node.id).is_some_and(|live| live.draining)
    }

    /// Nodes that the client is connected through come first, then those that were heard of, and
    /// among equals each session has an order of its own, which spreads the load.
    fn rank(&self, node: &Node) -> (Reverse<bool>, Reverse<bool>, Digest) {
        let alive = self
            .live
            .get(&node.id)
            .is_some_and(|live| self.now <= live.seen_at + Duration::from_millis(LIVENESS_MS));
        let spread = Digest::of_parts(&[self.session.uuid().as_bytes(), node.id.uuid().as_bytes()]);
        (Reverse((self.held)(node.id)), Reverse(alive), spread)
    }
}
