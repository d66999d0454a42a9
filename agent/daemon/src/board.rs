//! What the agent says of itself: each actor keeps its own part up to date, and the status
//! socket, the heartbeat and the library's caller read the whole.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
};

use rap_proto::{
    Authority, Capability, ClusterId, Digest, Generation, LeaseClass, Name, NodeId, NodeRole,
    OrganizationId, SessionId, Timestamp, UserId, VpnConnectionId, bandwidth::Traffic,
    carriers::CarrierRuling, observation::LogRefusal,
};
use serde::{Deserialize, Serialize};

/// The state of an agent, as `rap-node-agent status` shows it. No part of it is secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StatusReport {
    pub name: Name,
    pub agent_version: String,
    pub started_at: Timestamp,
    pub state: AgentState,
    pub node: Option<NodeId>,
    pub cluster: Option<ClusterId>,
    /// What an approver compares: the SHA-256 of the node's public key.
    pub fingerprint: Digest,
    pub certificate: Option<CertificateStatus>,
    pub snapshot: Option<SnapshotStatus>,
    /// The newest tree head of the log that this node saw.
    #[serde(default)]
    pub log: LogStatus,
    /// What control's word is worth.
    #[serde(default)]
    pub authority: AuthorityStatus,
    pub control: ControlStatus,
    pub bus_connected: bool,
    pub mesh: MeshReport,
    /// The nodes that this one keeps near.
    #[serde(default)]
    pub peers: PeersStatus,
    pub worker: WorkerStatus,
    pub spool: SpoolStatus,
    /// The connections that this node may carry.
    #[serde(default)]
    pub leases: LeasesStatus,
    pub capabilities: BTreeSet<Capability>,
    /// How often an actor had to be started again.
    pub actor_restarts: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AgentState {
    /// Waiting for somebody to approve the enrollment.
    Pending,
    /// Running, and control has not sent a snapshot yet.
    Starting,
    Running,
    /// The snapshot's life ended: nothing new is accepted until control can be reached.
    Stale,
    /// The log that control shows was rewritten: nothing new is accepted until a person looked.
    Suspended,
    /// Asked to stop; open sessions may finish.
    Draining,
    /// The node is no longer part of the cluster. Final.
    Revoked,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CertificateStatus {
    pub renewal: u64,
    pub expires_at: Timestamp,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SnapshotStatus {
    pub version: u64,
    /// Of the manifest: what a replay of the log compiles again and compares.
    #[serde(default)]
    pub digest: Digest,
    pub authority_epoch: u64,
    pub issued_at: Timestamp,
    pub expires_at: Timestamp,
    pub roles: BTreeSet<NodeRole>,
    pub draining: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LogStatus {
    /// How many events the log had; zero before the first look.
    pub size: u64,
    pub root: Digest,
    /// Why this node takes nothing from control any more.
    pub refuted: Option<LogRefusal>,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AuthorityStatus {
    pub standing: Authority,
    /// Of the newest beat that counted; `None` before the first.
    pub epoch: Option<u64>,
    pub sequence: u64,
    pub expires_at: Option<Timestamp>,
    /// How many replicas may sign beats, and how many of them must; one alone is no quorum.
    pub replicas: usize,
    pub needed: u32,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ControlStatus {
    pub reachable: bool,
    pub last_answer_at: Option<Timestamp>,
    pub last_error: Option<String>,
    /// The server that is asked next, and how many are known.
    #[serde(default)]
    pub server: Option<String>,
    #[serde(default)]
    pub servers: usize,
    /// How often another one was gone to since the start.
    #[serde(default)]
    pub server_changes: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MeshReport {
    /// `None` until there is a snapshot to serve by, or when the port could not be opened.
    pub listening: Option<SocketAddr>,
    pub last_error: Option<String>,
    pub entry_sessions: usize,
    /// Those of them whose client lost its connection and may come back.
    #[serde(default)]
    pub absent_sessions: usize,
    pub egress_sessions: usize,
    pub relayed_flows: usize,
    /// What this relay forwarded for them.
    #[serde(default)]
    pub relayed: RelayedReport,
    /// Egresses that keep themselves reachable at this relay.
    #[serde(default)]
    pub reachable_nodes: usize,
    /// Relays at which this egress keeps itself reachable.
    #[serde(default)]
    pub reachable_at: usize,
    pub lanes: Vec<LaneReport>,
    /// Flows of this entry on TLS connections of their own.
    #[serde(default)]
    pub tcp_flows: usize,
    /// Of them, those that end at their clients.
    #[serde(default)]
    pub through_flows: usize,
    /// How they changed their paths while those still worked.
    #[serde(default)]
    pub tcp_moves: MoveReport,
    /// Whether bulk on TCP can have the congestion controller BBR: `available`, `not_permitted` or
    /// `not_there`. `None` where the kernel does not say.
    #[serde(default)]
    pub bbr: Option<String>,
    #[serde(default)]
    pub controllers: ControllersReport,
    /// Which carriers new flows take, for each lane that had any.
    #[serde(default)]
    pub carriers: Vec<CarrierReport>,
    pub dropped_events: u64,
    /// What has flows at the moment of that which the bandwidth policies speak of.
    #[serde(default)]
    pub bandwidth: Vec<ClassReport>,
    /// What was shaped since the mesh began, of all organizations together.
    #[serde(default)]
    pub shaped_up: ShapedReport,
    #[serde(default)]
    pub shaped_down: ShapedReport,
    /// Connections that an egress made to this relay when whoever they were for had gone another way.
    #[serde(default)]
    pub late_connections: u64,
    #[serde(default)]
    pub counted: CountedReport,
}

/// What the mesh counted since it began, by closed lists of words; it names nobody. What is absent
/// is zero.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CountedReport {
    /// Changes of lanes' paths, by reason.
    pub switches: BTreeMap<String, u64>,
    /// How often a lane's search for a path reached each of the five steps.
    pub steps: BTreeMap<String, u64>,
    pub holes_found: u64,
    /// Rounds that found no hole, and holes that were lost, by reason.
    pub holes_failed: BTreeMap<String, u64>,
    /// What this node refused, by code.
    pub refused: BTreeMap<String, u64>,
    /// What was turned away unheard, by limit.
    pub limits: BTreeMap<String, u64>,
    pub flows: Vec<FlowsReport>,
    #[serde(default)]
    pub messages: Vec<MessagesReport>,
}

/// Which congestion controllers connections have that send bulk on TCP; it names nobody. A flow that passes a
/// relay or an entry unread has two of them there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ControllersReport {
    /// Connections with BBR.
    pub bbr: u64,
    /// Changes to it, and back to the kernel's usual one.
    pub changed: u64,
    pub changed_back: u64,
    /// How often the kernel refused it.
    pub refused: u64,
}

/// Messages of one kind of channel that ends at this egress. What is in none of the numbers of its
/// direction waits, or was on its way when its channel ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MessagesReport {
    pub channel: rap_proto::ChannelKind,
    pub down: MessagesDown,
    pub up: MessagesUp,
}

/// Those for clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MessagesDown {
    pub taken_in: u64,
    pub sent: u64,
    /// There was no more room.
    pub full: u64,
    /// They waited too long.
    pub stale: u64,
    /// They gave their place to a newer one of the same key.
    pub coalesced: u64,
}

/// Those from clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MessagesUp {
    pub came: u64,
    pub handed_out: u64,
    /// They came after a newer one, gave way to one, or waited too long.
    pub put_aside: u64,
}

/// Flows of one lane of which this node is one end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FlowsReport {
    /// `entry` or `egress`; a node that is both for a flow counts it as an entry.
    pub end: String,
    pub lane: rap_proto::Lane,
    pub open: u64,
    pub begun: u64,
    /// Bytes towards resources, and towards clients.
    pub up: u64,
    pub down: u64,
}

