//! Random histories, decided by the real aggregates: what must hold after every event.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use rap_events::{
    Actor, Aggregate, Personal,
    cluster::{Cluster, ClusterCommand},
    keys::{leadership_id, membership_id},
    leadership::{Leadership, LeadershipCommand, LeadershipEnd},
    membership::{Membership, MembershipCommand},
    node::{Node, NodeCommand},
    organization::{Organization, OrganizationCommand},
    policy::{Policy, PolicyCommand, PolicyDocument, PolicySpec},
    pool::{Pool, PoolCommand},
    resource::{Resource, ResourceCommand},
    session::{Seen, Session, SessionCommand, TerminationCause},
    user::{User, UserCommand},
    vpn_connection::{FenceReason, ReleaseReason, VpnConnection, VpnConnectionCommand},
};
use rap_proto::{
    Digest, Duty, NodeId, NodeRole, OrganizationRole, Preference, ReplicaId, ResourceKind,
    SessionId, Timestamp, UserId,
    carriers::{CarrierRule, CarrierRules},
    mesh::{MeshRule, PeerCounts, PeerKind},
    observation::{EndReason, Vantage},
    paths::{DirectPaths, PathRule},
    snapshot::{RoleScope, StalePolicy, Target},
};
use uuid::Uuid;

use super::{Compiler, all_bytes, compile, holds, marks};
use crate::{
    process::{Clock, due},
    world::{Platform, Tenant, key, name, uuid},
};

/// One random command: which, about whom, and how.
type Step = (u8, u8, u8);

const COMMANDS: u8 = 35;

struct History {
    platform: Platform,
    /// One for all states, as a server has it.
    compiler: Compiler,
    sequence: u64,
}

impl History {
    fn try_give<A: Aggregate>(&mut self, id: Uuid, command: A::Command) {
        let actor = Actor::System { process: "history".to_owned() };
        // What the rules refuse did not happen.
        let _ = self.platform.world.give::<A>(id, &actor, command);
    }

    fn tenant(&self, n: u8) -> Tenant {
        if n.is_multiple_of(2) { self.platform.acme } else { self.platform.globex }
    }

    fn node(&self, n: u8) -> NodeId {
        let p = &self.platform;
        [p.entry, p.relay, p.acme.egress, p.globex.egress][usize::from(n) % 4]
    }

    fn scopes(&self, node: NodeId, n: u8) -> Vec<RoleScope> {
        let (acme, globex) = (self.platform.acme, self.platform.globex);
        let own = [(acme.egress, acme.id), (globex.egress, globex.id)];
        let own = own.iter().find(|(egress, _)| *egress == node).map(|(_, id)| *id);
        let organizations = match (own, n % 3) {
            (Some(id), _) => Some(BTreeSet::from([id])),
            (None, 0) => Some(BTreeSet::from([acme.id, globex.id])),
            (None, 1) => Some(BTreeSet::from([globex.id])),
            (None, _) => None,
        };
        let roles = [
            NodeRole::EntryNode,
            NodeRole::RelayNode,
            NodeRole::StreamWorker,
            NodeRole::VpnConnector,
        ];
        let chosen = roles.iter().enumerate().filter(|(at, _)| n >> 2 & 1 << at != 0);
        chosen
            .map(|(_, role)| RoleScope { role: *role, organizations: organizations.clone() })
            .collect()
    }

    fn step(&mut self, step: Step) {
        match step.0 {
            0..=6 => self.people(step),
            7..=15 => self.nodes(step),
            16..=21 => self.resources(step),
            22..=26 => self.sessions(step),
            27 => self.platform.world.advance(u64::from(step.2) * 600_000),
            28 => {
                let cluster = self.platform.cluster.uuid();
                self.try_give::<Cluster>(cluster, ClusterCommand::RenewSnapshots);
                if step.2 == 1 {
                    let add = ClusterCommand::AddControlKey { key: key(9) };
                    self.try_give::<Cluster>(cluster, add);
                }
            }
            30..=32 => self.connections(step),
            33 => self.leaders(step),
            34 => self.carriers(step),
            _ => self.perform_due(),
        }
    }

