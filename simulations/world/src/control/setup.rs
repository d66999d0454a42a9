//! What is there before anything goes wrong: the cluster, the tenants, and one join token for
//! each node that is to come.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use rap_events::{
    Personal, Sensitive,
    cluster::{Cluster, ClusterCommand},
    handler::ExecuteError,
    join_token::{JoinToken, JoinTokenCommand},
    keys::membership_id,
    membership::{Membership, MembershipCommand, MembershipRejection},
    organization::{Organization, OrganizationCommand},
    policy::{Policy, PolicyCommand, PolicySpec},
    pool::{Pool, PoolCommand},
    resource::{Resource, ResourceCommand},
    user::{User, UserCommand},
    vpn_connection::{VpnConnection, VpnConnectionCommand},
};
use rap_proto::{
    Digest, JoinTokenId, LeaseClass, Moment, NodeRole, OrganizationRole, ResourceKind, Signer as _,
    UserId,
    snapshot::{RoleScope, Target},
};

use super::Control;
use crate::{
    cast::{self, Host, Tenant},
    turn::calendar,
};

impl Control {
    /// Founds everything. Nothing of it can be refused: a refusal is a mistake of the world.
    pub fn found(&mut self, now: Moment) {
        let bootstrap = ClusterCommand::Bootstrap {
            cluster: cast::CLUSTER,
            ca_certificate: self.ca.clone(),
            control_keys: vec![self.key.public_key()],
            setup_code: Sensitive::new(Digest::of(b"setup")),
        };
        self.run::<Cluster>(now, cast::CLUSTER.uuid(), bootstrap).expect("a fresh log");
        for (index, tenant) in self.tenants.clone().iter().enumerate() {
            self.found_tenant(now, index, tenant);
        }
        self.make_join_tokens(now);
    }

    fn found_tenant(&mut self, now: Moment, index: usize, tenant: &Tenant) {
        let Tenant { organization, name, users, pool, resources, policy } = tenant.clone();
        let create = OrganizationCommand::Create { organization, name };
        self.run::<Organization>(now, organization.uuid(), create).expect("new");
        for (number, user) in users.iter().enumerate() {
            let name = cast::name(&format!("user-{index}-{number}"));
            let create = UserCommand::Create { name, display_name: Personal::default() };
            self.run::<User>(now, user.uuid(), create).expect("new");
            self.grant_membership(now, tenant, *user).expect("new");
        }
        let create = PoolCommand::Create { organization, name: cast::name("office") };
        self.run::<Pool>(now, pool.uuid(), create).expect("new");
        for (number, resource) in resources.iter().enumerate() {
            let create = ResourceCommand::Create {
                organization,
                name: cast::name(&format!("resource-{number}")),
                kind: ResourceKind::Ssh,
                target: target(index, 22),
                pool,
            };
            self.run::<Resource>(now, resource.uuid(), create).expect("new");
        }
        let name = cast::name("first-user-only");
        let create = PolicyCommand::Create { organization, name, spec: policy_for(tenant, 1) };
        self.run::<Policy>(now, policy.uuid(), create).expect("new");
    }

    /// Puts the first resource on a connection, which every host with the role may carry.
    pub fn found_connection(&mut self, now: Moment) {
        let tenant = self.tenants[0].clone();
        let create = VpnConnectionCommand::Create {
            organization: tenant.organization,
            name: cast::name("line"),
            class: LeaseClass::Fast,
            nodes: BTreeSet::new(),
            enabled: true,
        };
        self.run::<VpnConnection>(now, cast::CONNECTION.uuid(), create).expect("new");
        let carry = ResourceCommand::Carry { connection: Some(cast::CONNECTION) };
        self.run::<Resource>(now, tenant.resources[0].uuid(), carry).expect("it is there");
    }

    pub(super) fn grant_membership(
        &mut self,
        now: Moment,
        tenant: &Tenant,
        user: UserId,
    ) -> Result<(), ExecuteError<MembershipRejection>> {
        let organization = tenant.organization;
        let role = OrganizationRole::User;
        let grant = MembershipCommand::Grant { organization, user, role };
        let id = membership_id(organization, user);
        self.run::<Membership>(now, id, grant)
    }

    fn make_join_tokens(&mut self, now: Moment) {
        let mut made = BTreeSet::new();
        for host in self.hosts.clone() {
            let (id, secret) = (token_id(&host), join_secret(host.token));
            if !made.insert(id) {
                continue;
            }
            let roles = [Some(host.role), host.connector.then_some(NodeRole::VpnConnector)];
            let tenant = host.tenant.map(|index| &self.tenants[index]);
            let organization = tenant.map(|tenant| tenant.organization);
            let create = JoinTokenCommand::Create {
                secret: Sensitive::new(secret),
                roles: roles
                    .into_iter()
                    .flatten()
                    .map(|role| RoleScope {
                        role,
                        organizations: organization.map(|id| BTreeSet::from([id])),
                    })
                    .collect(),
                pools: tenant.map(|tenant| tenant.pool).into_iter().collect(),
                organization,
                host_name: None,
                expires_at: calendar(now) + Duration::from_secs(3_600),
                auto_approve: host.auto_approve,
            };
            self.run::<JoinToken>(now, id.uuid(), create).expect("new");
        }
    }
}

/// Which join token opens with which secret.
pub(super) fn tokens(hosts: &[Host]) -> BTreeMap<Digest, JoinTokenId> {
    hosts.iter().map(|host| (join_secret(host.token), token_id(host))).collect()
}

fn token_id(host: &Host) -> JoinTokenId {
    JoinTokenId::from_u128(0x900 + host.token as u128)
}

/// The digest of a join token's secret, which whoever was given the token knows.
pub fn join_secret(token: usize) -> Digest {
    Digest::of(&[b'j', u8::try_from(token).unwrap_or(u8::MAX)])
}

pub(super) fn target(tenant: usize, port: u16) -> Target {
    Target { host: cast::canary(tenant), port, allow_local: false }
}

/// A policy that lets the first `users` of a tenant reach everything.
pub(super) fn policy_for(tenant: &Tenant, users: usize) -> PolicySpec {
    PolicySpec {
        users: tenant.users.iter().take(users).copied().collect(),
        kinds: BTreeSet::from([ResourceKind::Ssh]),
        ..PolicySpec::default()
    }
}
