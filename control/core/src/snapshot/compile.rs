use std::collections::{BTreeMap, BTreeSet};

use rap_proto::{
    Digest, Generation, NodeId, NodeRole, OrganizationId, PoolId, UserId,
    snapshot::{
        Assignment, Connection, Connections, MAX_SECTION_BYTES, Manifest, Peer, Peers, Resource,
        Resources, Section, StalePolicy, Trust,
    },
};

use super::{Compiled, FIRST_AUTHORITY_EPOCH, NotCompiled, SNAPSHOT_TTL, scope::visible_roles};
use crate::{
    access::{permitted_users, ruled_users},
    lease::{is_wanted, may_carry},
    state::{Node, NodeStanding, State, VpnConnection},
};

/// Compiles the snapshot of one node. The same state and node give the same bytes.
///
/// The section `resources` is there only for nodes that serve an egress pool, `connections` only
/// for nodes that may carry one.
pub fn compile(state: &State, node: NodeId) -> Result<Compiled, NotCompiled> {
    compile_within(state, node, MAX_SECTION_BYTES)
}

/// The same with another limit for each section.
pub(super) fn compile_within(
    state: &State,
    node: NodeId,
    limit: usize,
) -> Result<Compiled, NotCompiled> {
    let cluster = state.cluster().id.ok_or(NotCompiled::NotBootstrapped)?;
    let node = state
        .nodes()
        .get(node)
        .filter(|found| found.is_approved())
        .ok_or(NotCompiled::NotApproved(node))?;

    let mut sections = Sections { limit, names: BTreeMap::new(), bytes: BTreeMap::new() };
    sections.add(&assignment(state, node))?;
    sections.add(&trust(state, node))?;
    sections.add(&peers(state, node))?;
    if let Some(resources) = resources(state, node) {
        sections.add(&resources)?;
    }
    let connections = connections(state, node);
    if !connections.connections.is_empty() {
        sections.add(&connections)?;
    }
    Ok(Compiled {
        manifest: Manifest {
            cluster,
            node: node.id,
            authority_epoch: FIRST_AUTHORITY_EPOCH,
            version: node.version,
            issued_at: node.versioned_at,
            expires_at: node.versioned_at + SNAPSHOT_TTL,
            stale_policy: StalePolicy::KeepSessions,
            sections: sections.names,
        },
        sections: sections.bytes,
    })
}

struct Sections {
    limit: usize,
    names: BTreeMap<String, Digest>,
    bytes: BTreeMap<Digest, Vec<u8>>,
}

impl Sections {
    fn add<S: Section>(&mut self, section: &S) -> Result<(), NotCompiled> {
        let bytes = section.to_bytes();
        if bytes.len() > self.limit {
            let (section, actual, limit) = (S::NAME, bytes.len(), self.limit);
            return Err(NotCompiled::SectionTooLarge { section, actual, limit });
        }
        let digest = Digest::of(&bytes);
        self.names.insert(S::NAME.to_owned(), digest);
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

fn trust(state: &State, node: &Node) -> Trust {
    let denied_nodes = state
        .nodes()
        .iter()
        .filter(|other| other.standing == NodeStanding::Revoked)
        .filter(|other| !visible_roles(node, other).is_empty())
        .map(|other| other.id)
        .collect();
    let denied_sessions = state
        .sessions()
        .denied()
        .filter(|(_, denied)| denied.nodes.contains(&node.id))
        .map(|(session, _)| session)
        .collect();
    Trust {
        authorities: vec![state.cluster().ca_certificate.clone()],
        control_keys: state.cluster().control_keys.clone(),
        denied_nodes,
        denied_sessions,
    }
}

fn peers(state: &State, node: &Node) -> Peers {
    let peer = |other: &Node| {
        let roles = visible_roles(node, other);
        (!roles.is_empty()).then(|| Peer {
            node: other.id,
            key: other.key.id(),
            roles,
            addresses: other.addresses.clone(),
        })
    };
    Peers { peers: state.nodes().approved().filter_map(peer).collect() }
}

/// The resources of the pools that the node serves, as far as its role covers their organization.
fn resources(state: &State, node: &Node) -> Option<Resources> {
    let serves_any = node.roles.iter().any(|scope| scope.role == NodeRole::StreamWorker);
    if !serves_any || node.pools.is_empty() {
        return None;
    }
    let mut users = UsersOf { state, known: BTreeMap::new() };
    let mut resources: Vec<Resource> = node
        .pools
        .iter()
        .filter_map(|pool| state.pools().get(*pool))
        .filter(|pool| node.serves(NodeRole::StreamWorker, pool.organization))
        .filter(|pool| state.organizations().is_active(pool.organization))
        .flat_map(|pool| state.resources().in_pool(pool.id).map(move |found| (pool, found)))
        .filter(|(pool, found)| pool.organization == found.organization)
        .map(|(_, found)| Resource {
            id: found.id,
            organization: found.organization,
            kind: found.kind,
            target: found.target.clone(),
            users: users.of(found.organization, found),
        })
        .collect();
    resources.sort_by_key(|resource| resource.id);
    Some(Resources { resources })
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

/// The users of each policy, worked out once for all resources of an organization.
struct UsersOf<'a> {
    state: &'a State,
    known: BTreeMap<OrganizationId, Vec<(&'a crate::state::Policy, BTreeSet<UserId>)>>,
}

impl UsersOf<'_> {
    fn of(
        &mut self,
        organization: OrganizationId,
        resource: &crate::state::Resource,
    ) -> BTreeSet<UserId> {
        let state = self.state;
        if state.policies().rules(organization).has_documents() {
            return ruled_users(state, resource);
        }
        let policies = self.known.entry(organization).or_insert_with(|| {
            let policies = state.policies().of(organization);
            policies.map(|policy| (policy, permitted_users(state, policy))).collect()
        });
        policies
            .iter()
            .filter(|(policy, _)| policy.spec.matches_resource(resource.id, resource.kind))
            .flat_map(|(_, users)| users.iter().copied())
            .collect()
    }
}
