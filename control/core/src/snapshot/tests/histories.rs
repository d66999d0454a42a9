//! Random histories, decided by the real aggregates: what must hold after every event.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use rap_events::{
    Actor, Aggregate,
    cluster::{Cluster, ClusterCommand},
    keys::membership_id,
    membership::{Membership, MembershipCommand},
    node::{Node, NodeCommand},
    organization::{Organization, OrganizationCommand},
    policy::{Policy, PolicyCommand, PolicySpec},
    pool::{Pool, PoolCommand},
    resource::{Resource, ResourceCommand},
    session::{Seen, Session, SessionCommand, TerminationCause},
    user::{User, UserCommand},
};
use rap_proto::{
    Digest, NodeId, NodeRole, OrganizationRole, ResourceKind, SessionId,
    observation::EndReason,
    snapshot::{RoleScope, Target},
};
use uuid::Uuid;

use super::{all_bytes, compile, holds, marks};
use crate::{
    process::{Clock, due},
    world::{Platform, Tenant, key, uuid},
};

/// One random command: which, about whom, and how.
type Step = (u8, u8, u8);

const COMMANDS: u8 = 29;

struct History {
    platform: Platform,
    sequence: u64,
    made: u128,
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
        let roles = [NodeRole::EntryNode, NodeRole::RelayNode, NodeRole::StreamWorker];
        let chosen = roles.iter().enumerate().filter(|(at, _)| n >> 2 & 1 << at != 0);
        chosen
            .map(|(_, role)| RoleScope { role: *role, organizations: organizations.clone() })
            .collect()
    }

    fn step(&mut self, (command, who, how): Step) {
        let tenant = self.tenant(who);
        let node = self.node(who);
        let user = [tenant.owner, tenant.admin, tenant.user][usize::from(how) % 3];
        let session = if how.is_multiple_of(3) {
            tenant.session
        } else {
            SessionId::from_uuid(uuid(0x7000 + u128::from(how % 8)))
        };
        match command {
            0 => self.try_give::<Organization>(
                tenant.id.uuid(),
                OrganizationCommand::Suspend { reason: String::new() },
            ),
            1 => self.try_give::<Organization>(tenant.id.uuid(), OrganizationCommand::Resume),
            2 => self.try_give::<User>(user.uuid(), UserCommand::Disable { reason: String::new() }),
            3 => self.try_give::<User>(user.uuid(), UserCommand::Enable),
            4 => self
                .try_give::<Membership>(membership_id(tenant.id, user), MembershipCommand::Revoke),
            5 | 6 => {
                let role = OrganizationRole::ALL[usize::from(how) % 3];
                let grant = MembershipCommand::Grant { organization: tenant.id, user, role };
                self.try_give::<Membership>(membership_id(tenant.id, user), grant);
                self.try_give::<Membership>(
                    membership_id(tenant.id, user),
                    MembershipCommand::Change { role },
                );
            }
            7..=9 => {
                let roles = self.scopes(node, how);
                self.try_give::<Node>(node.uuid(), NodeCommand::AssignRoles { roles });
            }
            10 | 11 => {
                let all = [self.platform.acme.pool, self.platform.globex.pool];
                let pools = all
                    .iter()
                    .enumerate()
                    .filter(|(at, _)| how >> at & 1 == 1)
                    .map(|(_, pool)| *pool)
                    .collect();
                self.try_give::<Node>(node.uuid(), NodeCommand::AssignPools { pools });
            }
            12 => {
                let addresses = vec![format!("198.51.100.{how}:4433").parse().unwrap()];
                self.try_give::<Node>(node.uuid(), NodeCommand::ChangeAddresses { addresses });
            }
            13 => self.try_give::<Node>(node.uuid(), NodeCommand::StartDraining),
            14 => self.try_give::<Node>(node.uuid(), NodeCommand::EndDraining),
            15 if how.is_multiple_of(4) => {
                self.try_give::<Node>(node.uuid(), NodeCommand::Revoke { note: String::new() })
            }
            16 => {
                let kind = ResourceKind::ALL[usize::from(how) % 3];
                let target =
                    Target { host: format!("h{how}.example"), port: 22, allow_local: false };
                let change = ResourceCommand::Change { kind, target, pool: tenant.pool };
                self.try_give::<Resource>(tenant.resource.uuid(), change);
            }
            17 if how.is_multiple_of(4) => {
                self.try_give::<Resource>(tenant.resource.uuid(), ResourceCommand::Remove)
            }
            18 | 19 => {
                let spec = PolicySpec {
                    users: BTreeSet::from([user]),
                    roles: OrganizationRole::ALL
                        .iter()
                        .copied()
                        .take(usize::from(how) % 3)
                        .collect(),
                    resources: BTreeSet::from([tenant.resource]),
                    kinds: BTreeSet::new(),
                };
                self.try_give::<Policy>(tenant.policy.uuid(), PolicyCommand::Change { spec });
            }
            20 if how.is_multiple_of(4) => {
                self.try_give::<Policy>(tenant.policy.uuid(), PolicyCommand::Remove)
            }
            21 | 22 => {
                self.made += 1;
                let id = SessionId::from_uuid(uuid(0x7000 + self.made % 8));
                if self.platform.state().sessions().get(id).is_none() {
                    let _ = self.platform.world.connect(tenant, user, id);
                }
            }
            23 => self.try_give::<Session>(
                session.uuid(),
                SessionCommand::Terminate { cause: TerminationCause::Requested },
            ),
            24 | 25 => {
                self.sequence += 1;
                let seen = Seen {
                    node: tenant.egress,
                    sequence: self.sequence,
                    at: self.platform.world.now,
                };
                let command = if command == 24 {
                    SessionCommand::RecordStarted { seen }
                } else {
                    SessionCommand::RecordEnded {
                        seen,
                        reason: EndReason::ClientClosed,
                        bytes_up: 1,
                        bytes_down: 2,
                    }
                };
                self.try_give::<Session>(session.uuid(), command);
            }
            26 => self.platform.world.advance(u64::from(how) * 600_000),
            27 => {
                let cluster = self.platform.cluster.uuid();
                self.try_give::<Cluster>(cluster, ClusterCommand::RenewSnapshots);
                if how == 1 {
                    self.try_give::<Cluster>(
                        cluster,
                        ClusterCommand::AddControlKey { key: key(9) },
                    );
                }
            }
            28 if how.is_multiple_of(8) => {
                self.try_give::<Pool>(tenant.pool.uuid(), PoolCommand::Remove)
            }
            28 if how == 1 => {
                self.try_give::<Organization>(tenant.id.uuid(), OrganizationCommand::Remove)
            }
            _ => self.perform_due(),
        }
    }

    fn perform_due(&mut self) {
        let now = self.platform.world.now;
        let clock = Clock { now, listening_since: now };
        for step in due(self.platform.state(), clock) {
            self.platform.world.perform(step);
        }
    }
}

/// The sections' digests and the version of every node that has a snapshot.
fn compiled(platform: &Platform) -> BTreeMap<NodeId, (BTreeMap<String, Digest>, u64)> {
    platform
        .state()
        .nodes()
        .approved()
        .map(|node| {
            let manifest = compile(platform.state(), node.id).unwrap().manifest;
            (node.id, (manifest.sections, manifest.version))
        })
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_two_snapshots_share_a_version_and_a_replay_equals_the_live_state(
        steps in prop::collection::vec((0..COMMANDS, any::<u8>(), any::<u8>()), 1..60),
    ) {
        let mut history = History { platform: Platform::new(), sequence: 0, made: 0 };
        for step in steps {
            let position = history.platform.state().position();
            let before = compiled(&history.platform);
            history.step(step);
            for (node, (sections, version)) in compiled(&history.platform) {
                let Some((old_sections, old_version)) = before.get(&node) else { continue };
                prop_assert!(version >= *old_version, "versions only rise");
                let same = *old_sections == sections;
                prop_assert!(same || version > position, "{:?}: new content, old version", step);
            }
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
