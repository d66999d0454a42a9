//! One test cluster on loopback: its CA, control key, nodes, and the snapshot that each would get.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, LazyLock},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use rap_mesh::{
    BulkThreads, Carrier, Identity, Kernel, MeshEndpoint, MeshEvent, MeshEvents, MeshLimits,
    MeshOptions, Network, Sections, View,
    client::{
        self, Channel, ClientSession, ConnectError, ConnectOptions, EntryAddress, OpenChannel,
    },
};
use rap_pki::{ClusterAuthority, NodeCertificate, node_server_name};
use rap_proto::{
    AttachmentId, ChannelKind, ClusterId, Lane, LaneSet, MessageId, NodeId, NodeRole,
    OrganizationId, RefusalCode, ResourceId, ResourceKind, SessionId, Signer, Timestamp, UserId,
    VpnConnectionId,
    bandwidth::Bandwidth,
    key::LocalKey,
    observation::{Observation, Vantage},
    paths::{PathRule, Paths},
    refusal::Refusal,
    signed,
    snapshot::{
        Assignment, Manifest, Peer, Peers, Place, Places, Resource, Resources, RoleScope,
        StalePolicy, Target, Trust,
    },
    token::{AccessClaims, ChannelGrant},
};
use tokio::{runtime::Handle, time::timeout};

use crate::{leases::TestLeases, targets::TestDialer};

/// Of all nodes of this process.
static BULK: LazyLock<BulkThreads> = LazyLock::new(|| BulkThreads::start().unwrap());

pub(crate) const CLUSTER: ClusterId = ClusterId::from_u128(0xc1);
pub(crate) const ORGANIZATION: OrganizationId = OrganizationId::from_u128(0x01);
pub(crate) const USER: UserId = UserId::from_u128(0x05);
pub(crate) const RESOURCE: ResourceId = ResourceId::from_u128(0x4e);
pub(crate) const SESSION: SessionId = SessionId::from_u128(0x5e);

pub(crate) const ENTRY: NodeId = NodeId::from_u128(0xe1);
pub(crate) const EGRESS: NodeId = NodeId::from_u128(0xe2);
pub(crate) const RELAY: NodeId = NodeId::from_u128(0xa1);
pub(crate) const RELAY_2: NodeId = NodeId::from_u128(0xa2);
pub(crate) const RELAY_3: NodeId = NodeId::from_u128(0xa3);

/// Nothing in these tests takes longer.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    Timestamp::from_unix_millis(i64::try_from(since.as_millis()).unwrap())
}

pub(crate) fn key(seed: u8) -> LocalKey {
    LocalKey::from_random(&[seed; 32]).unwrap()
}

/// What a node tells of the start of the test session.
pub(crate) fn start_seen(from: Vantage) -> Observation {
    Observation::SessionStarted { session: SESSION, from: Some(from) }
}

/// The key that test tokens are bound to.
pub(crate) fn client_key() -> LocalKey {
    key(77)
}

pub(crate) struct Node {
    pub(crate) endpoint: MeshEndpoint,
    pub(crate) events: MeshEvents,
    key: LocalKey,
}

/// What the snapshots of all nodes are made from.
#[derive(Clone)]
pub(crate) struct Plan {
    pub(crate) version: u64,
    pub(crate) expires_at: Timestamp,
    pub(crate) stale_policy: StalePolicy,
    pub(crate) roles: BTreeMap<NodeId, Vec<RoleScope>>,
    pub(crate) draining: BTreeSet<NodeId>,
    /// Of the relays that are not to carry every lane.
    pub(crate) relayed_lanes: BTreeMap<NodeId, LaneSet>,
    pub(crate) denied_nodes: BTreeSet<NodeId>,
    pub(crate) denied_sessions: BTreeSet<SessionId>,
    pub(crate) users: BTreeSet<UserId>,
    pub(crate) target: SocketAddr,
    pub(crate) carried: Option<VpnConnectionId>,
    pub(crate) resources_at: BTreeSet<NodeId>,
    pub(crate) bandwidth: Bandwidth,
    pub(crate) paths: PathRule,
    /// Whether egresses know relays, and so keep themselves reachable there.
    pub(crate) egresses_dial_out: bool,
    /// How one node sees another's address, where that is not the real one.
    pub(crate) addresses: BTreeMap<(NodeId, NodeId), SocketAddr>,
}

