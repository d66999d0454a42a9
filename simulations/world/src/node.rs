//! A host: a disk that survives, and an agent that does not. The agent is made of the real
//! machines; this file stands where the daemon's actors stand.

mod asking;
mod beat;
mod boot;
mod drain;
mod leases;
mod sessions;
mod witness;

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc, time::Duration};

use rap_agent_core::{
    Machine as _,
    disk::SimDisk,
    fetch::{self, Fetcher},
    link::{self, Link},
    snapshot::{self, Snapshot, SnapshotStore},
    spool::{self, Spool},
};
use rap_mesh_core::{
    View,
    sessions::{EgressSessions, EntrySessions},
};
use rap_proto::{
    Moment, NodeId, PublicKey, SessionId, Signer as _, Timestamp, key::LocalKey,
    observation::Observation, snapshot::Bundle, token::AccessClaims, wire::node_api::Credentials,
};

use beat::Hearing;
use leases::Leases;
use witness::Watching;

use crate::{
    cast::{Host, Places, Tenant},
    control,
    kit::Chance,
    message::{Message, SnapshotAnswer},
    mutation::Mutation,
    turn::{Turn, calendar},
};

pub struct SimNode {
    pub index: usize,
    pub host: Host,
    tenants: Vec<Tenant>,
    places: Arc<Places>,
    key: LocalKey,
    disk: SimDisk,
    /// How far this host's clock is from the true one.
    clock: (Duration, bool),
    chance: Chance,
    phase: Phase,
    /// Whether it watches the log, as every node does; where nothing is ever lost, for nothing.
    watches: bool,
    /// Whether there are beats for it to hear.
    hears: bool,
    /// The timer that the world holds for this host.
    pub armed: Option<Moment>,
}

enum Phase {
    /// Without power.
    Off,
    Joining {
        ask_at: Moment,
    },
    /// Control said no, or the node was revoked; until the next start.
    Stopped,
    Working(Box<Agent>),
}

/// What a crash takes away.
struct Agent {
    id: NodeId,
    store: SnapshotStore,
    fetcher: Fetcher,
    link: Link,
    spool: Spool,
    /// Which question the fetcher waits for.
    ask: u64,
    view: Option<(View, Arc<Snapshot>)>,
    entry: EntrySessions,
    egress: EgressSessions,
    leases: Leases,
    watching: Option<Watching>,
    hearing: Option<Hearing>,
    /// At an entry: whose flow to which egress waits or is open.
    clients: BTreeMap<SessionId, Client>,
    /// At an egress: the open flows.
    flows: BTreeMap<SessionId, Flow>,
}

struct Client {
    request: u64,
    claims: AccessClaims,
    egress: NodeId,
    open: bool,
}

struct Flow {
    caller: rap_mesh_core::Caller,
    claims: AccessClaims,
}

/// The host lost its power in the middle of a write.
#[derive(Debug)]
struct PowerCut;

impl SimNode {
    pub fn new(
        index: usize,
        seed: u64,
        host: Host,
        tenants: Vec<Tenant>,
        greatest_skew: Duration,
    ) -> Self {
        let mut chance = Chance::new(seed, 100 + index as u64);
        Self {
            index,
            host,
            tenants,
            places: Arc::default(),
            key: control::key(&mut chance),
            disk: SimDisk::new(),
            clock: (chance.between(Duration::ZERO, greatest_skew), chance.happens(500)),
            chance,
            phase: Phase::Off,
            watches: false,
            hears: false,
            armed: None,
        }
    }

    pub fn public_key(&self) -> PublicKey {
        self.key.public_key()
    }

    pub fn meet(&mut self, places: Arc<Places>) {
        self.places = places;
    }

    /// From its next start on it watches the log.
    pub fn watch(&mut self) {
        self.watches = true;
    }

    fn address(&self) -> SocketAddr {
        let last = u8::try_from(self.index + 1).unwrap_or(u8::MAX);
        SocketAddr::from(([192, 0, 2, last], 4433))
    }

    /// Calendar time by this host's clock.
    fn calendar(&self, now: Moment) -> Timestamp {
        let (off, late) = self.clock;
        if late { calendar(now) - off } else { calendar(now) + off }
    }

    pub fn is_off(&self) -> bool {
        matches!(self.phase, Phase::Off)
    }

    pub fn is_working(&self) -> bool {
        matches!(self.phase, Phase::Working(_))
    }

    pub fn id(&self) -> Option<NodeId> {
        self.agent().map(|agent| agent.id)
    }

    /// The version that it acts on; 0 for none.
    pub fn version(&self) -> u64 {
        let applied = self.agent().and_then(|agent| agent.view.as_ref());
        applied.map_or(0, |(_, snapshot)| snapshot.manifest.version)
    }

    pub fn spooled(&self) -> usize {
        self.agent().map_or(0, |agent| agent.spool.waiting())
    }

    pub fn disk(&self) -> &SimDisk {
        &self.disk
    }

    fn agent(&self) -> Option<&Agent> {
        match &self.phase {
            Phase::Working(agent) => Some(agent),
            _ => None,
        }
    }

    /// Loses its power now.
    pub fn crash(&mut self, turn: &mut Turn<'_>) {
        turn.note(format_args!("{} crashes", self.host.name));
        if let Some(id) = self.id() {
            turn.checkers.admission.node_ended(id);
        }
        self.phase = Phase::Off;
    }

    /// Loses its power in the middle of one of its next writes.
    pub fn crash_in_a_write(&mut self) {
        let steps = self.chance.below(3_000);
        let survives = self.chance.happens(500);
        self.disk.cut_after(steps, survives);
    }

    /// Its power does not fail any more.
    pub fn steady(&mut self) {
        self.disk.restore_power();
    }