/// What a relay forwarded since the mesh began; it names nobody.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RelayedReport {
    pub datagrams: u64,
    /// Of datagrams and of streams.
    pub bytes: u64,
    /// Beyond what a flow, an asker or an organization may pass.
    pub dropped_datagrams: u64,
    pub dropped_bytes: u64,
    /// How often a stream was not read for a while, for the same reason.
    pub held_back: u64,
    /// How often a flow had to wait for its turn.
    pub waits: u64,
    /// Datagrams from elsewhere than a flow's own addresses, as far as the kernel let them through.
    pub strangers: u64,
}

/// Of flows on TLS connections of their own; it names nobody.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MoveReport {
    /// Flows that lead over relays now.
    pub relayed: usize,
    /// Since the mesh began: moves, those that came to nothing, and connections that were made to find
    /// out whether a path works.
    pub moved: u64,
    pub stayed: u64,
    pub trials: u64,
}

/// What new flows of a lane are tried on, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CarrierReport {
    pub egress: NodeId,
    pub lane: rap_proto::Lane,
    /// What the last flow opened on; `None` before the first.
    pub carrier: Option<String>,
    /// `prior`, `policy`, `measured`, `trial` or `failed`.
    pub reason: Option<String>,
    /// What the platform and the organization say of the lane.
    #[serde(default)]
    pub ruling: CarrierRuling,
    pub quic: CarrierMeasured,
    pub tcp: CarrierMeasured,
    /// How often the other carrier was found better, and how often it was tried.
    pub changes: u64,
    pub trials: u64,
}

