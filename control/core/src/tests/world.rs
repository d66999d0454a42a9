//! Test fixture: a log that the real aggregates write, and two organizations on one platform.

#![allow(clippy::unwrap_used)]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::PathBuf,
};

use rap_events::{
    Actor, Aggregate, Envelope, EventCodec, Personal, StreamId,
    api_token::{ApiToken, ApiTokenCommand},
    cluster::{Cluster, ClusterCommand},
    join_token::{JoinToken, JoinTokenCommand},
    keys::membership_id,
    login::{Login, LoginCommand},
    membership::{Membership, MembershipCommand},
    node::{Node, NodeCommand, Offer},
    organization::{Organization, OrganizationCommand},
    policy::{Policy, PolicyCommand, PolicySpec},
    pool::{Pool, PoolCommand},
    resource::{Resource, ResourceCommand},
    session::{Session, SessionCommand},
    user::{User, UserCommand},
    vpn_connection::{ReleaseReason, VpnConnection, VpnConnectionCommand},
};
use rap_proto::{
    ApiScope, ApiTokenId, AttachmentId, Capability, ClusterId, CommandId, Digest, JoinTokenId,
    LeaseClass, LoginId, MessageId, Name, NodeId, NodeRole, OrganizationId, OrganizationRole,
    PlatformRole, PolicyId, PoolId, PublicKey, ResourceId, ResourceKind, SessionId, Signer,
    Timestamp, UserId, VpnConnectionId,
    key::LocalKey,
    snapshot::{RoleScope, Target},
};
use serde_bytes::ByteBuf;
use uuid::Uuid;

use crate::{
    AccessIds, AccessRequest, Authorized, Denied, Principal, State,
    access::Asked,
    authorize_session,
    process::{ProcessCommand, Step},
};

pub(crate) const START_MS: i64 = 1_795_422_600_000;
pub(crate) const PHC: &str =
    "$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHRzYWx0$aGFzaGhhc2hoYXNoaGFzaGhhc2hoYXNoaGFzaGhhc2g";

/// A log without storage, its fold, and a clock that moves by hand.
#[derive(Default)]
pub(crate) struct World {
    pub(crate) state: State,
    pub(crate) log: Vec<Envelope>,
    pub(crate) now: Timestamp,
    /// Where in the log each stream's events are.
    streams: BTreeMap<StreamId, Vec<usize>>,
    commands: u64,
    holds_command: bool,
}

pub(crate) fn uuid(n: u128) -> Uuid {
    Uuid::from_u128(0x0193_0000_0000_7000_8000_0000_0000_0000 | n)
}

pub(crate) fn name(text: &str) -> Name {
    text.parse().unwrap()
}

pub(crate) fn key(n: u128) -> PublicKey {
    let random = Digest::of(&n.to_be_bytes());
    LocalKey::from_random(random.as_bytes()).unwrap().public_key()
}

/// Compares with a frozen file; `RAP_UPDATE_GOLDEN=1` writes it anew.
pub(crate) fn check_golden(file: &str, actual: &str) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("golden").join(file);
    if std::env::var_os("RAP_UPDATE_GOLDEN").is_some() {
        fs::write(&path, actual).unwrap();
    }
    let frozen = fs::read_to_string(&path).unwrap_or_default();
    assert!(actual == frozen, "golden/{file} should now say:\n{actual}");
}

pub(crate) fn digest(text: &str) -> Digest {
    Digest::of(text.as_bytes())
}

impl World {
    pub(crate) fn new() -> Self {
        Self { now: Timestamp::from_unix_millis(START_MS), ..Self::default() }
    }

    pub(crate) fn advance(&mut self, millis: u64) {
        self.now = self.now + std::time::Duration::from_millis(millis);
    }

    /// Gives a command to the real aggregate and folds what it decides.
    pub(crate) fn give<A: Aggregate>(
        &mut self,
        id: Uuid,
        actor: &Actor,
        command: A::Command,
    ) -> Result<usize, A::Rejection> {
        let stream = A::stream(id);
        let mut aggregate = A::default();
        let places = self.streams.entry(stream.clone()).or_default();
        for at in places.iter() {
            aggregate.evolve(&A::Event::from_envelope(&self.log[*at]).unwrap());
        }
        let events = aggregate.decide(command, self.now)?;
        if !self.holds_command {
            self.commands += 1;
        }
        for event in &events {
            aggregate.evolve(event);
            let new = event.to_new_event(aggregate.organization());
            places.push(self.log.len());
            let envelope = Envelope {
                position: self.log.len() as u64 + 1,
                stream: stream.clone(),
                revision: places.len() as u64,
                event_type: new.event_type,
                schema: new.schema,
                payload: new.payload,
                organization: new.organization,
                actor: actor.clone(),
                allowed: None,
                command: CommandId::from_u128(u128::from(self.commands)),
                causation: None,
                at: self.now,
            };
            self.state.fold(&envelope).unwrap();
            self.log.push(envelope);
        }
        Ok(events.len())
    }

