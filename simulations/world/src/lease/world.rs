//! The world of leases: who is there, what happens next, and the two phases.

use std::{mem, time::Duration};

use rap_proto::{Generation, LeaseClass, Leased, Moment};

use crate::{chance::Chance, checkers::Violation, scheduler::Scheduler, trace::Trace};

use super::{
    admin::{Wishes, connection_id},
    checkers::{Checkers, LIVENESS, STICKINESS},
    coverage::Coverage,
    database::Database,
    driver,
    faults::FaultMix,
    message::{Op, Reply},
    mutation::Mutation,
    network::{MAX_NODES, MAX_REPLICAS, Network, Party},
    node::{self, SimNode},
    replica::{self, SimReplica},
    resource::Resource,
    trouble::Trouble,
    turn::{Out, Turn},
};

/// How long things go wrong, for the two classes.
pub const SAFETY: [Duration; 2] = [Duration::from_secs(60), Duration::from_secs(240)];
/// How long everything then has to come right: the longest patience after what was lost is
/// accepted, the damping, the repair of a clock, and a grant.
pub const LIVENESS_BOUND: [Duration; 2] = [Duration::from_secs(45), Duration::from_secs(150)];
/// How long nothing may move after that.
pub const CALM: Duration = Duration::from_secs(20);
/// More events than this in one run: the world runs in circles.
const MAX_EVENTS: u64 = 1_000_000;
const REPORT_EVERY: Duration = Duration::from_secs(1);
const BEAT_EVERY: Duration = Duration::from_secs(5);
/// Less than 30 s by the drift rate, as a node counts a beat's validity.
const BEAT_LASTS: Duration = Duration::from_millis(29_400);
const ELECT_EVERY: Duration = Duration::from_secs(2);

#[derive(Debug, Clone)]
pub(super) enum Event {
    ToNode(usize, node::Happening),
    ToReplica(usize, replica::Happening),
    ToDatabase { replica: usize, timeline: u64, op: Op },
    ToResource { connection: usize, generation: Generation },
    NodeTimer(usize),
    ReplicaTimer(usize),
    BootNode(usize),
    BootReplica(usize),
    ResumeNode(usize),
    ResumeReplica(usize),
    TellNode(usize),
    TellReplica(usize),
    Report(usize),
    Packet(usize),
    FirstPacket { node: usize, connection: usize },
    Beat,
    Elect,
    Failover(Duration),
    DatabaseUp,
    Cut { from: Party, to: Party, lasts: Duration },
    Heal(Party, Party),
    Relieve(Party, Party),
    Trouble(Trouble),
}

pub struct World {
    mutation: Option<Mutation>,
    pub(super) scheduler: Scheduler<Event>,
    pub(super) chance: Chance,
    /// The first phase's faults.
    drawn: FaultMix,
    pub(super) mix: FaultMix,
    pub(super) failing: bool,
    pub(super) network: Network,
    pub(super) nodes: Vec<SimNode>,
    pub(super) replicas: Vec<SimReplica>,
    pub(super) database: Database,
    pub(super) resource: Resource,
    pub(super) wishes: Wishes,
    pub(super) leader: usize,
    pub(super) beats_from: Moment,
    checkers: Checkers,
    pub(super) coverage: Coverage,
    pub(super) trace: Trace,
    out: Vec<Out>,
    served: u64,
    events: u64,
}

/// How a run ended.
#[derive(Debug)]
pub struct End {
    pub mix: FaultMix,
    pub violation: Option<Violation>,
    pub trace: Trace,
    pub coverage: Coverage,
    pub grants: u64,
    pub served: u64,
    pub simulated: Duration,
    pub events: u64,
}