pub(crate) struct Fabric {
    authority: ClusterAuthority,
    pub(crate) control: LocalKey,
    pub(crate) nodes: BTreeMap<NodeId, Node>,
    pub(crate) plan: Plan,
    pub(crate) dialer: Arc<TestDialer>,
    leases: BTreeMap<NodeId, Arc<TestLeases>>,
    limits: MeshLimits,
    carrier: Option<Carrier>,
    /// What clients use, unless a test says so itself.
    clients: Option<Carrier>,
    /// Whether they have through flows.
    pub(crate) through: bool,
    // Where packets to a dead address go: bound, so that nobody answers, not even the kernel.
    dead: std::net::UdpSocket,
}

pub(crate) fn platform(role: NodeRole) -> RoleScope {
    RoleScope { role, organizations: None }
}

pub(crate) fn own(role: NodeRole) -> RoleScope {
    RoleScope { role, organizations: Some(BTreeSet::from([ORGANIZATION])) }
}

impl Fabric {
    /// Starts an entry, an egress and `relays`. The resource is at `target`.
    pub(crate) fn start(relays: &[NodeId], target: SocketAddr) -> Self {
        Self::start_with(MeshLimits::default(), None, relays, target)
    }

    /// The same, of endpoints that send their flows on this carrier alone.
    pub(crate) fn start_on(carrier: Carrier, relays: &[NodeId], target: SocketAddr) -> Self {
        Self::start_with(MeshLimits::default(), Some(carrier), relays, target)
    }

    /// The same on QUIC alone, of endpoints with these limits.
    pub(crate) fn start_within(limits: MeshLimits, relays: &[NodeId], target: SocketAddr) -> Self {
        let fabric = Self::start_with(limits, Some(Carrier::Quic), relays, target);
        Self { clients: Some(Carrier::Quic), ..fabric }
    }

    pub(crate) fn start_with(
        limits: MeshLimits,
        carrier: Option<Carrier>,
        relays: &[NodeId],
        target: SocketAddr,
    ) -> Self {
        let authority = ClusterAuthority::create(CLUSTER, &key(1), [1; 16], now());
        let mut roles = BTreeMap::from([
            (ENTRY, vec![own(NodeRole::EntryNode)]),
            (EGRESS, vec![own(NodeRole::StreamWorker)]),
        ]);
        roles.extend(relays.iter().map(|relay| (*relay, vec![platform(NodeRole::RelayNode)])));
        let plan = Plan {
            version: 10,
            expires_at: now() + Duration::from_secs(3600),
            stale_policy: StalePolicy::KeepSessions,
            roles,
            draining: BTreeSet::new(),
            relayed_lanes: BTreeMap::new(),
            denied_nodes: BTreeSet::new(),
            denied_sessions: BTreeSet::new(),
            users: BTreeSet::from([USER]),
            target,
            carried: None,
            resources_at: BTreeSet::from([EGRESS]),
            bandwidth: Bandwidth::default(),
            paths: PathRule::default(),
            egresses_dial_out: false,
            addresses: BTreeMap::new(),
        };
        let mut fabric = Self {
            authority,
            control: key(2),
            nodes: BTreeMap::new(),
            plan,
            dialer: Arc::new(TestDialer::default()),
            leases: BTreeMap::new(),
            limits,
            carrier,
            clients: None,
            through: false,
            dead: std::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap(),
        };
        let ids: Vec<NodeId> = fabric.plan.roles.keys().copied().collect();
        for (id, seed) in ids.into_iter().zip(10..) {
            fabric.start_node(id, seed, BULK.handle());
        }
        fabric.publish();
        fabric
    }

