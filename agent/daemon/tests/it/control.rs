//! A control plane for one node: the node API of `rap_proto::wire::node_api` and the bus, with
//! its decisions in the test's hands.

mod answers;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{SocketAddr, UdpSocket},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use futures_util::StreamExt as _;
use rap_bus::{
    Bus, LocalBus, NatsAuthority, NatsBus, NatsOptions, nats_authority::Revocations,
    private::PrivateNats,
};
use rap_node_agent::{BusChoice, JoinOptions, RunOptions, RunningAgent, StatusReport};
use rap_pki::{ClusterAuthority, NodeCertificate, tls::Identity};
use rap_proto::{
    ClusterId, Digest, IncarnationId, InquiryId, NodeId, NodeRole, PublicKey, Signer as _,
    Timestamp,
    bus::{
        ControlBody, ControlMessage, Explanation, Heartbeat, MESSAGE_TTL_MS, NodeBody, NodeMessage,
        all_up_subjects, down_subject,
    },
    key::LocalKey,
    mesh::Mesh,
    observation::{Observation, Spooled},
    secret::{JoinSecret, Secret},
    signed::{self, Trusted},
    snapshot::{Assignment, Bundle, Manifest, Peers, RoleScope, Section as _, StalePolicy, Trust},
    wire::node_api::{BeatReply, EnrollRequest, NodeApiCode},
};
use tokio::{net::TcpListener, task::JoinSet, time::Instant};

const CLUSTER: ClusterId = ClusterId::from_u128(7);
/// Longer than any call of an agent's waits for its answer, by enough for a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(45);

pub(crate) fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    Timestamp::from_unix_millis(i64::try_from(since.as_millis()).unwrap())
}

fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).unwrap();
    bytes
}

pub(crate) fn random_key() -> LocalKey {
    LocalKey::from_random(&random()).unwrap()
}

/// Waits for something that becomes true, without counting on how long it takes.
pub(crate) async fn until(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < deadline, "{what}: it did not happen");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

pub(crate) struct Control {
    shared: Arc<Shared>,
    bus: Arc<dyn Bus>,
    wire: Wire,
    address: SocketAddr,
    serving: JoinSet<()>,
    _listening: JoinSet<()>,
    directory: tempfile::TempDir,
}

/// Gone when it is dropped.
pub(crate) struct Another {
    pub(crate) address: SocketAddr,
    serving: JoinSet<()>,
}

