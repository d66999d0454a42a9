//! The joint world: who is there, what happens next, and the phases.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use futures_util::FutureExt as _;
use rap_control_core::state::NodeStanding;
use rap_events::{
    Aggregate as _, DomainEvent, Envelope, Log as _, MemoryLog, leadership::Leadership,
    lease::LeaseTable as _, log::MAX_READ_EVENTS, vpn_connection::VpnConnectionEvent,
};
use rap_proto::{Generation, LeaseClass, Leased, Moment, NodeId, Timestamp};

use crate::{
    cast::{self, CONNECTION, Places},
    checkers::{Checkers, Standing, Violation},
    clients::Clients,
    control::{Act, Control, replica_id},
    kit::{
        self, Chance, Phases, Stage,
        clock::{DriftClock, START},
        network::{Conditions, Network, Party},
        process::Process,
    },
    lease,
    message::Message,
    mutation::Mutation,
    network::{Carriage, Party as Whom},
    node::SimNode,
    turn::{Sent, Turn},
    world::TOTALS,
};

use super::{
    Options,
    faults::FaultMix,
    host::{Host, Replica},
    trouble::Trouble,
    way::Way,
};

/// How long things go wrong.
pub const SAFETY: Duration = Duration::from_secs(90);
/// How long things then have to come right: longer than the longest backoff and poll together.
pub const LIVENESS_BOUND: Duration = Duration::from_secs(150);
/// How long nothing may move after that.
pub const CALM: Duration = Duration::from_secs(20);
/// When nothing fails, the connection has one holder, and keeps it.
pub const LIVENESS: &str = "liveness";
/// More events than this in one run: the world runs in circles.
const MAX_EVENTS: u64 = 1_000_000;
/// How often a replica looks for what others appended.
const TAIL_EVERY: Duration = Duration::from_millis(500);
const CARRY_EVERY: Duration = Duration::from_millis(700);
const MOST_REPLICAS: u64 = 3;

#[derive(Debug, Clone)]
pub enum Event {
    ToNode(usize, Message),
    ToReplica(usize, Message),
    ToClient(Message),
    NodeTimer(usize),
    ReplicaTimer(usize),
    BootNode(usize),
    BootReplica(usize),
    ResumeNode(usize),
    ResumeReplica(usize),
    Tail(usize),
    /// Bytes come for the flows of every node.
    Carry,
    Act,
    Revoke,
    Ask,
    Close(u64),
    PrimaryUp,
    Heal(Party, Party),
    Relieve(Party, Party),
    Trouble(Trouble),
}

pub struct World {
    pub(super) stage: Stage<Self>,
    pub(super) network: Network,
    pub(super) hosts: Vec<Host>,
    pub(super) replicas: Vec<Replica>,
    pub(super) primary: Arc<MemoryLog>,
    pub(super) primary_up: bool,
    /// The primary's.
    pub(super) clock: DriftClock,
    /// What the primary's clock shows in the present turn.
    shown: Arc<AtomicI64>,
    clients: Clients,
    places: Arc<Places>,
    /// How far the checkers read the log.
    read: u64,
    revoked: Vec<usize>,
    grants: u64,
}

impl World {
    pub fn new(Options { seed, mutation }: Options) -> Self {
        let mut chance = Chance::new(seed, 1);
        let mix = FaultMix::draw(&mut chance);
        let (tenants, hosts) = (cast::tenants(), cast::connectors());
        let skew = mix.clock_skew;
        let node = |(index, host): (usize, &cast::Host)| {
            SimNode::new(index, seed, host.clone(), tenants.clone(), skew)
        };
        let mut nodes: Vec<SimNode> = hosts.iter().enumerate().map(node).collect();
        let place = |node: &SimNode| (cast::node_id(&node.public_key()), node.index);
        let places: Arc<Places> = Arc::new(nodes.iter().map(place).collect());
        nodes.iter_mut().for_each(|node| node.meet(places.clone()));
        let shown = Arc::new(AtomicI64::new(START.unix_millis()));
        let read = Arc::clone(&shown);
        let primary = Arc::new(MemoryLog::with_clock(move || {
            Timestamp::from_unix_millis(read.load(Ordering::Relaxed))
        }));
        let first = Control::new(seed, tenants.clone(), hosts, places.clone());
        let replica = |index: usize| {
            let way = Arc::new(Way::new(Arc::clone(&primary)));
            let process = Process::new(index, Chance::new(seed, 200 + index as u64));
            Replica { process, control: first.replica(seed, index, &way), way }
        };
        let count = 2 + usize::try_from(chance.below(MOST_REPLICAS - 1)).unwrap_or(0);
        let replicas = (0..count).map(replica).collect();
        let host = |node: SimNode| {
            let process = Process::new(node.index, Chance::new(seed, 300 + node.index as u64));
            Host { process, next_replica: node.index % count, node }
        };
        let checkers = Checkers {
            leases: lease::checkers::Checkers::new(&[LeaseClass::Fast]),
            ..Checkers::default()
        };
        Self {
            network: Network::default(),
            hosts: nodes.into_iter().map(host).collect(),
            replicas,
            primary,
            primary_up: true,
            clock: DriftClock::draw(&mut chance),
            shown,
            clients: Clients::new(seed, tenants, places.clone()),
            places,
            read: 0,
            revoked: Vec::new(),
            grants: 0,
            stage: Stage::new(mutation, chance, mix, checkers, MAX_EVENTS),
        }
    }
}