    /// Ends a node at once, without a word to anybody, and starts it again in `runtime`; when
    /// that is dropped, it ends the same way.
    pub(crate) fn move_node(&mut self, id: NodeId, seed: u8, runtime: &tokio::runtime::Runtime) {
        let _inside = runtime.enter();
        self.start_node(id, seed, runtime.handle().clone());
        self.publish();
    }

    /// Starts a node again whose bulk runs there.
    pub(crate) fn move_bulk(&mut self, id: NodeId, seed: u8, bulk: &tokio::runtime::Runtime) {
        self.start_node(id, seed, bulk.handle().clone());
        self.publish();
    }

    /// Starts a node again on that network.
    pub(crate) fn move_to_network(&mut self, id: NodeId, seed: u8, network: Arc<dyn Network>) {
        self.start_node_on(network, id, seed, BULK.handle());
        self.publish();
    }

    pub(crate) fn add_node(&mut self, id: NodeId, seed: u8) {
        self.start_node(id, seed, BULK.handle());
        self.publish();
    }

    fn start_node(&mut self, id: NodeId, seed: u8, bulk: Handle) {
        self.start_node_on(Arc::new(Kernel), id, seed, bulk);
    }

    fn start_node_on(&mut self, network: Arc<dyn Network>, id: NodeId, seed: u8, bulk: Handle) {
        let key = key(seed);
        let leases = self.leases.entry(id).or_default().clone();
        let options = MeshOptions {
            listen: (Ipv4Addr::LOCALHOST, 0).into(),
            identity: self.identity(id, &key, 0),
            dialer: self.dialer.clone(),
            marks: leases.marks(),
            leases,
            limits: self.limits,
            bulk,
            carrier: self.carrier,
        };
        let (endpoint, events) = MeshEndpoint::bind_on(network, options, self.view(id)).unwrap();
        self.nodes.insert(id, Node { endpoint, events, key });
    }

    pub(crate) fn identity(&self, id: NodeId, key: &LocalKey, renewal: u64) -> Identity {
        let lifetime = Duration::from_secs(3600);
        let leaf = self.authority.issue_node(&NodeCertificate {
            cluster: CLUSTER,
            node: id,
            key: &key.public_key(),
            serial: [7; 16],
            renewal,
            authority_epoch: 1,
            now: now(),
            lifetime,
        });
        Identity { chain: vec![leaf], key: key.clone() }
    }

    pub(crate) fn node_key(&self, id: NodeId) -> LocalKey {
        self.nodes[&id].key.clone()
    }

    /// Shows one node a certificate of its own key again.
    pub(crate) fn renewed_identity(&self, id: NodeId) -> Identity {
        self.identity(id, &self.nodes[&id].key, 1)
    }

    /// The address that nobody answers at.
    pub(crate) fn dead_address(&self) -> SocketAddr {
        self.dead.local_addr().unwrap()
    }

    /// From now on the entry cannot reach the egress directly.
    pub(crate) fn cut_direct_path(&mut self) {
        self.plan.addresses.insert((ENTRY, EGRESS), self.dead_address());
        self.publish();
    }

    pub(crate) fn authority(&self) -> Vec<u8> {
        self.authority.certificate_der().to_vec()
    }

    pub(crate) fn address(&self, id: NodeId) -> SocketAddr {
        self.nodes[&id].endpoint.local_addr().unwrap()
    }

    /// Gives every node its snapshot.
    pub(crate) fn publish(&self) {
        for id in self.nodes.keys() {
            self.publish_to(*id);
        }
    }

    pub(crate) fn publish_to(&self, id: NodeId) {
        self.nodes[&id].endpoint.apply(self.view(id)).unwrap();
    }