impl World {
    pub fn new(seed: u64, mutation: Option<Mutation>) -> Self {
        let mut chance = Chance::new(seed, 1);
        let mix = FaultMix::draw(&mut chance);
        let some = |chance: &mut Chance, least: usize, greatest: usize| {
            least + usize::try_from(chance.below((greatest - least + 1) as u64)).unwrap_or(0)
        };
        let nodes = some(&mut chance, 2, MAX_NODES);
        let replicas = some(&mut chance, 1, MAX_REPLICAS);
        // What a rate does to a clock grows with the time that is measured.
        let steady = if mix.worst_clocks { 600 } else { 200 };
        let wishes = Wishes::draw(nodes, steady, &mut chance);
        let classes: Vec<LeaseClass> = wishes.connections.iter().map(|wish| wish.class).collect();
        let database = Database::new(classes.len(), &mut chance);
        let forgets = mix.unsynced > 0;
        let mut world = Self {
            mutation,
            scheduler: Scheduler::default(),
            drawn: mix.clone(),
            mix,
            failing: true,
            network: Network::default(),
            nodes: (0..nodes).map(|index| SimNode::new(index, seed, replicas, forgets)).collect(),
            replicas: (0..replicas).map(|index| SimReplica::new(index, seed)).collect(),
            database,
            resource: Resource::default(),
            leader: 0,
            beats_from: Moment::default(),
            checkers: Checkers::new(&classes),
            wishes,
            chance,
            coverage: Coverage::default(),
            trace: Trace::default(),
            out: Vec::new(),
            served: 0,
            events: 0,
        };
        if world.mix.worst_clocks {
            world.nodes.iter_mut().for_each(|node| node.clock.worst(false));
            world.replicas.iter_mut().for_each(|replica| replica.clock.worst(true));
            world.database.clock.worst(true);
        }
        world
    }

    /// Makes every connection one of this class.
    pub(super) fn ask_for(&mut self, class: LeaseClass) {
        self.wishes.connections.iter_mut().for_each(|wish| wish.class = class);
        let classes: Vec<_> = self.wishes.connections.iter().map(|wish| wish.class).collect();
        self.checkers = Checkers::new(&classes);
    }

    /// All phases, or as far as the first violation.
    pub fn run(mut self) -> End {
        let class = usize::from(self.wishes.connections[0].class == LeaseClass::Steady);
        self.plan();
        self.advance(SAFETY[class]);
        self.stop_failing();
        self.advance(LIVENESS_BOUND[class]);
        let moves = self.moves();
        self.judge_liveness();
        self.advance(CALM);
        self.judge_liveness();
        if self.moves() != moves {
            let moves = format!("{moves:?} grants have become {:?}", self.moves());
            self.checkers.violated(STICKINESS, format!("nothing fails, and {moves}"));
        }
        if self.resource.refused() > 0 {
            *self.coverage.faults.entry("older generation refused").or_default() +=
                self.resource.refused();
        }
        End {
            mix: self.drawn,
            violation: self.checkers.found().cloned(),
            trace: self.trace,
            coverage: self.coverage,
            grants: self.database.grants,
            served: self.served,
            simulated: self.scheduler.now().since(Moment::default()),
            events: self.events,
        }
    }

    pub(super) fn plan(&mut self) {
        for index in 0..self.replicas.len() {
            self.scheduler.after(Duration::from_millis(index as u64), Event::BootReplica(index));
        }
        for index in 0..self.nodes.len() {
            let delay = self.chance.between(Duration::ZERO, Duration::from_secs(1));
            self.scheduler.after(delay, Event::BootNode(index));
            self.scheduler.after(delay, Event::Report(index));
            self.scheduler.after(delay, Event::Packet(index));
        }
        self.scheduler.after(Duration::from_millis(20), Event::Elect);
        self.scheduler.after(Duration::from_millis(1_100), Event::Beat);
        for trouble in Trouble::ALL {
            if let Some(every) = trouble.every(&self.mix) {
                let first =
                    self.chance.between(Duration::from_secs(5), every + Duration::from_secs(5));
                self.scheduler.after(first, Event::Trouble(*trouble));
            }
        }
    }

    pub(super) fn advance(&mut self, span: Duration) {
        let end = self.scheduler.now() + span;
        while self.checkers.found().is_none() {
            let Some(event) = self.scheduler.next(end) else { return };
            self.events += 1;
            assert!(self.events < MAX_EVENTS, "the world runs in circles");
            self.happen(event);
        }
    }