    fn people(&mut self, (command, who, how): Step) {
        let tenant = self.tenant(who);
        let user = user(tenant, how);
        let membership = membership_id(tenant.id, user);
        let reason = String::new();
        match command {
            0 => {
                let suspend = OrganizationCommand::Suspend { reason };
                self.try_give::<Organization>(tenant.id.uuid(), suspend);
            }
            3 if how.is_multiple_of(4) => self.new_member(tenant, how),
            1 if how == 1 => {
                self.try_give::<Organization>(tenant.id.uuid(), OrganizationCommand::Remove);
            }
            1 => self.try_give::<Organization>(tenant.id.uuid(), OrganizationCommand::Resume),
            2 => self.try_give::<User>(user.uuid(), UserCommand::Disable { reason }),
            3 => self.try_give::<User>(user.uuid(), UserCommand::Enable),
            4 => self.try_give::<Membership>(membership, MembershipCommand::Revoke),
            _ => {
                let role = OrganizationRole::ALL[usize::from(how) % 3];
                let grant = MembershipCommand::Grant { organization: tenant.id, user, role };
                self.try_give::<Membership>(membership, grant);
                self.try_give::<Membership>(membership, MembershipCommand::Change { role });
            }
        }
    }

    /// As one append stores it: the membership's stream before the user's.
    fn new_member(&mut self, tenant: Tenant, how: u8) {
        let user = UserId::from_uuid(uuid(0x6000 + u128::from(how)));
        let role = OrganizationRole::User;
        let grant = MembershipCommand::Grant { organization: tenant.id, user, role };
        self.try_give::<Membership>(membership_id(tenant.id, user), grant);
        let before = compiled(&mut self.compiler, &self.platform);
        let position = self.platform.state().position();
        let name = name(&format!("made-{how}"));
        self.try_give::<User>(
            user.uuid(),
            UserCommand::Create { name, display_name: Personal::default() },
        );
        check_versions(&mut self.compiler, &self.platform, &before, position);
    }

    fn nodes(&mut self, (command, who, how): Step) {
        let node = self.node(who);
        let command = match command {
            7..=9 => NodeCommand::AssignRoles { roles: self.scopes(node, how) },
            10 | 11 => {
                let all = [self.platform.acme.pool, self.platform.globex.pool];
                let chosen = all.iter().enumerate().filter(|(at, _)| how >> at & 1 == 1);
                NodeCommand::AssignPools { pools: chosen.map(|(_, pool)| *pool).collect() }
            }
            12 => {
                let address = format!("198.51.100.{how}:4433").parse().unwrap();
                NodeCommand::ChangeAddresses { addresses: vec![address] }
            }
            13 => NodeCommand::StartDraining,
            14 => NodeCommand::EndDraining,
            _ if how % 4 == 1 => NodeCommand::Place {
                region: (how > 128).then(|| name("eu-west")),
                preference: Preference::ALL[usize::from(how) % 3],
            },
            _ if how.is_multiple_of(4) => NodeCommand::Revoke { note: String::new() },
            _ => return,
        };
        self.try_give::<Node>(node.uuid(), command);
    }

    fn resources(&mut self, (command, who, how): Step) {
        let tenant = self.tenant(who);
        let (resource, policy) = (tenant.resource.uuid(), tenant.policy.uuid());
        let rarely = how.is_multiple_of(4);
        match command {
            16 => {
                let kind = ResourceKind::ALL[usize::from(how) % 3];
                let host = format!("h{how}.example");
                let target = Target { host, port: 22, allow_local: false };
                let change = ResourceCommand::Change { kind, target, pool: tenant.pool };
                self.try_give::<Resource>(resource, change);
            }
            17 if how % 8 == 3 => {
                let connection = (how > 128).then_some(tenant.connection);
                self.try_give::<Resource>(resource, ResourceCommand::Carry { connection });
            }
            17 if rarely => self.try_give::<Resource>(resource, ResourceCommand::Remove),
            17 => {
                let labels = BTreeMap::from([(name("env"), name(&format!("v{}", how % 3)))]);
                self.try_give::<Resource>(resource, ResourceCommand::Label { labels });
            }
            19 => {
                let text = DOCUMENTS[usize::from(how) % DOCUMENTS.len()].to_owned();
                let document = PolicyDocument { text, tests: Vec::new() };
                self.try_give::<Policy>(policy, PolicyCommand::Rewrite { document });
            }
            18 => {
                let roles = OrganizationRole::ALL.iter().copied().take(usize::from(how) % 4);
                let spec = PolicySpec {
                    users: BTreeSet::from([user(tenant, how)]),
                    roles: roles.collect(),
                    resources: BTreeSet::from([tenant.resource]),
                    kinds: BTreeSet::new(),
                };
                self.try_give::<Policy>(policy, PolicyCommand::Change { spec });
            }
            20 if rarely => self.try_give::<Policy>(policy, PolicyCommand::Remove),
            21 if rarely => self.try_give::<Pool>(tenant.pool.uuid(), PoolCommand::Remove),
            _ => {}
        }
    }