    pub(crate) fn view(&self, id: NodeId) -> View {
        let manifest = Manifest {
            cluster: CLUSTER,
            node: id,
            authority_epoch: 1,
            version: self.plan.version,
            issued_at: now(),
            expires_at: self.plan.expires_at,
            stale_policy: self.plan.stale_policy,
            sections: BTreeMap::new(),
        };
        let assignment = Assignment {
            name: "node".parse().unwrap(),
            draining: self.plan.draining.contains(&id),
            roles: self.plan.roles.get(&id).cloned().unwrap_or_default(),
            pools: BTreeSet::new(),
        };
        let trust = Trust {
            authorities: vec![self.authority.certificate_der().to_vec().into()],
            control_keys: vec![self.control.public_key()],
            denied_nodes: self.plan.denied_nodes.clone(),
            denied_sessions: self.plan.denied_sessions.clone(),
        };
        let knows = |peer: NodeId| {
            let only = |node: NodeId, role| {
                let roles = self.plan.roles.get(&node).into_iter().flatten();
                roles.clone().count() > 0 && roles.clone().all(|scope| scope.role == role)
            };
            let is_egress = only(id, NodeRole::StreamWorker) && only(peer, NodeRole::RelayNode);
            peer != id && (self.plan.egresses_dial_out || !is_egress)
        };
        let peers = self.nodes.iter().filter(|(peer, _)| knows(**peer)).map(|(peer, node)| Peer {
            node: *peer,
            key: node.key.public_key().id(),
            roles: self.plan.roles.get(peer).cloned().unwrap_or_default(),
            addresses: vec![
                self.plan.addresses.get(&(id, *peer)).copied().unwrap_or(self.address(*peer)),
            ],
        });
        let resource = Resource {
            id: RESOURCE,
            organization: ORGANIZATION,
            kind: ResourceKind::Tcp,
            target: Target {
                host: self.plan.target.ip().to_string(),
                port: self.plan.target.port(),
                allow_local: true,
            },
            users: self.plan.users.clone(),
            carried: self.plan.carried,
        };
        let resources =
            if self.plan.resources_at.contains(&id) { vec![resource] } else { Vec::new() };
        View::new(
            &manifest,
            Sections {
                assignment,
                trust,
                peers: Peers { peers: peers.collect() },
                resources: Resources { resources },
                bandwidth: self.plan.bandwidth.clone(),
                places: self.places(),
                paths: Paths { rule: self.plan.paths },
                mesh: Default::default(),
            },
        )
    }

    fn places(&self) -> Places {
        let Plan { draining, relayed_lanes, .. } = &self.plan;
        let place = |node: &NodeId| Place {
            draining: draining.contains(node),
            relayed_lanes: relayed_lanes.get(node).copied().unwrap_or_default(),
            ..Place::default()
        };
        let named = draining.iter().chain(relayed_lanes.keys());
        Places { nodes: named.map(|node| (*node, place(node))).collect() }
    }

    /// Claims that every check accepts.
    pub(crate) fn claims(&self) -> AccessClaims {
        let lanes = Lane::ALL.iter().copied().collect();
        AccessClaims {
            id: MessageId::from_u128(1),
            cluster: CLUSTER,
            authority_epoch: 1,
            organization: ORGANIZATION,
            user: USER,
            session: SESSION,
            attachment: AttachmentId::from_u128(1),
            resource: RESOURCE,
            kind: ResourceKind::Tcp,
            entries: BTreeSet::from([ENTRY]),
            egresses: BTreeMap::from([(EGRESS, self.plan.version)]),
            channels: BTreeMap::from([(ChannelKind::Stream, ChannelGrant { lanes, max_open: 32 })]),
            not_before: now(),
            connect_by: now() + Duration::from_secs(120),
            expires_at: now() + Duration::from_secs(600),
            client_key: client_key().public_key(),
            leased: None,
        }
    }

    pub(crate) fn token(&self, claims: &AccessClaims) -> Vec<u8> {
        signed::seal(claims, &[&self.control])
    }

    pub(crate) async fn connect_with(
        &self,
        token: Vec<u8>,
        key: LocalKey,
    ) -> Result<ClientSession, ConnectError> {
        self.connect_on(self.clients, token, key).await
    }

    /// A session of a client that uses this carrier alone.
    pub(crate) async fn session_on(&self, carrier: Carrier) -> ClientSession {
        self.connect_on(Some(carrier), self.token(&self.claims()), client_key()).await.unwrap()
    }