    /// When this host next wants to act by itself.
    pub fn timeout(&self) -> Option<Moment> {
        match &self.phase {
            Phase::Off | Phase::Stopped => None,
            Phase::Joining { ask_at } => Some(*ask_at),
            Phase::Working(agent) => [
                agent.store.poll_timeout(),
                agent.fetcher.poll_timeout(),
                agent.link.poll_timeout(),
                agent.spool.poll_timeout(),
                agent.leases.timeout(),
                agent.watching.as_ref().and_then(|one| one.asking.timeout()),
                agent.hearing.as_ref().and_then(|one| one.asking.timeout()),
            ]
            .into_iter()
            .flatten()
            .min(),
        }
    }

    pub fn handle_timeout(&mut self, turn: &mut Turn<'_>) {
        self.act(turn, |node, turn| match &mut node.phase {
            Phase::Off | Phase::Stopped => Ok(()),
            Phase::Joining { .. } => {
                node.ask_to_join(turn);
                Ok(())
            }
            Phase::Working(agent) => {
                agent.store.handle_timeout(turn.moment);
                // A machine whose timer is never handled asks for it again and again.
                if turn.planted(Mutation::PollIgnored) {
                    agent.fetcher.handle_input(
                        turn.moment,
                        fetch::Input::Answered(fetch::Answer::NotModified),
                    );
                } else {
                    agent.fetcher.handle_timeout(turn.moment);
                }
                agent.link.handle_timeout(turn.moment);
                agent.spool.handle_timeout(turn.moment);
                agent.leases.handle_timeout(turn.moment);
                if let Some(watching) = &mut agent.watching {
                    watching.asking.handle_timeout(turn.moment);
                }
                if let Some(hearing) = &mut agent.hearing {
                    hearing.asking.handle_timeout(turn.moment);
                }
                node.drain(turn)
            }
        });
    }

    pub fn handle(&mut self, turn: &mut Turn<'_>, message: Message) {
        self.act(turn, |node, turn| node.receive(turn, message));
    }

    /// Somebody who is not control answers the node's question.
    pub fn deceive(&mut self, turn: &mut Turn<'_>, bundle: Bundle) {
        self.act(turn, |node, turn| {
            let Phase::Working(_) = &node.phase else { return Ok(()) };
            node.offer(turn, bundle)?;
            node.drain(turn)
        });
    }

    fn act(
        &mut self,
        turn: &mut Turn<'_>,
        what: impl FnOnce(&mut Self, &mut Turn<'_>) -> Result<(), PowerCut>,
    ) {
        if let Err(PowerCut) = what(self, turn) {
            turn.note(format_args!("{} loses power in a write", self.host.name));
            turn.coverage.fault("torn write");
            self.crash(turn);
        }
    }

    fn receive(&mut self, turn: &mut Turn<'_>, message: Message) -> Result<(), PowerCut> {
        if let (Phase::Joining { .. }, Message::Enrolled(answer)) = (&self.phase, &message) {
            return self.enrolled(turn, answer.clone());
        }
        let at = self.calendar(turn.now);
        let Phase::Working(agent) = &mut self.phase else { return Ok(()) };
        match message {
            Message::Snapshot { ask, answer } if ask == agent.ask => {
                agent.ask += 1;
                self.answered(turn, answer)?;
            }
            Message::Down(bytes) => {
                agent.link.handle_input(turn.moment, link::Input::Received { bytes, at });
            }
            Message::Beat { call, reply } => {
                if let Some(hearing) = &mut agent.hearing {
                    hearing.answered((turn.moment, at), call, reply);
                }
            }
            Message::Tree { call, reply } => {
                if let Some(watching) = &mut agent.watching {
                    watching.answered((turn.moment, at), call, reply);
                }
            }
            Message::Leases { call, reply } => agent.leases.answered(turn.moment, call, reply),
            Message::Hello(hello) => self.hello(turn, *hello)?,
            Message::OpenFlow(open) => self.open_flow(turn, *open)?,
            Message::FlowOpened { request, outcome } => self.flow_opened(turn, request, outcome),
            Message::Close { session } => self.client_left(turn, session),
            Message::CloseFlow { session } => self.close_flow(turn, session),
            Message::FlowEnded { session, reason } => self.flow_ended(turn, session, reason),
            _ => {}
        }
        self.drain(turn)
    }

    fn answered(&mut self, turn: &mut Turn<'_>, answer: SnapshotAnswer) -> Result<(), PowerCut> {
        let answer = match answer {
            SnapshotAnswer::Newer(bundle) => {
                if self.offer(turn, bundle)? {
                    fetch::Answer::Delivered
                } else {
                    fetch::Answer::Failed
                }
            }
            SnapshotAnswer::NotModified => fetch::Answer::NotModified,
            SnapshotAnswer::Unavailable => fetch::Answer::Failed,
            SnapshotAnswer::Revoked => {
                self.leave(turn)?;
                fetch::Answer::Revoked
            }
        };
        if let Phase::Working(agent) = &mut self.phase {
            agent.fetcher.handle_input(turn.moment, fetch::Input::Answered(answer));
        }
        Ok(())
    }

    fn observe(&mut self, turn: &Turn<'_>, observation: Observation) {
        let at = self.calendar(turn.now);
        if let Phase::Working(agent) = &mut self.phase {
            agent.spool.handle_input(turn.moment, spool::Input::Observed { observation, at });
        }
    }
}

/// Who the agent is and what it believes, from its credentials.
fn identity(credentials: &Credentials) -> snapshot::Identity {
    snapshot::Identity {
        cluster: credentials.cluster,
        node: credentials.node,
        control_keys: credentials.control_keys.clone(),
    }
}