    fn happen(&mut self, event: Event) {
        let now = self.scheduler.now();
        match event {
            Event::ToNode(index, happening) => {
                self.node_turn(index, |node, turn| node.handle(turn, happening));
            }
            Event::ToReplica(index, happening) => {
                self.replica_turn(index, |replica, turn| replica.handle(turn, happening));
            }
            Event::ToDatabase { replica, timeline, op } => self.perform(replica, timeline, op),
            Event::ToResource { connection, generation } => self.serve(connection, generation),
            Event::NodeTimer(index) => {
                if self.nodes[index].armed == Some(now) {
                    self.nodes[index].armed = None;
                    self.node_turn(index, SimNode::handle_timeout);
                }
            }
            Event::ReplicaTimer(index) => {
                if self.replicas[index].armed == Some(now) {
                    self.replicas[index].armed = None;
                    self.replica_turn(index, SimReplica::handle_timeout);
                }
            }
            Event::BootNode(index) => self.boot_node(index),
            Event::BootReplica(index) => self.boot_replica(index),
            Event::ResumeNode(index) => self.node_turn(index, SimNode::resume),
            Event::ResumeReplica(index) => self.replica_turn(index, SimReplica::resume),
            Event::TellNode(index) => {
                let drains = node::Happening::Drain(self.wishes.draining.contains(&index));
                self.node_turn(index, |node, turn| node.handle(turn, drains));
            }
            Event::TellReplica(index) => {
                let told = replica::Happening::Told(self.wishes.clone());
                self.replica_turn(index, |replica, turn| replica.handle(turn, told));
            }
            Event::Report(index) => {
                self.node_turn(index, |node, turn| node.report(turn));
                self.scheduler.after(REPORT_EVERY, Event::Report(index));
            }
            Event::Packet(index) => {
                for connection in 0..self.wishes.connections.len() {
                    self.packet(index, connection);
                }
                let next =
                    self.chance.between(Duration::from_millis(400), Duration::from_millis(1_600));
                self.scheduler.after(next, Event::Packet(index));
            }
            Event::FirstPacket { node, connection } => self.packet(node, connection),
            Event::Beat => self.beat(),
            Event::Elect => self.elect(),
            Event::DatabaseUp => self.database.up = true,
            Event::Heal(from, to) => self.network.heal(from, to),
            Event::Relieve(from, to) => self.network.relieve(from, to),
            // Nothing goes wrong in the second phase.
            Event::Failover(_) | Event::Trouble(_) | Event::Cut { .. } if !self.failing => {}
            Event::Cut { from, to, lasts } => {
                self.network.cut(from, to);
                self.scheduler.after(lasts, Event::Heal(from, to));
            }
            Event::Failover(lost) => self.fail_over(lost),
            Event::Trouble(trouble) => self.trouble(trouble),
        }
    }

    fn perform(&mut self, replica: usize, timeline: u64, op: Op) {
        // A connection to the old primary died with it.
        if !self.database.up || timeline != self.database.timeline {
            return;
        }
        let (now, grants) = (self.scheduler.now(), self.database.grants);
        let reply = self.database.perform(now, op, self.mutation, &mut self.checkers);
        if let Reply::Released { connection, .. } | Reply::Done { connection } = reply {
            // All replicas are told that the log has grown.
            for other in 0..self.replicas.len() {
                if other != replica || matches!(reply, Reply::Released { .. }) {
                    self.answer(other, Reply::Done { connection });
                }
            }
        }
        self.answer(replica, reply);
        if self.database.grants > grants {
            self.after_a_grant();
        }
    }

    fn answer(&mut self, replica: usize, reply: Reply) {
        let (from, to) = (Party::Database, Party::Replica(replica));
        let happening = replica::Happening::Reply(reply);
        self.post(from, to, Event::ToReplica(replica, happening));
    }

    fn packet(&mut self, index: usize, connection: usize) {
        let now = self.scheduler.now();
        if let Some(generation) = self.nodes[index].touches(now, connection, self.mutation) {
            let (least, greatest) = self.mix.latency;
            let mut delay = self.chance.between(least, greatest);
            // The loop stands still between its check and its write, or the network holds it up.
            if self.failing && self.chance.happens(100) {
                delay += self.chance.between(Duration::ZERO, Duration::from_secs(8));
            }
            self.scheduler.after(delay, Event::ToResource { connection, generation });
        }
    }