/// What flows that waited for their lane passed, and how soon the answer to an opening came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CarrierMeasured {
    pub up_bits_per_second: Option<u64>,
    pub down_bits_per_second: Option<u64>,
    pub opened_us: Option<u64>,
}

/// Counters of one direction, up towards resources; they name nobody.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ShapedReport {
    pub bytes: u64,
    /// How often a flow had to wait, and for how long all together.
    pub waits: u64,
    pub waited_ms: u64,
}

/// One class of the shaper, by ids alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClassReport {
    /// `None` for what the whole node passes.
    pub organization: Option<OrganizationId>,
    /// What the rule is about; `None` for what the platform granted.
    pub traffic: Option<Traffic>,
    /// The user or session, of a rule that holds for each.
    pub user: Option<UserId>,
    pub session: Option<SessionId>,
    pub cap_bits_per_second: Option<u64>,
    pub reserved_bits_per_second: Option<u64>,
    pub flows: u32,
    /// Towards the resource, in the last second.
    pub up_bits_per_second: u64,
    pub down_bits_per_second: u64,
    /// How long flows have waited for it, all together.
    pub up_waited_ms: u64,
    pub down_waited_ms: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LaneReport {
    pub egress: NodeId,
    pub lane: rap_proto::Lane,
    /// The relay that the lane goes through; `None` when it goes directly.
    pub relay: Option<NodeId>,
    /// The relays behind that one, where the lane goes through several.
    #[serde(default)]
    pub onward: Vec<NodeId>,
    pub rtt_ms: u64,
    /// How often the lane changed its path, and the reason of the last time.
    #[serde(default)]
    pub switches: u64,
    #[serde(default)]
    pub last_switch: Option<String>,
    /// The step of the search for a path, while one goes on.
    #[serde(default)]
    pub recovery: Option<String>,
    /// Datagrams that came from no path of the lane.
    #[serde(default)]
    pub refused_datagrams: u64,
    #[serde(default)]
    pub hole: HoleReport,
}

/// How far a lane is with a direct path through NATs.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HoleReport {
    /// `idle` where none is wanted, `open` where one carries the lane, `given_up`, or what is
    /// being done.
    pub step: String,
    /// What the NATs on this side do with a port, and those on the egress': `steady`, `symmetric`
    /// or `unknown`.
    pub own_nat: String,
    pub far_nat: String,
    /// Why the last round came to nothing.
    pub failure: Option<String>,
    pub rounds: u32,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PeersStatus {
    /// `available`, `degraded` or `unavailable`: all that an organization may learn of this.
    pub availability: String,
    /// The step of the way back, while nobody answers.
    pub recovery: Option<String>,
    /// How often each of the five steps was reached since the start.
    pub recovery_steps: BTreeMap<String, u64>,
    pub active: usize,
    pub warm: usize,
    pub cold: usize,
    /// All of them, also those that are not shown.
    #[serde(default)]
    pub counts: Vec<PeerCount>,
    /// What the node keeps to.
    #[serde(default)]
    pub policy: PeerPolicyReport,
    /// The active ones first, then by score; the last of many are left out.
    pub peers: Vec<PeerReport>,
}