    fn sessions(&mut self, (command, who, how): Step) {
        let tenant = self.tenant(who);
        let made = SessionId::from_uuid(uuid(0x7000 + u128::from(how % 8)));
        let session = if how.is_multiple_of(3) { tenant.session } else { made };
        let (sequence, at) = (self.sequence + 1, self.platform.world.now);
        let entry = Seen { node: self.platform.entry, sequence, at };
        let command = match command {
            22 | 23 => {
                if self.platform.state().sessions().get(made).is_none() {
                    let _ = self.platform.world.connect(tenant, user(tenant, how), made);
                }
                return;
            }
            24 => SessionCommand::Terminate { cause: TerminationCause::Requested },
            25 if how.is_multiple_of(2) => {
                let seen = Seen { node: tenant.egress, ..entry };
                SessionCommand::RecordStarted { seen, from: Some(Vantage::Egress) }
            }
            25 => SessionCommand::RecordStarted { seen: entry, from: Some(Vantage::Entry) },
            _ => SessionCommand::RecordEnded {
                seen: entry,
                reason: EndReason::ClientClosed,
                bytes_up: 1,
                bytes_down: 2,
            },
        };
        self.sequence = sequence;
        self.try_give::<Session>(session.uuid(), command);
    }

    fn connections(&mut self, (command, who, how): Step) {
        let tenant = self.tenant(who);
        let now = self.platform.world.now;
        let found = self.platform.state().vpn_connections().get(tenant.connection);
        let generation = found.map_or(0, |connection| connection.generation);
        let command = match (command, how % 8) {
            (30, 0) => VpnConnectionCommand::Remove,
            (30, 1) => VpnConnectionCommand::Disable,
            (30, 2 | 3) => VpnConnectionCommand::AllowNodes { nodes: BTreeSet::new() },
            (30, _) => VpnConnectionCommand::Enable,
            (31, 0..=4) => VpnConnectionCommand::GrantLease {
                node: self.node(how),
                generation: generation + 1,
                granted_at: now,
                valid_until: now + std::time::Duration::from_secs(4),
            },
            (31, _) => VpnConnectionCommand::RequestDrain,
            (_, 0..=3) => {
                let (reason, released_at) = (ReleaseReason::Drained, now);
                VpnConnectionCommand::ReleaseLease { generation, reason, released_at }
            }
            _ => {
                let (reason, valid_until) = (FenceReason::Expired, now);
                VpnConnectionCommand::FenceLease { generation, reason, valid_until }
            }
        };
        self.try_give::<VpnConnection>(tenant.connection.uuid(), command);
    }

    fn carriers(&mut self, (_, who, how): Step) {
        let carriers = CarrierRules {
            bulk: CarrierRule::ALL.get(usize::from(how) % 5).copied(),
            ..CarrierRules::default()
        };
        let cluster = self.platform.cluster.uuid();
        if who % 8 == 7 {
            let counts =
                PeerCounts { warm: 1 + u16::from(how) % 3, ..PeerCounts::of(PeerKind::Thin) };
            let peers = [(PeerKind::Thin, counts)].into_iter().filter(|_| how % 3 > 0).collect();
            let rule = MeshRule { peers, ..MeshRule::default() };
            self.try_give::<Cluster>(cluster, ClusterCommand::RuleMesh { rule });
        } else if who % 4 == 3 {
            let direct = DirectPaths::ALL[usize::from(how) % 3];
            let rule = PathRule { direct, audited: how % 3 == 0 };
            self.try_give::<Cluster>(cluster, ClusterCommand::RulePaths { rule });
            let policy = StalePolicy::ALL[usize::from(how / 2) % 2];
            self.try_give::<Cluster>(cluster, ClusterCommand::RuleStale { policy });
        } else if who % 4 == 2 {
            self.try_give::<Cluster>(cluster, ClusterCommand::RuleCarriers { carriers });
        } else {
            let id = self.tenant(who).id.uuid();
            self.try_give::<Organization>(id, OrganizationCommand::RuleCarriers { carriers });
        }
    }