    /// The same as a process of the control plane, where the command must be acceptable.
    pub(crate) fn must<A: Aggregate>(&mut self, id: Uuid, command: A::Command) {
        let actor = Actor::System { process: "test".to_owned() };
        self.give::<A>(id, &actor, command).unwrap();
    }

    /// All that `work` gives belongs to one command, as in one append.
    pub(crate) fn in_one_command(&mut self, work: impl FnOnce(&mut Self)) {
        self.commands += 1;
        self.holds_command = true;
        work(self);
        self.holds_command = false;
    }

    pub(crate) fn replay(&self) -> State {
        let mut state = State::default();
        for envelope in &self.log {
            state.fold(envelope).unwrap();
        }
        state
    }
}

/// One organization with everything in it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tenant {
    pub(crate) id: OrganizationId,
    pub(crate) owner: UserId,
    pub(crate) admin: UserId,
    pub(crate) user: UserId,
    pub(crate) pool: PoolId,
    pub(crate) resource: ResourceId,
    pub(crate) policy: PolicyId,
    /// Its own egress, which serves `pool`.
    pub(crate) egress: NodeId,
    pub(crate) session: SessionId,
    pub(crate) join_token: JoinTokenId,
    pub(crate) connection: VpnConnectionId,
}

/// Two tenants on one platform.
pub(crate) struct Platform {
    pub(crate) world: World,
    pub(crate) cluster: ClusterId,
    pub(crate) owner: UserId,
    pub(crate) admin: UserId,
    pub(crate) entry: NodeId,
    pub(crate) relay: NodeId,
    pub(crate) acme: Tenant,
    pub(crate) globex: Tenant,
}

pub(crate) fn login_id(user: UserId) -> LoginId {
    LoginId::from_u128(user.uuid().as_u128() ^ (1 << 100))
}

pub(crate) fn token_id(user: UserId) -> ApiTokenId {
    ApiTokenId::from_u128(user.uuid().as_u128() ^ (2 << 100))
}

pub(crate) fn person(user: UserId) -> Principal {
    Principal::User { user, login: login_id(user) }
}

impl Platform {
    pub(crate) fn new() -> Self {
        let mut world = World::new();
        let cluster = ClusterId::from_uuid(uuid(0x1));
        world.must::<Cluster>(
            cluster.uuid(),
            ClusterCommand::Bootstrap {
                cluster,
                ca_certificate: b"certificate of the cluster".to_vec(),
                control_keys: vec![key(1)],
                setup_code: digest("setup").into(),
            },
        );
        let owner = world.person(0x10, "root");
        world.must::<User>(
            owner.uuid(),
            UserCommand::GrantPlatformRole { role: PlatformRole::Owner },
        );
        let admin = world.person(0x11, "operator");
        world.must::<User>(
            admin.uuid(),
            UserCommand::GrantPlatformRole { role: PlatformRole::Admin },
        );
        world.must::<Cluster>(
            cluster.uuid(),
            ClusterCommand::CompleteSetup { presented: digest("setup").into(), owner },
        );
        let platform_wide = |role| vec![RoleScope { role, organizations: None }];
        let entry = world.node(0x20, "entry", None, platform_wide(NodeRole::EntryNode), &[]);
        let relay = world.node(0x21, "relay", None, platform_wide(NodeRole::RelayNode), &[]);
        let acme = world.tenant(0x100, "acme", entry);
        let globex = world.tenant(0x200, "globex", entry);
        world.connection(acme, "acme-vpn");
        world.connection(globex, "globex-vpn");
        Self { world, cluster, owner, admin, entry, relay, acme, globex }
    }

    pub(crate) fn state(&self) -> &State {
        &self.world.state
    }

    pub(crate) fn must<A: Aggregate>(&mut self, id: Uuid, command: A::Command) {
        self.world.must::<A>(id, command);
    }

    /// Puts the tenant's resource on the tenant's connection, which ends the tenant's session.
    pub(crate) fn carry(&mut self, tenant: Tenant) {
        let carry = ResourceCommand::Carry { connection: Some(tenant.connection) };
        self.must::<Resource>(tenant.resource.uuid(), carry);
    }

    /// The holder of the tenant's connection gives its lease back.
    pub(crate) fn release(&mut self, tenant: Tenant) {
        let generation = self.state().vpn_connections().get(tenant.connection).unwrap().generation;
        let (reason, released_at) = (ReleaseReason::Drained, self.world.now);
        let release = VpnConnectionCommand::ReleaseLease { generation, reason, released_at };
        self.must::<VpnConnection>(tenant.connection.uuid(), release);
    }