/// As soon as the address is free.
async fn listen(address: SocketAddr) -> TcpListener {
    let binding = async {
        loop {
            match TcpListener::bind(address).await {
                Ok(listener) => return listener,
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    };
    tokio::time::timeout(PATIENCE, binding).await.expect("nobody else has the address")
}

/// What carries the bus.
enum Wire {
    Local(Arc<LocalBus>),
    Nats(Box<PrivateNats>),
}

struct Shared {
    /// With the servers' addresses, when the bus is NATS.
    nats: Option<(NatsAuthority, String)>,
    cluster: ClusterId,
    authority: ClusterAuthority,
    server: (Vec<u8>, LocalKey),
    key: LocalKey,
    /// A node remembers few of them at once.
    incarnation: IncarnationId,
    said: AtomicU64,
    desk: Mutex<Desk>,
}

/// What the test decides and sees.
#[derive(Default)]
pub(crate) struct Desk {
    pub(crate) auto_approve: bool,
    pub(crate) rejected: bool,
    /// Every call of the node is answered with this.
    pub(crate) refuses: Option<NodeApiCode>,
    /// The next call is done, and its answer is lost.
    pub(crate) loses_answer: bool,
    pub(crate) certificate_life: Duration,
    /// Of the certificates that it issues.
    pub(crate) authority_epoch: u64,
    pub(crate) snapshot: Option<(u64, Bundle)>,
    /// The leaves of the log that the node is shown.
    pub(crate) log: Vec<Digest>,
    /// The newest authority beat, if control makes any.
    pub(crate) beat: Option<BeatReply>,
    /// Whether observations are confirmed.
    pub(crate) records: bool,
    pub(crate) node: Option<Node>,
    pub(crate) heartbeats: Vec<Heartbeat>,
    pub(crate) observations: BTreeMap<u64, Spooled>,
    /// How often an observation arrived that was there already.
    pub(crate) repeated: usize,
    pub(crate) explained: Vec<Explanation>,
    pub(crate) renewals: u64,
    /// The authority epochs of the certificates that were to be renewed.
    pub(crate) renewed: Vec<u64>,
    pub(crate) polls: u64,
    pub(crate) snapshot_requests: u64,
    token_used: bool,
}

pub(crate) struct Node {
    pub(crate) id: NodeId,
    pub(crate) key: PublicKey,
    pub(crate) request: EnrollRequest,
}

/// What a snapshot says; the test changes it to what it needs.
pub(crate) struct Making {
    pub(crate) manifest: Manifest,
    pub(crate) assignment: Assignment,
    pub(crate) trust: Trust,
    pub(crate) peers: Peers,
    pub(crate) mesh: Mesh,
    pub(crate) signer: LocalKey,
}

impl Making {
    pub(crate) fn bundle(mut self) -> Bundle {
        let mut sections = vec![
            (Assignment::NAME, self.assignment.to_bytes()),
            (Trust::NAME, self.trust.to_bytes()),
            (Peers::NAME, self.peers.to_bytes()),
        ];
        if !self.mesh.is_empty() {
            sections.push((Mesh::NAME, self.mesh.to_bytes()));
        }
        for (name, bytes) in &sections {
            self.manifest.sections.insert((*name).to_owned(), Digest::of(bytes));
        }
        Bundle {
            manifest: signed::seal(&self.manifest, &[&self.signer]),
            sections: sections.into_iter().map(|(_, bytes)| bytes.into()).collect(),
        }
    }
}

impl Control {
    pub(crate) async fn start() -> Self {
        let local = Arc::new(LocalBus::new());
        let directory = tempfile::tempdir().unwrap();
        Self::start_on(directory, Wire::Local(local.clone()), local, None).await
    }

    /// With a real nats-server of its own.
    pub(crate) async fn start_with_nats() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let folder = directory.path().join("nats");
        std::fs::create_dir(&folder).unwrap();
        let authority = NatsAuthority::derive(CLUSTER, &random());
        let server =
            PrivateNats::start(&folder, &authority, &Revocations::new(), now()).await.unwrap();
        let options = NatsOptions {
            servers: vec![server.url()],
            credentials: authority.control_credentials(now()),
            tls: None,
        };
        let bus = NatsBus::connect(options).await.unwrap();
        bus.wait_connected(PATIENCE).await.unwrap();
        let url = server.url();
        let wire = Wire::Nats(Box::new(server));
        Self::start_on(directory, wire, Arc::new(bus), Some((authority, url))).await
    }

    async fn start_on(
        directory: tempfile::TempDir,
        wire: Wire,
        bus: Arc<dyn Bus>,
        nats: Option<(NatsAuthority, String)>,
    ) -> Self {
        let (cluster, ca_key) = (CLUSTER, random_key());
        let authority = ClusterAuthority::create(cluster, &ca_key, random(), now());
        let server_key = random_key();
        let names = ["127.0.0.1".to_owned()];
        let day = Duration::from_secs(86_400);
        let certificate =
            authority.issue_server(&names, &server_key.public_key(), random(), now(), day).unwrap();
        let desk = Desk {
            auto_approve: true,
            records: true,
            certificate_life: day,
            authority_epoch: 1,
            ..Desk::default()
        };
        let shared = Arc::new(Shared {
            nats,
            cluster,
            authority,
            server: (certificate, server_key),
            key: random_key(),
            incarnation: IncarnationId::new(now(), random()),
            said: AtomicU64::new(0),
            desk: Mutex::new(desk),
        });
        let mut listening = JoinSet::new();
        let heard = bus.subscribe(all_up_subjects(cluster)).await.unwrap();
        listening.spawn(hear(shared.clone(), bus.clone(), heard));
        let mut control = Self {
            shared,
            bus,
            wire,
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            serving: JoinSet::new(),
            _listening: listening,
            directory,
        };
        control.serve().await;
        control
    }

    /// Listens again, at the same address.
    pub(crate) async fn serve(&mut self) {
        let listener = listen(self.address).await;
        self.address = listener.local_addr().unwrap();
        self.serving.spawn(answers::accept(listener, self.shared.clone()));
    }

    /// Whichever of the two servers is at this address proves itself, and answers nothing any more.
    pub(crate) async fn fall_silent(&mut self, another: &mut Another, at: &str) {
        let joined = at == format!("https://{}", self.address);
        let (address, serving) = match joined {
            true => (self.address, &mut self.serving),
            false => (another.address, &mut another.serving),
        };
        serving.shutdown().await;
        serving.spawn(answers::keep_silent(listen(address).await, self.shared.clone()));
    }

    /// One more server of the same control plane.
    pub(crate) async fn another_server(&self) -> Another {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut serving = JoinSet::new();
        serving.spawn(answers::accept(listener, self.shared.clone()));
        Another { address, serving }
    }

    /// The server that the node joined at is gone; the bus is not.
    pub(crate) async fn lose_server(&mut self) {
        self.serving.shutdown().await;
    }

    /// The control plane and the bus are gone.
    pub(crate) async fn go_away(&mut self) {
        match &mut self.wire {
            Wire::Local(bus) => bus.set_disconnected(true),
            Wire::Nats(server) => server.kill().await,
        }
        self.serving.shutdown().await;
    }

    pub(crate) async fn come_back(&mut self) {
        match &mut self.wire {
            Wire::Local(bus) => bus.set_disconnected(false),
            Wire::Nats(server) => server.restart().await.unwrap(),
        }
        self.serve().await;
    }

    pub(crate) fn desk(&self) -> MutexGuard<'_, Desk> {
        self.shared.desk.lock().unwrap()
    }

    pub(crate) fn state_dir(&self) -> PathBuf {
        self.directory.path().join("node")
    }

    pub(crate) fn join_options(&self) -> JoinOptions {
        JoinOptions {
            control: format!("https://{}", self.address).parse().unwrap(),
            others: Vec::new(),
            ca: self.shared.authority.fingerprint(),
            token: token(),
            name: "edge-1".parse().unwrap(),
            listen: free_port(),
            advertise: Vec::new(),
            state_dir: self.state_dir(),
            wait: PATIENCE,
        }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn run_options(&self) -> RunOptions {
        RunOptions {
            state_dir: self.state_dir(),
            listen: free_port(),
            advertise: Vec::new(),
            worker: PathBuf::from("/nonexistent"),
            bus: match &self.wire {
                Wire::Local(bus) => BusChoice::Local(bus.clone()),
                Wire::Nats(_) => BusChoice::Credentials,
            },
            carrier: None,
            peers: None,
            drain_limit: Duration::ZERO,
            driver: rap_node_agent::DriverChoice::None,
            metrics: None,
        }
    }

    /// Joins and starts one agent.
    pub(crate) async fn agent(&self) -> RunningAgent {
        rap_node_agent::join(self.join_options(), |_, _| {}).await.unwrap();
        self.run().await
    }

    pub(crate) async fn run(&self) -> RunningAgent {
        let mut agent = rap_node_agent::start(self.run_options()).unwrap();
        agent.ready().await.unwrap();
        agent
    }

    pub(crate) fn node(&self) -> NodeId {
        self.desk().node.as_ref().unwrap().id
    }

    pub(crate) fn making(&self, version: u64) -> Making {
        Making {
            manifest: Manifest {
                cluster: self.shared.cluster,
                node: self.node(),
                authority_epoch: 1,
                version,
                issued_at: now(),
                expires_at: now() + Duration::from_secs(3_600),
                stale_policy: StalePolicy::KeepSessions,
                sections: BTreeMap::new(),
            },
            assignment: Assignment {
                name: "edge-1".parse().unwrap(),
                draining: false,
                roles: vec![RoleScope { role: NodeRole::EntryNode, organizations: None }],
                pools: BTreeSet::new(),
            },
            trust: Trust {
                authorities: vec![self.shared.authority.certificate_der().to_vec().into()],
                control_keys: vec![self.shared.key.public_key()],
                denied_nodes: BTreeSet::new(),
                denied_sessions: BTreeSet::new(),
            },
            peers: Peers::default(),
            mesh: Mesh::default(),
            signer: self.shared.key.clone(),
        }
    }

    /// The identity of another node of the cluster.
    pub(crate) fn identity_of(&self, node: NodeId, key: &LocalKey) -> Identity {
        let Shared { authority, cluster, .. } = &*self.shared;
        let life = Duration::from_secs(3_600);
        let leaf = authority.issue_node(&NodeCertificate {
            cluster: *cluster,
            node,
            key: &key.public_key(),
            serial: random(),
            renewal: 0,
            authority_epoch: 1,
            now: now(),
            lifetime: life,
        });
        Identity { chain: vec![leaf], key: key.clone() }
    }

    /// Publishes a snapshot and rings.
    pub(crate) async fn offer(&self, version: u64, bundle: Bundle) {
        self.desk().snapshot = Some((version, bundle));
        self.ring(version).await;
    }

    pub(crate) async fn ring(&self, version: u64) {
        let body = ControlBody::SnapshotAvailable { version };
        say(&self.shared, &*self.bus, self.node(), body, &self.shared.key).await;
    }

    pub(crate) async fn ring_beat(&self, sequence: u64) {
        let body = ControlBody::BeatAvailable { sequence };
        say(&self.shared, &*self.bus, self.node(), body, &self.shared.key).await;
    }

    /// Asks the node what it makes of another.
    pub(crate) async fn ask_why(&self, inquiry: InquiryId, node: NodeId) {
        let body = ControlBody::Explain { inquiry, node };
        say(&self.shared, &*self.bus, self.node(), body, &self.shared.key).await;
    }

    /// Rings with a signature that is not control's.
    pub(crate) async fn ring_falsely(&self, version: u64) {
        let body = ControlBody::SnapshotAvailable { version };
        say(&self.shared, &*self.bus, self.node(), body, &random_key()).await;
    }

    /// Every observation that arrived, in the order of their sequence.
    pub(crate) fn observed(&self) -> Vec<Observation> {
        self.desk().observations.values().map(|one| one.observation.clone()).collect()
    }
}

pub(crate) fn token() -> Secret<JoinSecret> {
    Secret::from_random([42; 32])
}

/// One that is free on both carriers.
pub(crate) fn free_port() -> SocketAddr {
    loop {
        let at = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        if std::net::TcpListener::bind(at).is_ok() {
            return at;
        }
    }
}

pub(crate) fn report(agent: &RunningAgent) -> StatusReport {
    agent.status().unwrap()
}

/// Every file below a directory, but for sockets.
pub(crate) fn files(root: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(root).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else if path.is_file() {
            found.push(path);
        }
    }
    found
}

