//! The world of leases: who is there, what happens next, and the two phases.

use std::{mem, time::Duration};

use rap_control_core::lease::Reason;
use rap_proto::{Generation, LeaseClass, Leased, Moment};

use crate::kit::{
    self, Chance, Phases, Stage,
    coverage::FAULTS,
    election::elect,
    network::{MAX_NODES, MAX_REPLICAS, Network, Party},
};

use super::{
    Options,
    admin::{Wishes, connection_id},
    checkers::{Checkers, LIVENESS, STICKINESS},
    coverage::{
        FAULT_KINDS, GRANTED, GRANTORS, GRANTS, HOLDERS, PASSAGES, REASONS, SERVED, TOTALS,
    },
    database::Database,
    driver,
    faults::FaultMix,
    message::{Op, Out, Reply, Turn},
    mutation::Mutation,
    node::{self, SimNode},
    replica::{self, SimReplica},
    resource::Resource,
    trouble::Trouble,
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
pub enum Event {
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
    pub(super) stage: Stage<Self>,
    pub(super) network: Network,
    pub(super) nodes: Vec<SimNode>,
    pub(super) replicas: Vec<SimReplica>,
    pub(super) database: Database,
    pub(super) resource: Resource,
    pub(super) wishes: Wishes,
    pub(super) leader: usize,
    pub(super) beats_from: Moment,
    out: Vec<Out>,
    /// How often each connection had been granted when everything had come right.
    moves: Vec<u64>,
}

impl World {
    pub fn new(Options { seed, mutation }: Options) -> Self {
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
        let database = Database::new(wishes.connections.len(), &mut chance);
        let (worst, forgets) = (mix.worst_clocks, mix.unsynced > 0);
        let checkers = Checkers::new(&wishes.classes());
        let mut world = Self {
            stage: Stage::new(mutation, chance, mix, checkers, MAX_EVENTS)
                .declare(FAULTS, FAULT_KINDS)
                .declare(HOLDERS, PASSAGES)
                .declare(GRANTORS, GRANTS)
                .declare(REASONS, Reason::ALL.map(Reason::as_str)),
            network: Network::default(),
            nodes: (0..nodes).map(|index| SimNode::new(index, seed, replicas, forgets)).collect(),
            replicas: (0..replicas).map(|index| SimReplica::new(index, seed)).collect(),
            database,
            resource: Resource::default(),
            wishes,
            leader: 0,
            beats_from: Moment::default(),
            out: Vec::new(),
            moves: Vec::new(),
        };
        if worst {
            world.nodes.iter_mut().for_each(|node| node.process.clock.worst(false));
            world.replicas.iter_mut().for_each(|replica| replica.process.clock.worst(true));
            world.database.clock.worst(true);
        }
        world
    }

    /// Makes every connection one of this class.
    pub(super) fn ask_for(&mut self, class: LeaseClass) {
        self.wishes.connections.iter_mut().for_each(|wish| wish.class = class);
        self.stage.checkers = Checkers::new(&self.wishes.classes());
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
        let class = usize::from(self.wishes.connections[0].class == LeaseClass::Steady);
        Phases { failing: SAFETY[class], recovery: LIVENESS_BOUND[class], calm: CALM }
    }

    fn begin(&mut self) {
        let (ms, seconds) = (Duration::from_millis, Duration::from_secs);
        for index in 0..self.replicas.len() {
            self.stage.after(ms(index as u64), Event::BootReplica(index));
        }
        for index in 0..self.nodes.len() {
            let delay = self.stage.chance.between(Duration::ZERO, seconds(1));
            self.stage.after(delay, Event::BootNode(index));
            self.stage.after(delay, Event::Report(index));
            self.stage.after(delay, Event::Packet(index));
        }
        self.stage.after(ms(20), Event::Elect);
        self.stage.after(ms(1_100), Event::Beat);
        for trouble in Trouble::ALL {
            if let Some(every) = trouble.every(&self.stage.mix) {
                self.stage.within(seconds(5), every + seconds(5), Event::Trouble(*trouble));
            }
        }
    }

    fn happen(&mut self, event: Event) {
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
                if self.stage.fires(&mut self.nodes[index].process.armed) {
                    self.node_turn(index, SimNode::handle_timeout);
                }
            }
            Event::ReplicaTimer(index) => {
                if self.stage.fires(&mut self.replicas[index].process.armed) {
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
                self.stage.after(REPORT_EVERY, Event::Report(index));
            }
            Event::Packet(index) => self.packets(index),
            Event::FirstPacket { node, connection } => self.packet(node, connection),
            Event::Beat => self.beat(),
            Event::Elect => self.elect(),
            Event::DatabaseUp => self.database.primary.up = true,
            Event::Heal(from, to) => self.network.heal(from, to),
            Event::Relieve(from, to) => self.network.relieve(from, to),
            // Nothing goes wrong in the second phase.
            Event::Failover(_) | Event::Trouble(_) | Event::Cut { .. } if !self.stage.failing => {}
            Event::Cut { from, to, lasts } => {
                self.network.cut(from, to);
                self.stage.after(lasts, Event::Heal(from, to));
            }
            Event::Failover(lost) => self.fail_over(lost),
            Event::Trouble(trouble) => self.trouble(trouble),
        }
    }

    fn stop_failing(&mut self) {
        self.network.heal_all();
        self.stage.mix = FaultMix::calm();
        self.beats_from = self.stage.now();
        self.database.primary.up = true;
        self.wishes.settle(self.nodes.len(), &mut self.stage.chance);
        for index in 0..self.nodes.len() {
            self.nodes[index].steady();
            self.boot_node(index);
            self.node_turn(index, SimNode::resume);
            // Somebody with authority looks at what a failover may have lost.
            self.node_turn(index, SimNode::trust_again);
        }
        let timeline = self.database.primary.timeline;
        for index in 0..self.replicas.len() {
            self.boot_replica(index);
            self.replica_turn(index, SimReplica::resume);
            let accepted = replica::Happening::LossAccepted { timeline };
            self.replica_turn(index, |replica, turn| replica.handle(turn, accepted));
        }
        self.tell_everybody();
    }

    fn judge_recovery(&mut self) {
        self.moves = self.moves();
        self.judge_liveness();
    }

    fn judge_calm(&mut self) {
        self.judge_liveness();
        let (before, after) = (&self.moves, self.moves());
        if *before != after {
            let detail = format!("nothing fails, and {before:?} grants have become {after:?}");
            self.stage.checkers.verdict.violated(STICKINESS, detail);
        }
        let coverage = &mut self.stage.coverage;
        coverage.count_many(FAULTS, "older generation refused", self.resource.refused());
        coverage.count_many(TOTALS, GRANTED, self.database.grants);
    }
}

