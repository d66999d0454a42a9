//! Who takes part: two organizations that must never see each other, their users and resources,
//! and the hosts that want to become nodes.

use std::collections::BTreeMap;

use rap_proto::{
    ClusterId, Name, NodeId, NodeRole, OrganizationId, PolicyId, PoolId, PublicKey, ResourceId,
    UserId, VpnConnectionId,
};

pub const CLUSTER: ClusterId = ClusterId::from_u128(0xc1);
/// What carries the first resource of the first tenant, where hosts may carry anything.
pub const CONNECTION: VpnConnectionId = VpnConnectionId::from_u128(0xf1);

/// One organization with everything that belongs to it.
#[derive(Debug, Clone)]
pub struct Tenant {
    pub organization: OrganizationId,
    pub name: Name,
    pub users: Vec<UserId>,
    pub pool: PoolId,
    pub resources: Vec<ResourceId>,
    pub policy: PolicyId,
}

/// A host that has been given a join token.
#[derive(Debug, Clone)]
pub struct Host {
    pub name: Name,
    pub role: NodeRole,
    /// The tenant whose node it becomes; `None` for the platform's.
    pub tenant: Option<usize>,
    /// Whether it may also carry connections.
    pub connector: bool,
    /// Which join token it was given. Two hosts with one token: one of them must fail.
    pub token: usize,
    pub auto_approve: bool,
}

pub const TENANTS: usize = 2;
const USERS: u128 = 2;
const RESOURCES: u128 = 2;

pub fn tenants() -> Vec<Tenant> {
    (0..TENANTS as u128)
        .map(|index| {
            let id = (index + 1) * 0x1000;
            Tenant {
                organization: OrganizationId::from_u128(id),
                name: name(&format!("tenant-{index}")),
                users: (1..=USERS).map(|user| UserId::from_u128(id + 0x100 + user)).collect(),
                pool: PoolId::from_u128(id + 0x200),
                resources: (1..=RESOURCES)
                    .map(|resource| ResourceId::from_u128(id + 0x300 + resource))
                    .collect(),
                policy: PolicyId::from_u128(id + 0x400),
            }
        })
        .collect()
}

/// An entry and a relay of the platform, an egress for each tenant, and a host that found the
/// last one's join token.
pub fn hosts() -> Vec<Host> {
    let host = |text: &str, role, tenant, token, auto_approve| Host {
        name: name(text),
        role,
        tenant,
        connector: false,
        token,
        auto_approve,
    };
    vec![
        host("entry", NodeRole::EntryNode, None, 0, true),
        host("relay", NodeRole::RelayNode, None, 1, false),
        host("egress-0", NodeRole::StreamWorker, Some(0), 2, true),
        host("egress-1", NodeRole::StreamWorker, Some(1), 3, false),
        host("egress-1-thief", NodeRole::StreamWorker, Some(1), 3, false),
    ]
}

/// An entry of the platform, three hosts of one tenant that may take turns with its connection, and
/// an egress of the other tenant.
pub fn connectors() -> Vec<Host> {
    let host = |text: &str, role, tenant, connector, token| Host {
        name: name(text),
        role,
        tenant,
        connector,
        token,
        auto_approve: true,
    };
    vec![
        host("entry", NodeRole::EntryNode, None, false, 0),
        host("carrier-a", NodeRole::StreamWorker, Some(0), true, 1),
        host("carrier-b", NodeRole::StreamWorker, Some(0), true, 2),
        host("carrier-c", NodeRole::StreamWorker, Some(0), true, 3),
        host("egress-1", NodeRole::StreamWorker, Some(1), false, 4),
    ]
}

/// An entry and two relays of the platform, and an egress of the first tenant.
pub fn relayed() -> Vec<Host> {
    let host = |text: &str, role, tenant, token| Host {
        name: name(text),
        role,
        tenant,
        connector: false,
        token,
        auto_approve: true,
    };
    vec![
        host("entry", NodeRole::EntryNode, None, 0),
        host("relay-1", NodeRole::RelayNode, None, 1),
        host("relay-2", NodeRole::RelayNode, None, 2),
        host("egress-0", NodeRole::StreamWorker, Some(0), 3),
    ]
}

/// A word that only this tenant's resources hold: where it turns up, they were seen.
pub fn canary(tenant: usize) -> String {
    format!("canary-of-tenant-{tenant}.internal")
}

pub fn name(text: &str) -> Name {
    text.parse().expect("the cast's names are well formed")
}

/// The id that a key gets: asking for it again is the same request.
pub fn node_id(key: &PublicKey) -> NodeId {
    let digest = key.id();
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&digest.as_bytes()[..16]);
    NodeId::from_u128(u128::from_be_bytes(bytes))
}

/// Where each node is, by its place among the hosts.
pub type Places = BTreeMap<NodeId, usize>;