    fn serve(&mut self, connection: usize, generation: Generation) {
        let dies = self.failing && self.chance.happens(20);
        let leased = Leased { connection: connection_id(connection), generation };
        if self.resource.receive(leased, dies, self.mutation) {
            self.served += 1;
            self.checkers.served(connection, generation);
        }
    }

    fn beat(&mut self) {
        let now = self.scheduler.now();
        for index in 0..self.nodes.len() {
            if self.beat_reaches(now, index) && !self.chance.happens(self.mix.loss) {
                let until = self.nodes[index].clock.show(now) + BEAT_LASTS;
                let beat = node::Happening::Beat { until };
                self.node_turn(index, |node, turn| node.handle(turn, beat));
            }
        }
        self.scheduler.after(BEAT_EVERY, Event::Beat);
    }

    /// Somebody leads, and sometimes two.
    fn elect(&mut self) {
        let works = |replica: &SimReplica| replica.up && !replica.paused;
        let before = self.leader;
        if !works(&self.replicas[before]) || self.chance.happens(self.mix.two_leaders) {
            let other = self.any(self.replicas.len());
            if works(&self.replicas[other]) {
                self.leader = other;
            }
        }
        let two = self.failing && self.chance.happens(self.mix.two_leaders);
        for index in 0..self.replicas.len() {
            let leads = index == self.leader || (two && index == before);
            // One that stands still does not hear that it leads no more.
            if works(&self.replicas[index]) && self.replicas[index].leading != leads {
                let leading = replica::Happening::Leading(leads);
                self.replica_turn(index, |replica, turn| replica.handle(turn, leading));
            }
        }
        if two && before != self.leader {
            self.coverage.fault("two leaders");
        }
        self.scheduler.after(ELECT_EVERY, Event::Elect);
    }

    fn boot_node(&mut self, index: usize) {
        if !self.nodes[index].up {
            let connections = self.wishes.connections.len();
            self.node_turn(index, |node, turn| node.boot(turn, connections));
        }
    }

    fn boot_replica(&mut self, index: usize) {
        if !self.replicas[index].up {
            let wishes = self.wishes.clone();
            self.replica_turn(index, |replica, turn| replica.boot(turn, &wishes));
        }
    }

    fn stop_failing(&mut self) {
        let now = self.scheduler.now();
        self.trace.note(now, format_args!("nothing fails any more"));
        self.failing = false;
        self.network.heal_all();
        self.mix = FaultMix::calm();
        self.beats_from = now;
        self.database.up = true;
        self.wishes.settle(self.nodes.len(), &mut self.chance);
        for index in 0..self.nodes.len() {
            self.nodes[index].steady();
            self.boot_node(index);
            self.node_turn(index, SimNode::resume);
            // Somebody with authority looks at what a failover may have lost.
            self.node_turn(index, SimNode::trust_again);
        }
        for index in 0..self.replicas.len() {
            self.boot_replica(index);
            self.replica_turn(index, SimReplica::resume);
            let accepted = replica::Happening::LossAccepted { timeline: self.database.timeline };
            self.replica_turn(index, |replica, turn| replica.handle(turn, accepted));
        }
        self.tell_everybody();
    }