    /// The same, of a client that knows the entry at this address.
    pub(crate) async fn connect_at(
        &self,
        address: SocketAddr,
        token: Vec<u8>,
        key: LocalKey,
    ) -> Result<ClientSession, ConnectError> {
        self.connect_through((ENTRY, address), None, token, key).await
    }

    pub(crate) async fn connect_on(
        &self,
        carrier: Option<Carrier>,
        token: Vec<u8>,
        key: LocalKey,
    ) -> Result<ClientSession, ConnectError> {
        self.connect_through((ENTRY, self.address(ENTRY)), carrier, token, key).await
    }

    /// The same, of a client that knows this entry.
    pub(crate) async fn connect_to(
        &self,
        entry: NodeId,
        token: Vec<u8>,
        key: LocalKey,
    ) -> Result<ClientSession, ConnectError> {
        self.connect_through((entry, self.address(entry)), self.clients, token, key).await
    }

    async fn connect_through(
        &self,
        (entry, address): (NodeId, SocketAddr),
        carrier: Option<Carrier>,
        token: Vec<u8>,
        key: LocalKey,
    ) -> Result<ClientSession, ConnectError> {
        let entry = EntryAddress { server_name: node_server_name(entry), addresses: vec![address] };
        let options = ConnectOptions {
            entries: vec![entry],
            authorities: vec![self.authority()],
            token,
            key: Arc::new(key),
            carrier,
            through: self.through,
        };
        timeout(PATIENCE, client::connect(options)).await.unwrap()
    }

    pub(crate) async fn connect(
        &self,
        claims: &AccessClaims,
    ) -> Result<ClientSession, ConnectError> {
        self.connect_with(self.token(claims), client_key()).await
    }

    pub(crate) async fn session(&self) -> ClientSession {
        self.connect(&self.claims()).await.unwrap()
    }

    /// What one node remembers and holds of leases; it outlives the node.
    pub(crate) fn leases(&self, id: NodeId) -> &TestLeases {
        &self.leases[&id]
    }

    /// The next event of one node.
    pub(crate) async fn event(&mut self, id: NodeId) -> MeshEvent {
        let events = &mut self.nodes.get_mut(&id).unwrap().events;
        timeout(PATIENCE, events.recv()).await.expect("an event comes").unwrap()
    }

    /// What a node says next; of a start only the egress is asked here.
    pub(crate) async fn observation(&mut self, id: NodeId) -> Observation {
        loop {
            let observation = self.observed(id).await;
            if id != ENTRY || !matches!(observation, Observation::SessionStarted { .. }) {
                return observation;
            }
        }
    }

    pub(crate) async fn observed(&mut self, id: NodeId) -> Observation {
        loop {
            match self.event(id).await {
                MeshEvent::Observed { observation, .. } => return observation,
                // Nobody fetches unless a test does.
                MeshEvent::SnapshotWanted { .. } => {}
            }
        }
    }

    /// The next event of a node is the refusal `code`, with or without verified claims.
    pub(crate) async fn expect_refusal(&mut self, id: NodeId, code: RefusalCode, claimed: bool) {
        match self.observation(id).await {
            Observation::AccessRefused { code: seen, claimed: seen_claims } => {
                assert_eq!(seen, code);
                assert_eq!(seen_claims.is_some(), claimed, "{seen_claims:?}");
            }
            other => panic!("expected a refusal, got {other:?}"),
        }
    }
}

pub(crate) const fn stream(lane: Lane) -> OpenChannel {
    OpenChannel { channel: ChannelKind::Stream, lane, traceparent: None, resume: None }
}

pub(crate) async fn open(session: &ClientSession, lane: Lane) -> Channel {
    timeout(PATIENCE, session.open(stream(lane))).await.unwrap().unwrap()
}

/// The refusal of a channel.
pub(crate) async fn open_refused(session: &ClientSession) -> Refusal {
    let opened = timeout(PATIENCE, session.open(stream(Lane::Interactive))).await.unwrap();
    match opened {
        Err(client::OpenError::Refused(refusal)) => refusal,
        other => panic!("expected a refusal, got {other:?}"),
    }
}