    /// A node holds the lease of the tenant's connection from now on.
    pub(crate) fn grant(&mut self, tenant: Tenant, node: NodeId, generation: u64) {
        let (connection, granted_at) = (tenant.connection.uuid(), self.world.now);
        let valid_until = granted_at + std::time::Duration::from_secs(4);
        let nodes = BTreeSet::new();
        self.must::<VpnConnection>(connection, VpnConnectionCommand::AllowNodes { nodes });
        let grant = VpnConnectionCommand::GrantLease { node, generation, granted_at, valid_until };
        self.must::<VpnConnection>(connection, grant);
    }
}

impl World {
    /// A user with a password, a login and an API token of every scope.
    pub(crate) fn person(&mut self, n: u128, called: &str) -> UserId {
        let user = UserId::from_uuid(uuid(n));
        let (name, display_name) = (name(called), Personal::default());
        self.must::<User>(user.uuid(), UserCommand::Create { name, display_name });
        self.must::<User>(
            user.uuid(),
            UserCommand::ChangePassword { verifier: PHC.to_owned().into() },
        );
        self.must::<Login>(
            login_id(user).uuid(),
            LoginCommand::Open {
                user,
                secret: digest(&format!("login of {called}")).into(),
                expires_at: self.now + std::time::Duration::from_secs(7 * 86_400),
                device: Personal::Sealed(ByteBuf::from(b"laptop".to_vec())),
            },
        );
        self.must::<ApiToken>(
            token_id(user).uuid(),
            ApiTokenCommand::Create {
                user,
                secret: digest(&format!("token of {called}")).into(),
                label: Personal::Sealed(ByteBuf::from(b"ci".to_vec())),
                scopes: ApiScope::ALL.iter().copied().collect(),
                organization: None,
                expires_at: self.now + std::time::Duration::from_secs(7 * 86_400),
            },
        );
        user
    }

    pub(crate) fn member(
        &mut self,
        organization: OrganizationId,
        user: UserId,
        role: OrganizationRole,
    ) {
        self.must::<Membership>(
            membership_id(organization, user),
            MembershipCommand::Grant { organization, user, role },
        );
    }

    /// An approved node with an address and a certificate.
    pub(crate) fn node(
        &mut self,
        n: u128,
        called: &str,
        organization: Option<OrganizationId>,
        roles: Vec<RoleScope>,
        pools: &[PoolId],
    ) -> NodeId {
        let node = NodeId::from_uuid(uuid(n));
        let last = u8::try_from(n & 0xff).unwrap();
        let group = u8::try_from(n >> 8 & 0xff).unwrap();
        self.must::<Node>(
            node.uuid(),
            NodeCommand::Request {
                name: name(called),
                key: key(n),
                addresses: vec![format!("192.0.{group}.{last}:4433").parse().unwrap()],
                capabilities: BTreeSet::from([Capability::RouteMesh]),
                bus_key: format!("UBUS{n}"),
                agent_version: "0.1.0".to_owned(),
                join_token: JoinTokenId::from_uuid(uuid(n + 0x8000)),
                offer: Offer {
                    organization,
                    roles,
                    pools: pools.iter().copied().collect(),
                    auto_approve: true,
                },
            },
        );
        self.must::<Node>(
            node.uuid(),
            NodeCommand::IssueCertificate {
                serial: [last; 16],
                expires_at: self.now + std::time::Duration::from_secs(86_400),
            },
        );
        node
    }

    pub(crate) fn tenant(&mut self, base: u128, called: &str, entry: NodeId) -> Tenant {
        let id = OrganizationId::from_uuid(uuid(base));
        let own = |what: &str| name(&format!("{called}-{what}"));
        let create = OrganizationCommand::Create { organization: id, name: name(called) };
        self.must::<Organization>(id.uuid(), create);
        let people = self.people(base, called, id);
        let pool = PoolId::from_uuid(uuid(base + 0x10));
        let create = PoolCommand::Create { organization: id, name: own("pool") };
        self.must::<Pool>(pool.uuid(), create);
        let only = BTreeSet::from([id]);
        let roles = vec![RoleScope { role: NodeRole::StreamWorker, organizations: Some(only) }];
        let egress =
            self.node(base + 0x20, own("egress").as_str(), Some(id), roles.clone(), &[pool]);
        let (resource, policy) = self.reachable(base, called, id, pool, people[2]);
        let join_token = JoinTokenId::from_uuid(uuid(base + 0x50));
        self.must::<JoinToken>(
            join_token.uuid(),
            JoinTokenCommand::Create {
                secret: digest(&format!("join {called}")).into(),
                roles,
                pools: BTreeSet::from([pool]),
                organization: Some(id),
                host_name: None,
                expires_at: self.now + std::time::Duration::from_secs(3_600),
                auto_approve: false,
            },
        );
        let tenant = Tenant {
            id,
            owner: people[0],
            admin: people[1],
            user: people[2],
            pool,
            resource,
            policy,
            egress,
            session: SessionId::from_uuid(uuid(base + 0x60)),
            join_token,
            connection: VpnConnectionId::from_uuid(uuid(base + 0x70)),
        };
        assert!(self.state.nodes().get(entry).is_some(), "an entry precedes the tenants");
        self.connect(tenant, tenant.user, tenant.session).unwrap();
        tenant
    }