/// How many peers a node keeps near, and what makes one of them, or a path, the better one.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PeerPolicyReport {
    pub least_active: usize,
    pub most_active: usize,
    pub most_warm: usize,
    /// By the channel classes of lanes, what each part of a score counts.
    pub weights: BTreeMap<String, BTreeMap<String, u16>>,
}

/// How many peers there are of one class and kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PeerCount {
    /// `active`, `warm` or `cold`.
    pub class: String,
    pub is_relay: bool,
    pub count: u64,
    /// Those of them that answer, and those that are left alone for a while.
    pub up: u64,
    pub resting: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PeerReport {
    pub node: NodeId,
    /// `active`, `warm` or `cold`.
    pub class: String,
    #[serde(default)]
    pub is_relay: bool,
    /// It is connected and answers.
    pub up: bool,
    /// It failed, and is left alone for a while.
    pub resting: bool,
    /// Whether what it was given to forward arrived; `None` before the first try.
    pub forwards: Option<bool>,
    /// Of 1,000; `None` when a constraint rules it out.
    pub score: Option<u16>,
    pub excluded_by: Option<String>,
    /// What the score is made of, each of 1,000.
    pub parts: BTreeMap<String, u16>,
    pub rtt_us: Option<u32>,
    pub loss_ppm: Option<u32>,
    pub failures: u8,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WorkerStatus {
    pub serving: bool,
    pub process: Option<u32>,
    pub restarts: u64,
    pub last_error: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SpoolStatus {
    /// Observations that control has not confirmed.
    pub waiting: usize,
    /// Observations that did not fit.
    pub left_out: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LeasesStatus {
    pub connections: Vec<ConnectionStatus>,
    /// How many of them this node holds now.
    pub held: usize,
    /// Something is still carried, or given back and not yet taken.
    pub busy: bool,
    /// Renewals that control granted.
    pub renewed: u64,
    /// Renewals that control refused, because the lease was over.
    pub refused: u64,
    /// Renewals that control refused, because another node had the connection by then.
    pub fenced: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ConnectionStatus {
    pub connection: VpnConnectionId,
    pub class: LeaseClass,
    /// `standby`, `persisting`, `acquiring`, `activating`, `active` or `stopping`.
    pub state: String,
    /// The generation that this is about.
    pub generation: Option<Generation>,
    /// The newest generation that this node agreed to.
    pub floor: Generation,
    /// It would take the connection over.
    pub ready: bool,
    /// The driver was told to stop and has not stopped in time.
    pub overdue: bool,
}

/// The report, shared by the actors of one agent.
#[derive(Debug, Clone)]
pub(crate) struct Board(Arc<Mutex<StatusReport>>);

impl Board {
    pub(crate) fn new(name: Name, fingerprint: Digest, started_at: Timestamp) -> Self {
        Self(Arc::new(Mutex::new(StatusReport {
            name,
            agent_version: crate::VERSION.to_owned(),
            started_at,
            state: AgentState::Pending,
            node: None,
            cluster: None,
            fingerprint,
            certificate: None,
            snapshot: None,
            log: LogStatus::default(),
            authority: AuthorityStatus::default(),
            control: ControlStatus::default(),
            bus_connected: false,
            mesh: MeshReport::default(),
            peers: PeersStatus::default(),
            worker: WorkerStatus::default(),
            spool: SpoolStatus::default(),
            leases: LeasesStatus::default(),
            capabilities: BTreeSet::new(),
            actor_restarts: 0,
        })))
    }

    pub(crate) fn read(&self) -> StatusReport {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn update(&self, change: impl FnOnce(&mut StatusReport)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Moves to another state, unless the present one is final or on the way out.
    pub(crate) fn enter(&self, state: AgentState) {
        self.update(|report| {
            let stays = match report.state {
                AgentState::Revoked => true,
                AgentState::Draining => state != AgentState::Revoked,
                AgentState::Suspended => {
                    !matches!(state, AgentState::Revoked | AgentState::Draining)
                }
                _ => false,
            };
            if !stays {
                report.state = state;
            }
        });
    }
}