    fn leaders(&mut self, (_, who, how): Step) {
        let now = self.platform.world.now;
        let stream = leadership_id(Duty::Processes);
        let found = self.platform.state().leaderships().of(Duty::Processes);
        let leader = found.and_then(|leadership| leadership.leader);
        let command = match leader {
            Some(leader) => LeadershipCommand::Release {
                generation: leader.generation,
                reason: LeadershipEnd::Expired,
                released_at: now,
            },
            None => LeadershipCommand::Grant {
                duty: Duty::Processes,
                replica: ReplicaId::from_u128(who.into()),
                generation: found.map_or(1, |found| found.stamp.revision + u64::from(how % 2)),
                granted_at: now,
                valid_until: now + std::time::Duration::from_secs(4),
            },
        };
        self.try_give::<Leadership>(stream, command);
    }

    fn perform_due(&mut self) {
        let listening_since = Timestamp::default();
        let clock = Clock { now: self.platform.world.now, listening_since };
        for step in due(self.platform.state(), clock) {
            self.platform.world.perform(step);
        }
    }
}

/// By role, by label, by hour, against somebody, and one that cannot be read.
const DOCUMENTS: [&str; 5] = [
    "permit(principal in Role::\"organization_admin\", action, resource);",
    "permit(principal, action, resource)
        when { resource.hasTag(\"env\") && resource.getTag(\"env\") == \"v1\" };",
    "permit(principal, action == Action::\"reach\", resource) when { context.hour == 9 };",
    "permit(principal, action, resource);
        forbid(principal, action, resource) when { principal.role == \"organization_user\" };",
    "permit(principal, action, resource",
];

fn user(tenant: Tenant, how: u8) -> UserId {
    [tenant.owner, tenant.admin, tenant.user][usize::from(how) % 3]
}

type Snapshots = BTreeMap<NodeId, (BTreeMap<String, Digest>, u64)>;

/// The sections' digests and the version of every node that has a snapshot.
fn compiled(compiler: &mut Compiler, platform: &Platform) -> Snapshots {
    platform
        .state()
        .nodes()
        .approved()
        .map(|node| {
            let compiled = compiler.compile(platform.state(), node.id).unwrap();
            assert_eq!(compiled, compile(platform.state(), node.id).unwrap(), "what is shared");
            (node.id, (compiled.manifest.sections, compiled.manifest.version))
        })
        .collect()
}

/// Fails when a node's snapshot changed after `position` without a version of its own.
fn check_versions(compiler: &mut Compiler, platform: &Platform, before: &Snapshots, position: u64) {
    for (node, (sections, version)) in compiled(compiler, platform) {
        let Some((old_sections, old_version)) = before.get(&node) else { continue };
        assert!(version >= *old_version, "versions only rise");
        assert!(*old_sections == sections || version > position, "new content, old version");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_two_snapshots_share_a_version_and_a_replay_equals_the_live_state(
        steps in prop::collection::vec((0..COMMANDS, any::<u8>(), any::<u8>()), 1..60),
    ) {
        let (platform, compiler) = (Platform::new(), Compiler::default());
        let mut history = History { platform, compiler, sequence: 0 };
        for step in steps {
            let position = history.platform.state().position();
            let before = compiled(&mut history.compiler, &history.platform);
            history.step(step);
            check_versions(&mut history.compiler, &history.platform, &before, position);
            let platform = &history.platform;
            let tenants = [(platform.acme, platform.globex, "globex"), (platform.globex, platform.acme, "acme")];
            for (own, foreign, called) in tenants {
                let Ok(found) = compile(platform.state(), own.egress) else { continue };
                let bytes = all_bytes(&found);
                for mark in marks(foreign, called) {
                    prop_assert!(!holds(&bytes, &mark), "{called} leaks by {step:?}");
                }
            }
        }
        let live = history.platform.state().to_bytes();
        prop_assert!(history.platform.world.replay().to_bytes() == live);
    }
}
