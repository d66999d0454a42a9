//! The joint world: who is there, what happens next, and the phases.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use futures_util::FutureExt as _;
use rap_events::{Aggregate as _, MemoryLog, leadership::Leadership, lease::LeaseTable as _};
use rap_proto::{Digest, Generation, LeaseClass, Moment, Timestamp};

use crate::{
    beat,
    cast::{self, CONNECTION, Places},
    checkers::Checkers,
    clients::Clients,
    control::{Control, replica_id},
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
    faults::{Aim, FaultMix},
    host::{Host, Replica},
    judge::LIVENESS,
    loss::Losses,
    trouble::Trouble,
    way::Way,
};

/// How long things go wrong.
pub const SAFETY: Duration = Duration::from_secs(90);
/// How long things then have to come right: longer than the longest backoff and poll together.
pub const LIVENESS_BOUND: Duration = Duration::from_secs(150);
/// How long nothing may move after that.
pub const CALM: Duration = Duration::from_secs(20);
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
    /// Standbys hear of what was stored.
    Sync,
    /// A primary that lost what was stored within this time takes over.
    Failover(Duration),
    PrimaryUp,
    /// Too few replicas reach the primary.
    Outage(Duration),
    /// The checkers look at what nodes make of beats.
    Look,
    /// Somebody looks after a replica that says that the log went back.
    StartAgain(usize),
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
    /// How far the primary's clock is ahead since the last failover.
    pub(super) ahead: Duration,
    /// What the primary's clock showed first.
    origin: Moment,
    /// What the primary's clock shows in the present turn.
    shown: Arc<AtomicI64>,
    clients: Clients,
    pub(super) places: Arc<Places>,
    /// How far the checkers read the log.
    pub(super) read: u64,
    /// The hash over all events up to each position, where some may be lost.
    pub(super) chain: Vec<Digest>,
    pub(super) losses: Losses,
    /// Who was revoked, and when.
    pub(super) revoked: BTreeMap<usize, Moment>,
    grants: u64,
}

impl World {
    pub fn new(Options { seed, mutation }: Options) -> Self {
        let mut chance = Chance::new(seed, 1);
        let mix = FaultMix::aimed(&mut chance, mutation);
        let (tenants, hosts) = (cast::tenants(), cast::connectors());
        let skew = mix.clock_skew;
        let node = |(index, host): (usize, &cast::Host)| {
            SimNode::new(index, seed, host.clone(), tenants.clone(), skew)
        };
        let mut nodes: Vec<SimNode> = hosts.iter().enumerate().map(node).collect();
        let place = |node: &SimNode| (cast::node_id(&node.public_key()), node.index);
        let places: Arc<Places> = Arc::new(nodes.iter().map(place).collect());
        nodes.iter_mut().for_each(|node| node.meet(places.clone()));
        if mix.unsynced {
            nodes.iter_mut().for_each(SimNode::watch);
        }
        let shown = Arc::new(AtomicI64::new(START.unix_millis()));
        let read = Arc::clone(&shown);
        let primary = Arc::new(MemoryLog::with_clock(move || {
            Timestamp::from_unix_millis(read.load(Ordering::Relaxed))
        }));
        let mut first = Control::new(seed, tenants.clone(), hosts, places.clone());
        if mix.unsynced {
            first.trace();
        }
        let replica = |index: usize| {
            let way = Arc::new(Way::to(&primary));
            let process = Process::new(index, Chance::new(seed, 200 + index as u64));
            Replica { process, control: first.replica(seed, index, &way), way }
        };
        let count = 2 + usize::try_from(chance.below(MOST_REPLICAS - 1)).unwrap_or(0);
        let replicas = (0..count).map(replica).collect();
        if mix.beats {
            nodes.iter_mut().for_each(SimNode::hear_beats);
        }
        let clock = DriftClock::draw(&mut chance);
        let host = |node: SimNode| {
            let process = Process::new(node.index, Chance::new(seed, 300 + node.index as u64));
            Host { process, next_replica: node.index % count, node }
        };
        let checkers = Checkers {
            leases: lease::checkers::Checkers::new(&[LeaseClass::Fast]),
            beat: beat::checkers::Checkers::new(nodes.len(), false),
            ..Checkers::default()
        };
        Self {
            network: Network::default(),
            hosts: nodes.into_iter().map(host).collect(),
            replicas,
            primary,
            primary_up: true,
            origin: clock.show(Moment::default()),
            ahead: Duration::ZERO,
            clock,
            shown,
            clients: Clients::new(seed, tenants, places.clone()),
            places,
            read: 0,
            chain: Vec::new(),
            losses: Losses::default(),
            revoked: BTreeMap::new(),
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
        if self.stage.mix.beats {
            let count = self.replicas.len();
            self.replicas[0].control.make_beats(now, count);
            self.stage.within_secs(4, 5, Event::Look);
        }
        if let Some(outage) = self.stage.mix.outage {
            self.stage.within_secs(15, 40, Event::Outage(outage));
        }
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
        if self.stage.mix.unsynced {
            self.stage.after(seconds(5), Event::Sync);
        }
        if self.stage.mix.revocation {
            let latest = if self.stage.mix.aim == Aim::Revocation { 30 } else { 60 };
            self.stage.within_secs(20, latest, Event::Revoke);
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
                self.judge_revoked();
                self.stage.within(CARRY_EVERY / 2, 2 * CARRY_EVERY, Event::Carry);
            }
            Event::Close(request) => self.client_turn(|clients, turn| clients.close(turn, request)),
            Event::PrimaryUp => self.primary_up = true,
            Event::Look => self.look(),
            Event::StartAgain(index) => self.start_again(index),
            Event::Heal(from, to) => self.network.heal(from, to),
            Event::Relieve(from, to) => self.network.relieve(from, to),
            // Nobody begins anything new in the second phase.
            _ if !self.stage.failing => {}
            Event::Act => {
                self.act();
                let often = self.stage.mix.aim == Aim::Leadership;
                let (least, greatest) = if often { (1, 4) } else { (3, 12) };
                self.stage.within_secs(least, greatest, Event::Act);
            }
            Event::Revoke => self.revoke(),
            Event::Sync => self.sync(),
            Event::Outage(lasts) => self.outage(lasts),
            Event::Failover(lost) => self.fail_over(lost),
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
            self.judge_everybody_healthy();
        }
        self.stage.checkers.beat.calm();
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
        let well = !control.is_halted();
        let mut turn = turn(stage, moment);
        what(control, &mut turn);
        let sent = turn.sent;
        if well && control.is_halted() {
            stage.within_secs(1, 12, Event::StartAgain(index));
        }
        if let Some(at) = control.timeout() {
            let at = process.clock.when(at);
            stage.arm(&mut process.armed, at, Event::ReplicaTimer(index));
        }
        sent.into_iter().for_each(|one| self.post(Party::Replica(index), one));
        self.read_log(index);
        self.judge_follower(index);
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
        let since = |moment: Moment| i64::try_from(moment.micros() / 1_000).unwrap_or(0);
        let shown = since(self.clock.show(self.stage.now())) - since(self.origin);
        self.shown.store(START.unix_millis() + shown, Ordering::Relaxed);
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
        self.replicas[index].way.tap.set(asks, answers);
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