impl kit::World for World {
    type Event = Event;
    type Mutation = Mutation;
    type Mix = FaultMix;
    type Checkers = Checkers;

    fn stage(&mut self) -> &mut Stage<Self> {
        &mut self.stage
    }

    fn phases(&self) -> Phases {
        Phases { failing: SAFETY, recovery: LIVENESS_BOUND, calm: CALM }
    }

    fn begin(&mut self) {
        let now = self.stage.now();
        self.show_clock();
        self.replicas[0].control.found(now);
        self.replicas[0].control.found_connection(now);
        let seconds = Duration::from_secs;
        for index in 0..self.replicas.len() {
            self.stage.after(Duration::from_millis(index as u64), Event::BootReplica(index));
            self.stage.within(TAIL_EVERY, 2 * TAIL_EVERY, Event::Tail(index));
        }
        for index in 0..self.hosts.len() {
            self.stage.within_secs(0, 3, Event::BootNode(index));
        }
        for (event, delay) in
            [(Event::Act, seconds(15)), (Event::Ask, seconds(6)), (Event::Carry, seconds(5))]
        {
            self.stage.after(delay, event);
        }
        if self.stage.mix.revocation {
            self.stage.within(seconds(20), seconds(60), Event::Revoke);
        }
        for trouble in Trouble::ALL {
            if let Some(every) = trouble.every(&self.stage.mix) {
                self.stage.within(seconds(5), every + seconds(5), Event::Trouble(*trouble));
            }
        }
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::ToNode(index, message) => self.reach_node(index, message),
            Event::ToReplica(index, message) => self.reach_replica(index, message),
            Event::ToClient(message) => {
                let mut opened = None;
                self.client_turn(|clients, turn| opened = clients.handle(turn, message));
                if let Some(request) = opened {
                    self.stage.within_secs(1, 40, Event::Close(request));
                }
            }
            Event::NodeTimer(index) => {
                if self.stage.fires(&mut self.hosts[index].process.armed) {
                    self.node_turn(index, SimNode::handle_timeout);
                }
            }
            Event::ReplicaTimer(index) => {
                if self.stage.fires(&mut self.replicas[index].process.armed) {
                    self.replica_turn(index, |control, turn| control.settle(turn));
                }
            }
            Event::BootNode(index) => self.boot_node(index),
            Event::BootReplica(index) => self.boot_replica(index),
            Event::ResumeNode(index) => {
                self.hosts[index].process.resume();
                for message in self.hosts[index].process.waiting() {
                    self.reach_node(index, message);
                }
                self.node_turn(index, SimNode::handle_timeout);
            }
            Event::ResumeReplica(index) => {
                self.replicas[index].process.resume();
                for message in self.replicas[index].process.waiting() {
                    self.reach_replica(index, message);
                }
                self.replica_turn(index, |control, turn| control.settle(turn));
            }
            Event::Tail(index) => {
                self.replica_turn(index, |control, turn| control.settle(turn));
                self.stage.within(TAIL_EVERY / 2, 2 * TAIL_EVERY, Event::Tail(index));
            }
            Event::Carry => {
                (0..self.hosts.len()).for_each(|index| self.node_turn(index, SimNode::carry));
                self.stage.within(CARRY_EVERY / 2, 2 * CARRY_EVERY, Event::Carry);
            }
            Event::Close(request) => self.client_turn(|clients, turn| clients.close(turn, request)),
            Event::PrimaryUp => self.primary_up = true,
            Event::Heal(from, to) => self.network.heal(from, to),
            Event::Relieve(from, to) => self.network.relieve(from, to),
            // Nobody begins anything new in the second phase.
            _ if !self.stage.failing => {}
            Event::Act => {
                self.act();
                self.stage.within_secs(3, 12, Event::Act);
            }
            Event::Revoke => self.act_at_one(Act::Revoke),
            Event::Ask => {
                self.client_turn(Clients::ask);
                self.stage.within_secs(1, 4, Event::Ask);
            }
            Event::Trouble(trouble) => self.trouble(trouble),
        }
    }

    fn stop_failing(&mut self) {
        self.calm_down();
    }

    fn judge_recovery(&mut self) {
        if self.stage.violation().is_none() {
            self.judge_holder();
            self.judge_the_end();
        }
        self.grants = self.stage.checkers.leases.moves(0);
    }

    fn judge_calm(&mut self) {
        let grants = self.stage.checkers.leases.moves(0);
        if grants != self.grants {
            let detail = format!("nothing fails, and {} grants became {grants}", self.grants);
            self.stage.checkers.verdict.violated(LIVENESS, detail);
        }
        let Stage { checkers, coverage, .. } = &mut self.stage;
        coverage.count_many(TOTALS, "grants", grants);
        coverage.count_many(TOTALS, "flows admitted", checkers.admission.admitted());
        coverage.count_many(TOTALS, "sessions opened", self.clients.welcomed());
        coverage.count_many(TOTALS, "observations", checkers.recorded.count() as u64);
    }
}