    /// A connection that the tenant's egress carries under generation 1.
    fn connection(&mut self, tenant: Tenant, called: &str) {
        let connection = tenant.connection.uuid();
        self.must::<VpnConnection>(
            connection,
            VpnConnectionCommand::Create {
                organization: tenant.id,
                name: name(called),
                class: LeaseClass::Fast,
                nodes: BTreeSet::from([tenant.egress]),
                enabled: true,
            },
        );
        self.must::<VpnConnection>(
            connection,
            VpnConnectionCommand::GrantLease {
                node: tenant.egress,
                generation: 1,
                granted_at: self.now,
                valid_until: self.now + std::time::Duration::from_secs(4),
            },
        );
    }

    fn people(&mut self, base: u128, called: &str, id: OrganizationId) -> Vec<UserId> {
        let people = [
            (OrganizationRole::Owner, "owner"),
            (OrganizationRole::Admin, "admin"),
            (OrganizationRole::User, "user"),
        ];
        (1..)
            .zip(people)
            .map(|(n, (role, what))| {
                let user = self.person(base + n, &format!("{called}-{what}"));
                self.member(id, user, role);
                user
            })
            .collect()
    }

    /// An ssh server that a policy lets one user reach.
    fn reachable(
        &mut self,
        base: u128,
        called: &str,
        id: OrganizationId,
        pool: PoolId,
        user: UserId,
    ) -> (ResourceId, PolicyId) {
        let resource = ResourceId::from_uuid(uuid(base + 0x30));
        self.must::<Resource>(
            resource.uuid(),
            ResourceCommand::Create {
                organization: id,
                name: name(&format!("{called}-ssh")),
                kind: ResourceKind::Ssh,
                target: Target {
                    host: format!("ssh.{called}.example"),
                    port: 22,
                    allow_local: false,
                },
                pool,
            },
        );
        let policy = PolicyId::from_uuid(uuid(base + 0x40));
        self.must::<Policy>(
            policy.uuid(),
            PolicyCommand::Create {
                organization: id,
                name: name(&format!("{called}-policy")),
                spec: PolicySpec {
                    users: BTreeSet::from([user]),
                    kinds: BTreeSet::from([ResourceKind::Ssh]),
                    ..PolicySpec::default()
                },
            },
        );
        (resource, policy)
    }

    /// Asks for access to the tenant's resource and records the outcome.
    pub(crate) fn connect(
        &mut self,
        tenant: Tenant,
        user: UserId,
        session: SessionId,
    ) -> Result<Authorized, Denied> {
        let request = AccessRequest {
            organization: tenant.id,
            user,
            asked: Asked::Id(tenant.resource),
            client_key: key(77),
            refresh: None,
        };
        self.request(&request, session)
    }

    pub(crate) fn request(
        &mut self,
        request: &AccessRequest,
        session: SessionId,
    ) -> Result<Authorized, Denied> {
        let ids = AccessIds {
            token: MessageId::from_uuid(session.uuid()),
            session,
            attachment: AttachmentId::from_uuid(session.uuid()),
        };
        let outcome = authorize_session(&self.state, &BTreeMap::new(), request, ids, self.now);
        if let Some(command) = request.command(&outcome) {
            let stream = request.refresh.unwrap_or(session);
            self.must::<Session>(stream.uuid(), command);
        }
        outcome
    }

    /// Does what a process manager says.
    pub(crate) fn perform(&mut self, step: Step) {
        match step.command {
            ProcessCommand::Cluster(id, command) => self.must::<Cluster>(id.uuid(), command),
            ProcessCommand::Login(id, command) => self.must::<Login>(id.uuid(), command),
            ProcessCommand::Session(id, command) => self.must::<Session>(id.uuid(), command),
        }
    }

    pub(crate) fn session(&mut self, session: SessionId, command: SessionCommand) {
        self.must::<Session>(session.uuid(), command);
    }
}