    pub(super) fn node_turn(
        &mut self,
        index: usize,
        what: impl FnOnce(&mut SimNode, &mut Turn<'_>),
    ) {
        let was_up = self.nodes[index].up;
        let mut turn = Turn {
            now: self.scheduler.now(),
            mutation: self.mutation,
            mix: &self.mix,
            chance: &mut self.chance,
            checkers: &mut self.checkers,
            coverage: &mut self.coverage,
            trace: &mut self.trace,
            out: mem::take(&mut self.out),
        };
        what(&mut self.nodes[index], &mut turn);
        let out = turn.out;
        self.leave(Party::Node(index), index, out);
        // Nothing else makes a node active, so this looks at every instant.
        self.judge_activity(index);
        if was_up && !self.nodes[index].up && self.failing {
            let back = self.chance.between(Duration::from_millis(200), Duration::from_secs(12));
            self.scheduler.after(back, Event::BootNode(index));
        }
        let node = &mut self.nodes[index];
        let Some(at) = node.timeout() else { return };
        let at = node.clock.when(at).max(self.scheduler.now());
        if node.armed.is_none_or(|armed| at < armed) {
            node.armed = Some(at);
            self.scheduler.at(at, Event::NodeTimer(index));
        }
    }

    pub(super) fn replica_turn(
        &mut self,
        index: usize,
        what: impl FnOnce(&mut SimReplica, &mut Turn<'_>),
    ) {
        let mut turn = Turn {
            now: self.scheduler.now(),
            mutation: self.mutation,
            mix: &self.mix,
            chance: &mut self.chance,
            checkers: &mut self.checkers,
            coverage: &mut self.coverage,
            trace: &mut self.trace,
            out: mem::take(&mut self.out),
        };
        what(&mut self.replicas[index], &mut turn);
        let out = turn.out;
        self.leave(Party::Replica(index), index, out);
        let replica = &mut self.replicas[index];
        let Some(at) = replica.timeout() else { return };
        let at = replica.clock.when(at).max(self.scheduler.now());
        if replica.armed.is_none_or(|armed| at < armed) {
            replica.armed = Some(at);
            self.scheduler.at(at, Event::ReplicaTimer(index));
        }
    }

    /// Sends on what a turn left behind.
    fn leave(&mut self, from: Party, index: usize, mut out: Vec<Out>) {
        for one in out.drain(..) {
            match one {
                Out::Up { replica, up } => {
                    let happening = replica::Happening::Up { node: index, up };
                    let to = Party::Replica(replica);
                    self.post(from, to, Event::ToReplica(replica, happening));
                }
                Out::Down { node, down } => {
                    let happening = node::Happening::Down(down);
                    self.post(from, Party::Node(node), Event::ToNode(node, happening));
                }
                Out::Op(op) => {
                    let timeline = self.database.timeline;
                    let event = Event::ToDatabase { replica: index, timeline, op };
                    self.post(from, Party::Database, event);
                }
                Out::Driver { connection, incarnation, done, after } => {
                    let happening = node::Happening::Driver { connection, incarnation, done };
                    self.scheduler.after(after, Event::ToNode(index, happening));
                    if let driver::Done::Started(_) = done {
                        let first = Event::FirstPacket { node: index, connection };
                        self.scheduler.after(after, first);
                    }
                }
            }
        }
        self.out = out;
    }

    fn post(&mut self, from: Party, to: Party, event: Event) {
        let conditions = self.mix.conditions();
        let [first, second] = self.network.deliveries(from, to, &conditions, &mut self.chance);
        if let Some(delay) = second {
            self.coverage.fault("duplicate");
            self.scheduler.after(delay, event.clone());
        }
        if let Some(delay) = first {
            self.scheduler.after(delay, event);
        }
    }

    fn judge_activity(&mut self, index: usize) {
        let now = self.scheduler.now();
        for connection in 0..self.wishes.connections.len() {
            if self.nodes[index].touches(now, connection, self.mutation).is_none() {
                continue;
            }
            let mut touching = Vec::with_capacity(2);
            for (other, node) in self.nodes.iter().enumerate() {
                let touches = node.touches(now, connection, self.mutation);
                touching.extend(touches.map(|generation| (other, generation)));
            }
            self.checkers.touching(connection, &touching);
            if !self.nodes[index].has_beat(now, connection) {
                self.checkers.without_beat(connection, index);
            }
        }
    }

    fn moves(&self) -> Vec<u64> {
        (0..self.wishes.connections.len()).map(|index| self.checkers.moves(index)).collect()
    }

    /// The nodes that keep this connection up.
    pub(super) fn serving(&self, connection: usize) -> Vec<usize> {
        let now = self.scheduler.now();
        let serves = |node: &usize| self.nodes[*node].serves(now, connection);
        (0..self.nodes.len()).filter(serves).collect()
    }

    pub(super) fn violation(&self) -> Option<&Violation> {
        self.checkers.found()
    }

    fn judge_liveness(&mut self) {
        for connection in 0..self.wishes.connections.len() {
            let serving = self.serving(connection);
            let right = serving.len() == 1 && !self.wishes.draining.contains(&serving[0]);
            if !right {
                let draining = &self.wishes.draining;
                let detail = format!(
                    "connection {connection} is held by nodes {serving:?}, and {draining:?} drain"
                );
                self.checkers.violated(LIVENESS, detail);
            }
        }
    }
}