impl World {
    fn perform(&mut self, replica: usize, timeline: u64, op: Op) {
        if !self.database.primary.hears(timeline) {
            return;
        }
        let (now, grants) = (self.stage.now(), self.database.grants);
        let mutation = self.stage.mutation;
        let reply = self.database.perform(now, op, mutation, &mut self.stage.checkers);
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

    fn packets(&mut self, index: usize) {
        for connection in 0..self.wishes.connections.len() {
            self.packet(index, connection);
        }
        let ms = Duration::from_millis;
        self.stage.within(ms(400), ms(1_600), Event::Packet(index));
    }

    fn packet(&mut self, index: usize, connection: usize) {
        let (now, mutation) = (self.stage.now(), self.stage.mutation);
        if let Some(generation) = self.nodes[index].touches(now, connection, mutation) {
            let (least, greatest) = self.stage.mix.conditions.latency;
            let mut delay = self.stage.chance.between(least, greatest);
            // The loop stands still between its check and its write, or the network holds it up.
            if self.stage.failing && self.stage.chance.happens(100) {
                delay += self.stage.chance.between(Duration::ZERO, Duration::from_secs(8));
            }
            self.stage.after(delay, Event::ToResource { connection, generation });
        }
    }

    fn serve(&mut self, connection: usize, generation: Generation) {
        let dies = self.stage.failing && self.stage.chance.happens(20);
        let leased = Leased { connection: connection_id(connection), generation };
        if self.resource.receive(leased, dies, self.stage.mutation) {
            self.stage.coverage.count(TOTALS, SERVED);
            self.stage.checkers.served(connection, generation);
        }
    }

    fn beat(&mut self) {
        let now = self.stage.now();
        let loss = self.stage.mix.conditions.loss;
        for index in 0..self.nodes.len() {
            if self.beat_reaches(now, index) && !self.stage.chance.happens(loss) {
                let until = self.nodes[index].process.time(now) + BEAT_LASTS;
                let beat = node::Happening::Beat { until };
                self.node_turn(index, |node, turn| node.handle(turn, beat));
            }
        }
        self.stage.after(BEAT_EVERY, Event::Beat);
    }

    fn elect(&mut self) {
        let works: Vec<bool> = self.replicas.iter().map(|one| one.process.works()).collect();
        let two_leaders = self.stage.mix.two_leaders;
        let leaders = elect(&mut self.stage, &mut self.leader, &works, two_leaders);
        for index in 0..self.replicas.len() {
            let leads = leaders.contains(&index);
            let replica = &self.replicas[index];
            if replica.process.works() && replica.leading != leads {
                let leading = replica::Happening::Leading(leads);
                self.replica_turn(index, |replica, turn| replica.handle(turn, leading));
            }
        }
        self.stage.after(ELECT_EVERY, Event::Elect);
    }

    fn boot_node(&mut self, index: usize) {
        if !self.nodes[index].process.up {
            let connections = self.wishes.connections.len();
            self.node_turn(index, |node, turn| node.boot(turn, connections));
        }
    }

    fn boot_replica(&mut self, index: usize) {
        if !self.replicas[index].process.up {
            let wishes = self.wishes.clone();
            self.replica_turn(index, |replica, turn| replica.boot(turn, &wishes));
        }
    }

    pub(super) fn node_turn(
        &mut self,
        index: usize,
        what: impl FnOnce(&mut SimNode, &mut Turn<'_>),
    ) {
        let was_up = self.nodes[index].process.up;
        let mut turn = self.stage.turn(mem::take(&mut self.out));
        what(&mut self.nodes[index], &mut turn);
        let out = turn.out;
        self.leave(Party::Node(index), index, out);
        // Nothing else makes a node active, so this looks at every instant.
        self.judge_activity(index);
        let node = &mut self.nodes[index];
        if was_up && !node.process.up && self.stage.failing {
            let (least, greatest) = (Duration::from_millis(200), Duration::from_secs(12));
            self.stage.within(least, greatest, Event::BootNode(index));
        }
        if let Some(at) = node.timeout() {
            let at = node.process.clock.when(at);
            self.stage.arm(&mut node.process.armed, at, Event::NodeTimer(index));
        }
    }

    pub(super) fn replica_turn(
        &mut self,
        index: usize,
        what: impl FnOnce(&mut SimReplica, &mut Turn<'_>),
    ) {
        let mut turn = self.stage.turn(mem::take(&mut self.out));
        what(&mut self.replicas[index], &mut turn);
        let out = turn.out;
        self.leave(Party::Replica(index), index, out);
        let replica = &mut self.replicas[index];
        if let Some(at) = replica.timeout() {
            let at = replica.process.clock.when(at);
            self.stage.arm(&mut replica.process.armed, at, Event::ReplicaTimer(index));
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
                    let timeline = self.database.primary.timeline;
                    let event = Event::ToDatabase { replica: index, timeline, op };
                    self.post(from, Party::Database, event);
                }
                Out::Driver { connection, incarnation, done, after } => {
                    let happening = node::Happening::Driver { connection, incarnation, done };
                    self.stage.after(after, Event::ToNode(index, happening));
                    if let driver::Done::Started(_) = done {
                        let first = Event::FirstPacket { node: index, connection };
                        self.stage.after(after, first);
                    }
                }
            }
        }
        self.out = out;
    }

    fn post(&mut self, from: Party, to: Party, event: Event) {
        let conditions = self.stage.mix.conditions;
        self.network.post(&mut self.stage, &conditions, (from, to), event);
    }

    fn judge_activity(&mut self, index: usize) {
        let (now, mutation) = (self.stage.now(), self.stage.mutation);
        for connection in 0..self.wishes.connections.len() {
            if self.nodes[index].touches(now, connection, mutation).is_none() {
                continue;
            }
            let mut touching = self.nodes.iter().enumerate().filter_map(|(other, node)| {
                Some((other, node.touches(now, connection, mutation)?))
            });
            // Of one alone there is nothing to say, and of more no more than of two.
            if let (Some(one), Some(other)) = (touching.next(), touching.next()) {
                self.stage.checkers.touching(connection, &[one, other]);
            }
            if !self.nodes[index].has_beat(now, connection) {
                self.stage.checkers.without_beat(connection, index);
            }
        }
    }

    fn moves(&self) -> Vec<u64> {
        (0..self.wishes.connections.len()).map(|index| self.stage.checkers.moves(index)).collect()
    }

    /// The nodes that keep this connection up.
    pub(super) fn serving(&self, connection: usize) -> Vec<usize> {
        let now = self.stage.now();
        let serves = |node: &usize| self.nodes[*node].serves(now, connection);
        (0..self.nodes.len()).filter(serves).collect()
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
                self.stage.checkers.verdict.violated(LIVENESS, detail);
            }
        }
    }
}
