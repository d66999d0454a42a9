use std::collections::BTreeMap;

use rap_proto::{
    Digest, Generation, NodeId, NodeRole, PoolId,
    mesh::Mesh,
    snapshot::{
        Assignment, Connection, Connections, MAX_SECTION_BYTES, Manifest, Peers, Resources,
        Section, Trust,
    },
};

use super::{
    Compiled, FIRST_AUTHORITY_EPOCH, NotCompiled, SNAPSHOT_TTL,
    bandwidth::bandwidth,
    paths::paths,
    shared::{Encoded, Fleet, Shared},
};
use crate::{
    lease::{is_wanted, may_carry},
    state::{Node, State, VpnConnection},
};

/// Compiles the snapshot of one node. The same state and node give the same bytes.
///
/// The section `resources` is there only for nodes that serve an egress pool, `connections` only
/// for nodes that may carry one, `bandwidth`, `places`, `paths` and `mesh` only where something is said of them.
pub fn compile(state: &State, node: NodeId) -> Result<Compiled, NotCompiled> {
    Compiler::default().compile(state, node)
}

/// Compiles the snapshots of many nodes: what they have in common is worked out once for each state
/// of a log, and remembered until it is asked about another one.
#[derive(Debug, Default)]
pub struct Compiler(Shared);

impl Compiler {
    /// As [`compile`] does.
    pub fn compile(&mut self, state: &State, node: NodeId) -> Result<Compiled, NotCompiled> {
        self.compile_within(state, node, MAX_SECTION_BYTES)
    }

    /// The same with another limit for each section.
    pub(super) fn compile_within(
        &mut self,
        state: &State,
        node: NodeId,
        limit: usize,
    ) -> Result<Compiled, NotCompiled> {
        let shared = &mut self.0;
        shared.follow(state);
        let cluster = state.cluster().id.ok_or(NotCompiled::NotBootstrapped)?;
        let node = state
            .nodes()
            .get(node)
            .filter(|found| found.is_approved())
            .ok_or(NotCompiled::NotApproved(node))?;

        let fleet = shared.fleet(state, &node.roles);
        let mut sections = Sections { limit, names: BTreeMap::new(), bytes: BTreeMap::new() };
        sections.encode(&assignment(state, node))?;
        sections.encode(&trust(state, node, &fleet, shared))?;
        sections.add(Peers::NAME, fleet.peers(node.id))?;
        let places = fleet.places(node);
        if !places.nodes.is_empty() {
            sections.encode(&places)?;
        }
        if let Some(pools) = served_pools(state, node) {
            let resources = shared.resources(state, pools);
            sections.add(Resources::NAME, Encoded::clone(&resources))?;
        }
        let connections = connections(state, node);
        if !connections.connections.is_empty() {
            sections.encode(&connections)?;
        }
        let bandwidth = bandwidth(state, node);
        if !bandwidth.is_empty() {
            sections.encode(&bandwidth)?;
        }
        let paths = paths(state, node);
        if !paths.is_empty() {
            sections.encode(&paths)?;
        }
        // Every node keeps peers.
        let mesh = Mesh::from(&state.cluster().mesh);
        if !mesh.is_empty() {
            sections.encode(&mesh)?;
        }
        Ok(Compiled {
            manifest: Manifest {
                cluster,
                node: node.id,
                authority_epoch: FIRST_AUTHORITY_EPOCH,
                version: node.version,
                issued_at: node.versioned_at,
                expires_at: node.versioned_at + SNAPSHOT_TTL,
                stale_policy: state.cluster().stale,
                sections: sections.names,
            },
            sections: sections.bytes,
        })
    }
}

struct Sections {
    limit: usize,
    names: BTreeMap<String, Digest>,
    bytes: BTreeMap<Digest, Vec<u8>>,
}

impl Sections {
    fn encode<S: Section>(&mut self, section: &S) -> Result<(), NotCompiled> {
        self.add(S::NAME, Encoded::of(section))
    }

    fn add(&mut self, section: &'static str, encoded: Encoded) -> Result<(), NotCompiled> {
        let Encoded { digest, bytes } = encoded;
        if bytes.len() > self.limit {
            let (actual, limit) = (bytes.len(), self.limit);
            return Err(NotCompiled::SectionTooLarge { section, actual, limit });
        }
        self.names.insert(section.to_owned(), digest);
        self.bytes.insert(digest, bytes);
        Ok(())
    }
}

fn assignment(state: &State, node: &Node) -> Assignment {
    let serves = |id: &&PoolId| {
        let pool = state.pools().get(**id);
        pool.is_some_and(|pool| node.serves(NodeRole::StreamWorker, pool.organization))
    };
    Assignment {
        name: node.name.clone(),
        draining: node.draining,
        roles: node.roles.clone(),
        pools: node.pools.iter().filter(serves).copied().collect(),
    }
}

fn trust(state: &State, node: &Node, fleet: &Fleet, shared: &mut Shared) -> Trust {
    Trust {
        authorities: vec![state.cluster().ca_certificate.clone()],
        control_keys: state.cluster().control_keys.clone(),
        denied_nodes: fleet.revoked.clone(),
        denied_sessions: shared.denied(state, node.id),
    }
}

/// The pools whose resources the node is told: as far as its role covers their organizations.
fn served_pools(state: &State, node: &Node) -> Option<Vec<PoolId>> {
    let serves_any = node.roles.iter().any(|scope| scope.role == NodeRole::StreamWorker);
    if !serves_any || node.pools.is_empty() {
        return None;
    }
    let pools = node.pools.iter().filter_map(|pool| state.pools().get(*pool));
    let served = pools
        .filter(|pool| node.serves(NodeRole::StreamWorker, pool.organization))
        .filter(|pool| state.organizations().is_active(pool.organization));
    Some(served.map(|pool| pool.id).collect())
}

/// The connections that the node may carry. Of a lease it is told only when the lease is its own.
fn connections(state: &State, node: &Node) -> Connections {
    let connection = |found: &VpnConnection| Connection {
        id: found.id,
        organization: found.organization,
        class: found.class,
        enabled: is_wanted(state, found),
        granted: found
            .lease
            .filter(|lease| lease.node == node.id)
            .map(|lease| Generation::new(lease.generation)),
    };
    let carried = state.vpn_connections().iter().filter(|found| may_carry(node, found));
    Connections { connections: carried.map(connection).collect() }
}