async fn say(shared: &Shared, bus: &dyn Bus, node: NodeId, body: ControlBody, signer: &LocalKey) {
    let message = ControlMessage {
        cluster: shared.cluster,
        authority_epoch: 1,
        audience: node,
        incarnation: shared.incarnation,
        sequence: shared.said.fetch_add(1, Ordering::Relaxed) + 1,
        issued_at: now(),
        expires_at: now() + Duration::from_millis(MESSAGE_TTL_MS),
        body,
    };
    let bytes = signed::seal(&message, &[signer]);
    let _ = bus.publish(down_subject(shared.cluster, node), bytes.into()).await;
}

async fn hear(shared: Arc<Shared>, bus: Arc<dyn Bus>, mut heard: rap_bus::Subscription) {
    while let Some(event) = heard.next().await {
        let node = {
            let desk = shared.desk.lock().unwrap();
            desk.node.as_ref().map(|node| (node.id, node.key))
        };
        let Some((id, key)) = node else { continue };
        let message = signed::open::<NodeMessage>(&event.payload, &Trusted::one(key)).unwrap();
        assert_eq!((message.sender, message.cluster), (id, shared.cluster));
        let confirm = {
            let mut desk = shared.desk.lock().unwrap();
            match message.into_inner().body {
                NodeBody::Heartbeat(heartbeat) => {
                    desk.heartbeats.push(heartbeat);
                    None
                }
                NodeBody::Observations(batch) => {
                    let through = batch.last().map(|last| last.sequence);
                    for one in batch {
                        let known = desk.observations.insert(one.sequence, one.clone());
                        assert!(known.as_ref().is_none_or(|known| *known == one));
                        desk.repeated += usize::from(known.is_some());
                    }
                    through.filter(|_| desk.records)
                }
                NodeBody::Explained(explanation) => {
                    desk.explained.push(explanation);
                    None
                }
                NodeBody::Leases(_) => None,
            }
        };
        if let Some(through) = confirm {
            let body = ControlBody::ObservationsRecorded { through };
            say(&shared, &*bus, id, body, &shared.key).await;
        }
    }
}