impl World {
    fn reach_node(&mut self, index: usize, message: Message) {
        if let Some(message) = self.hosts[index].process.receive(message) {
            self.node_turn(index, |node, turn| node.handle(turn, message));
        }
    }

    fn reach_replica(&mut self, index: usize, message: Message) {
        if let Some(message) = self.replicas[index].process.receive(message) {
            self.replica_turn(index, |control, turn| control.handle(turn, message));
        }
    }

    fn boot_node(&mut self, index: usize) {
        if !self.hosts[index].process.up {
            self.hosts[index].process.boot();
            self.node_turn(index, SimNode::boot);
        }
    }

    fn boot_replica(&mut self, index: usize) {
        let replica = &mut self.replicas[index];
        if replica.process.up {
            return;
        }
        replica.process.boot();
        self.replica_turn(index, |control, turn| control.boot(turn));
        // Without its log it does not start.
        let replica = &mut self.replicas[index];
        if !replica.control.is_running() {
            replica.process.crash();
            self.stage.within_secs(1, 3, Event::BootReplica(index));
        }
    }

    pub(super) fn node_turn(
        &mut self,
        index: usize,
        what: impl FnOnce(&mut SimNode, &mut Turn<'_>),
    ) {
        let Self { stage, hosts, .. } = self;
        let Host { process, node, .. } = &mut hosts[index];
        if !process.works() {
            return;
        }
        let moment = process.time(stage.now());
        let mut turn = turn(stage, moment);
        what(node, &mut turn);
        let sent = turn.sent;
        if node.is_off() {
            process.crash();
            let (least, greatest) = (Duration::from_millis(200), Duration::from_secs(12));
            stage.within(least, greatest, Event::BootNode(index));
        } else if let Some(at) = node.timeout() {
            let at = process.clock.when(at);
            stage.arm(&mut process.armed, at, Event::NodeTimer(index));
        }
        sent.into_iter().for_each(|one| self.post(Party::Node(index), one));
        // Nothing else makes a node active, so this looks at every instant.
        self.judge_activity();
        self.stage.checkers.judge_leases();
    }

    pub(super) fn replica_turn(
        &mut self,
        index: usize,
        what: impl FnOnce(&mut Control, &mut Turn<'_>),
    ) {
        self.show_clock();
        self.open_way(index);
        let Self { stage, replicas, .. } = self;
        let Replica { process, control, .. } = &mut replicas[index];
        if !process.works() {
            return;
        }
        let moment = process.time(stage.now());
        let mut turn = turn(stage, moment);
        what(control, &mut turn);
        let sent = turn.sent;
        if let Some(at) = control.timeout() {
            let at = process.clock.when(at);
            stage.arm(&mut process.armed, at, Event::ReplicaTimer(index));
        }
        sent.into_iter().for_each(|one| self.post(Party::Replica(index), one));
        self.read_log();
        self.stage.checkers.judge_leases();
    }

    fn client_turn(&mut self, what: impl FnOnce(&mut Clients, &mut Turn<'_>)) {
        let Self { stage, clients, .. } = self;
        let moment = stage.now();
        let mut turn = turn(stage, moment);
        what(clients, &mut turn);
        let sent = turn.sent;
        sent.into_iter().for_each(|one| self.post(Party::Client, one));
    }

    fn show_clock(&self) {
        let shown = self.clock.show(self.stage.now());
        let since = i64::try_from(shown.micros() / 1_000).unwrap_or(0);
        self.shown.store(START.unix_millis() + since, Ordering::Relaxed);
    }

    /// Whether the replica reaches the primary in this turn, and hears from it.
    fn open_way(&mut self, index: usize) {
        let (one, other) = (Party::Replica(index), Party::Database);
        let loss = self.stage.mix.conditions.loss / 4;
        let asks = self.primary_up && self.network.passes(one, other);
        let answers = self.network.passes(other, one) && !self.stage.chance.happens(loss);
        if asks && !answers {
            self.stage.coverage.fault("lost answer of the primary");
        }
        self.replicas[index].way.set(asks, answers);
    }

    fn post(&mut self, from: Party, sent: Sent) {
        let Sent { to, message, carriage } = sent;
        let to: Vec<Party> = match (to, carriage) {
            (Whom::Node(index), _) => vec![Party::Node(index)],
            (Whom::Client, _) => vec![Party::Client],
            // Every replica hears the bus.
            (Whom::Control, Carriage::Bus) => {
                (0..self.replicas.len()).map(Party::Replica).collect()
            }
            (Whom::Control, Carriage::Connection) => vec![Party::Replica(self.ask_one(from))],
        };
        for to in to {
            self.carry(from, to, &message, carriage);
        }
    }

    /// One replica after the other, so that one that is cut off costs one try.
    fn ask_one(&mut self, from: Party) -> usize {
        let count = self.replicas.len();
        match from {
            Party::Node(index) => {
                let host = &mut self.hosts[index];
                host.next_replica = (host.next_replica + 1) % count;
                host.next_replica
            }
            _ => self.stage.any(count),
        }
    }

    fn carry(&mut self, from: Party, to: Party, message: &Message, carriage: Carriage) {
        let mut conditions = self.stage.mix.conditions;
        if carriage == Carriage::Connection {
            conditions = Conditions { duplication: 0, ..conditions };
        }
        if self.stage.failing
            && matches!(message, Message::Hello(_))
            && self.stage.chance.happens(self.stage.mix.slow_clients)
        {
            let (least, greatest) = (Duration::from_secs(1), Duration::from_secs(25));
            conditions = Conditions { latency: (least, greatest), slow: 0, ..conditions };
        }
        let event = match to {
            Party::Node(index) => Event::ToNode(index, message.clone()),
            Party::Replica(index) => Event::ToReplica(index, message.clone()),
            _ => Event::ToClient(message.clone()),
        };
        self.network.post(&mut self.stage, &conditions, (from, to), event);
    }

    /// What a turn of this replica appended goes into the checkers' books.
    fn read_log(&mut self) {
        loop {
            let page = self.primary.read(self.read, MAX_READ_EVENTS).now_or_never();
            let page = page.and_then(Result::ok).unwrap_or_default();
            let Some(last) = page.last() else { return };
            self.read = last.position;
            page.iter().for_each(|envelope| self.take_note(envelope));
        }
    }

    fn take_note(&mut self, envelope: &Envelope) {
        let now = self.stage.now();
        match DomainEvent::from_envelope(envelope) {
            Ok(DomainEvent::VpnConnection(VpnConnectionEvent::LeaseGranted(granted))) => {
                let generation = Generation::new(granted.generation);
                let leased = Leased { connection: CONNECTION, generation };
                let place = self.places.get(&granted.node).copied().unwrap_or(usize::MAX);
                self.stage.note(format_args!("node {place} is granted {generation}"));
                let Checkers { leased: book, leases, .. } = &mut self.stage.checkers;
                book.granted(granted.node, leased);
                leases.granted(now, 0, place, generation, None);
            }
            Ok(DomainEvent::Node(_)) if envelope.event_type == "node.revoked" => {
                let node = NodeId::from_uuid(envelope.stream.id);
                if let Some(place) = self.places.get(&node) {
                    self.revoked.push(*place);
                }
            }
            _ => {}
        }
    }

    /// The nodes that are active for the connection, each with its generation.
    pub(super) fn holders(&self) -> Vec<(usize, Generation)> {
        let now = self.stage.now();
        let holds = |(index, host): (usize, &Host)| {
            let generation = host.node.holds(host.process.time(now), CONNECTION)?;
            Some((index, generation))
        };
        self.hosts.iter().enumerate().filter_map(holds).collect()
    }

    /// Which replica's lease of the duty is valid, as the primary has it.
    pub(super) fn leader(&self) -> Option<usize> {
        let page = self.primary.read_leases(Leadership::CATEGORY, None, 1).now_or_never()?.ok()?;
        let (_, row) = page.rows.first().filter(|(_, row)| row.is_held(page.at.now))?;
        (0..self.replicas.len()).find(|index| replica_id(*index).uuid() == row.holder)
    }

    /// Who carries: whoever may, and whoever does.
    fn judge_activity(&mut self) {
        let (now, mutation) = (self.stage.now(), self.stage.mutation);
        let mut touching = self.holders();
        for (index, host) in self.hosts.iter().enumerate() {
            let passing = host.node.passing(host.process.time(now), CONNECTION, mutation);
            touching.extend(passing.into_iter().map(|generation| (index, generation)));
        }
        touching.sort_unstable();
        touching.dedup();
        self.stage.checkers.leases.touching(0, &touching);
    }

    fn judge_holder(&mut self) {
        let holders = self.holders();
        let revoked = &self.revoked;
        let right = matches!(holders[..], [(holder, _)] if !revoked.contains(&holder));
        let suspended = self.replicas[0].control.state().is_some_and(|state| {
            let organization = state.vpn_connections().get(CONNECTION).map(|it| it.organization);
            organization.is_none_or(|id| !state.organizations().is_active(id))
        });
        if !right && !suspended {
            let detail = format!("the connection is held by {holders:?}, and {revoked:?} may not");
            self.stage.checkers.verdict.violated(LIVENESS, detail);
        }
    }

    fn judge_the_end(&mut self) {
        for index in 0..self.replicas.len() {
            self.replica_turn(index, |control, turn| control.settle(turn));
        }
        let (control, mut outcomes) = (&self.replicas[0].control, Vec::new());
        let events = control.events();
        for replica in &self.replicas {
            let state = replica.control.state();
            outcomes.push(match state {
                Some(state) => self.stage.checkers.replay.check(state, &events),
                None => Err(Violation::new(LIVENESS, "a replica does not run")),
            });
        }
        let Some(state) = control.state() else { return };
        let approved = |node| state.nodes().get(node).is_some_and(|node| node.is_approved());
        let Checkers { enrollment, recorded, convergence, scope, .. } = &self.stage.checkers;
        outcomes.push(enrollment.log(&events));
        outcomes.push(recorded.log(&events));
        outcomes.push(recorded.complete(approved, |command| control.knows(command)));
        for Host { node, .. } in &self.hosts {
            outcomes.push(convergence.check(&standing(state, node)));
            outcomes.push(scope.disk(&node.host, node.disk()));
        }
        for outcome in outcomes {
            self.stage.checkers.judge(outcome);
        }
    }
}

fn standing(state: &rap_control_core::State, node: &SimNode) -> Standing {
    let found = state.nodes().get(cast::node_id(&node.public_key()));
    Standing {
        host: node.host.name.to_string(),
        applied: node.version(),
        spooled: node.spooled(),
        working: node.is_working(),
        newest: found.filter(|node| node.is_approved()).map(|node| node.version),
        revoked: found.is_some_and(|node| node.standing == NodeStanding::Revoked),
    }
}

fn turn(stage: &mut Stage<World>, moment: Moment) -> Turn<'_> {
    Turn {
        now: stage.now(),
        moment,
        mutation: stage.mutation,
        checkers: &mut stage.checkers,
        trace: &mut stage.trace,
        coverage: &mut stage.coverage,
        sent: Vec::new(),
        recorded_later: Vec::new(),
    }
}
