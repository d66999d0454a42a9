//! The world of beats: who is there, what happens next, and the two phases.

use std::{mem, time::Duration};

use rap_agent_core::beat::BeatRefusal;
use rap_proto::{Authority, Signer as _};

use crate::kit::{
    self, Chance, Phases, Stage,
    coverage::FAULTS,
    election::elect,
    keys::{self, REPLICAS},
    network::{Network, Party},
};

use super::{
    Options,
    checkers::{Checkers, LIVENESS},
    coverage::{FAULT_KINDS, NODES, PASSAGES, REFUSED, word},
    database::Database,
    faults::{FaultMix, Jumps, Outage},
    message::{Call, Down, Entry, Op, Out, Reply, Turn},
    mutation::Mutation,
    node::SimNode,
    replica::{self, SimReplica},
    trouble::Trouble,
};

/// How long things go wrong; an outage is added.
pub const SAFETY: Duration = Duration::from_secs(60);
/// How long everything then has to come right: an answer that is waited for in vain, the greatest
/// wait after failures, and a beat; and each sequence that a failover lost is a beat in vain.
pub const LIVENESS_BOUND: Duration = Duration::from_secs(60);
/// See [`LIVENESS_BOUND`]; for worlds in which failovers lose something.
pub const LIVENESS_BOUND_UNSYNCED: Duration = Duration::from_secs(100);
/// How long everybody must then keep what he has.
pub const CALM: Duration = Duration::from_secs(15);
/// The most nodes that a run draws.
pub const MAX_NODES: u64 = 3;
/// More events than this in one run: the world runs in circles.
const MAX_EVENTS: u64 = 200_000;
const ELECT_EVERY: Duration = Duration::from_secs(2);
const LOOK_EVERY: Duration = Duration::from_secs(1);

#[derive(Debug, Clone)]
pub enum Event {
    ToNode(usize, Down),
    ToReplica(usize, replica::Happening),
    ToDatabase {
        replica: usize,
        timeline: u64,
        call: Call,
        op: Op,
    },
    NodeTimer(usize),
    ReplicaTimer(usize),
    BootNode(usize),
    BootReplica(usize),
    ResumeNode(usize),
    ResumeReplica(usize),
    /// The log grows.
    Append,
    Elect,
    /// The checkers look at everybody.
    Look,
    DatabaseUp,
    Heal(Party, Party),
    Rival,
    Outage(Outage, Duration),
    Trouble(Trouble),
}

pub struct World {
    pub(super) stage: Stage<Self>,
    pub(super) network: Network,
    pub(super) nodes: Vec<SimNode>,
    pub(super) replicas: Vec<SimReplica>,
    pub(super) database: Database,
    leader: usize,
    out: Vec<Out>,
}

impl World {
    pub fn new(Options { seed, mutation }: Options) -> Self {
        let mut chance = Chance::new(seed, 1);
        let mix = FaultMix::draw(&mut chance);
        let nodes = 1 + usize::try_from(chance.below(MAX_NODES)).unwrap_or(0);
        let database = Database::new(mix.unsynced, &mut chance);
        let checkers = Checkers::new(nodes, mix.jumps == Jumps::Nobody);
        Self {
            stage: Stage::new(mutation, chance, mix, checkers, MAX_EVENTS)
                .declare(FAULTS, FAULT_KINDS)
                .declare(NODES, PASSAGES)
                .declare(REFUSED, BeatRefusal::ALL.map(|reason| format!("{reason:?}"))),
            network: Network::default(),
            nodes: (0..nodes).map(|index| SimNode::new(index, seed)).collect(),
            replicas: (0..REPLICAS).map(|index| SimReplica::new(index, seed)).collect(),
            database,
            leader: 0,
            out: Vec::new(),
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
        let FaultMix { outage, unsynced, .. } = self.stage.drawn;
        Phases {
            failing: SAFETY + outage.map_or(Duration::ZERO, |(_, lasts)| lasts),
            recovery: if unsynced { LIVENESS_BOUND_UNSYNCED } else { LIVENESS_BOUND },
            calm: CALM,
        }
    }

    fn begin(&mut self) {
        let (ms, seconds) = (Duration::from_millis, Duration::from_secs);
        for index in 0..REPLICAS {
            self.stage.after(ms(index as u64), Event::BootReplica(index));
        }
        for index in 0..self.nodes.len() {
            self.stage.within_secs(0, 8, Event::BootNode(index));
        }
        self.stage.after(ms(20), Event::Elect);
        self.stage.after(ms(30), Event::Append);
        self.stage.after(LOOK_EVERY, Event::Look);
        for trouble in Trouble::ALL {
            if let Some(every) = trouble.every(&self.stage.mix) {
                self.stage.within(seconds(3), every + seconds(3), Event::Trouble(*trouble));
            }
        }
        if let Some((outage, lasts)) = self.stage.mix.outage {
            self.stage.within_secs(15, 40, Event::Outage(outage, lasts));
        }
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::ToNode(index, down) => {
                self.node_turn(index, |node, turn| node.handle(turn, down));
            }
            Event::ToReplica(index, happening) => self.reach(index, happening),
            Event::ToDatabase { replica, timeline, call, op } => {
                self.perform(replica, timeline, call, op);
            }
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
            Event::Append => self.append(),
            Event::Elect => self.elect(),
            Event::Look => self.look(),
            Event::DatabaseUp => self.database.primary.up = true,
            Event::Heal(from, to) => self.network.heal(from, to),
            // Nothing goes wrong in the second phase.
            Event::Trouble(_) | Event::Rival | Event::Outage(..) if !self.stage.failing => {}
            Event::Rival => self.rival(),
            Event::Outage(outage, lasts) => self.outage(outage, lasts),
            Event::Trouble(trouble) => self.trouble(trouble),
        }
    }

    fn stop_failing(&mut self) {
        self.network.heal_all();
        self.stage.mix = FaultMix::calm();
        self.database.primary.up = true;
        self.database.calendar.repair();
        if self.stage.drawn.unsynced {
            self.database.make_good(self.stage.now());
        }
        for index in 0..self.nodes.len() {
            self.nodes[index].steady();
            self.boot_node(index);
            self.node_turn(index, SimNode::resume);
        }
        for index in 0..REPLICAS {
            self.boot_replica(index);
            self.replica_turn(index, SimReplica::resume);
            if self.stage.drawn.unsynced {
                // What was folded may be gone.
                let refold = replica::Happening::Refold;
                self.replica_turn(index, |replica, turn| replica.handle(turn, refold));
            }
        }
    }

    fn judge_recovery(&mut self) {
        self.judge_liveness();
        self.stage.checkers.calm();
    }

    fn judge_calm(&mut self) {
        self.judge_liveness();
    }
}

impl World {
    fn reach(&mut self, index: usize, happening: replica::Happening) {
        if let replica::Happening::Asked { node, ask } = &happening
            && !self.replicas[index].process.up
        {
            let down = Down::Refused { incarnation: ask.incarnation };
            self.post(Party::Replica(index), Party::Node(*node), Event::ToNode(*node, down));
            return;
        }
        if let replica::Happening::Reply { reply: Reply::Tail { head, .. }, .. } = &happening
            && self.replicas[index].process.up
        {
            self.stage.checkers.read(index, *head);
        }
        self.replica_turn(index, |replica, turn| replica.handle(turn, happening));
    }

    fn perform(&mut self, replica: usize, timeline: u64, call: Call, op: Op) {
        if !self.database.primary.hears(timeline) {
            return;
        }
        let reply = self.database.perform(self.stage.now(), op, self.stage.mutation);
        if matches!(reply, Reply::Proposed(true)) {
            self.after_a_proposal();
        }
        let happening = replica::Happening::Reply { call, reply };
        let (from, to) = (Party::Database, Party::Replica(replica));
        self.post(from, to, Event::ToReplica(replica, happening));
    }

    fn append(&mut self) {
        if self.database.primary.up {
            let entry = if self.stage.chance.happens(80) { Entry::Denial } else { Entry::Other };
            self.database.append(self.stage.now(), entry);
        }
        self.stage.within(Duration::from_millis(200), Duration::from_secs(2), Event::Append);
    }

    fn elect(&mut self) {
        let works: Vec<bool> = self.replicas.iter().map(|one| one.process.works()).collect();
        let two_leaders = self.stage.mix.two_leaders;
        let leaders = elect(&mut self.stage, &mut self.leader, &works, two_leaders);
        for index in 0..REPLICAS {
            let leads = leaders.contains(&index);
            let replica = &self.replicas[index];
            if replica.process.works() && replica.leading != leads {
                let leading = replica::Happening::Leading(leads);
                self.replica_turn(index, |replica, turn| replica.handle(turn, leading));
            }
        }
        self.stage.after(ELECT_EVERY, Event::Elect);
    }

    fn look(&mut self) {
        let now = self.stage.now();
        for (index, replica) in self.replicas.iter().enumerate() {
            if let Some(held) = replica.held(now) {
                self.stage.checkers.still_holds(now, index, &held.beat);
            }
        }
        for node in &self.nodes {
            if let Some(authority) = node.authority() {
                self.stage.checkers.stands(now, node.process.index, authority);
            }
        }
        self.stage.after(LOOK_EVERY, Event::Look);
    }

    fn boot_node(&mut self, index: usize) {
        if !self.nodes[index].process.up {
            self.node_turn(index, SimNode::boot);
        }
    }

    fn boot_replica(&mut self, index: usize) {
        if !self.replicas[index].process.up {
            if self.stage.planted(Mutation::VoteNotStored) {
                self.database.forget_vote(keys::replica(index).public_key().id());
            }
            self.replica_turn(index, SimReplica::boot);
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
        let node = &mut self.nodes[index];
        if was_up && !node.process.up && self.stage.failing {
            let (least, greatest) = (Duration::from_millis(200), Duration::from_secs(10));
            self.stage.within(least, greatest, Event::BootNode(index));
        }
        if let Some(authority) = node.authority() {
            self.stage.checkers.stands(self.stage.now(), index, authority);
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
                Out::Ask { replica, ask } => {
                    let happening = replica::Happening::Asked { node: index, ask };
                    self.post(from, Party::Replica(replica), Event::ToReplica(replica, happening));
                }
                Out::Down { node, down } => {
                    self.post(from, Party::Node(node), Event::ToNode(node, down));
                }
                Out::Ring { sequence } => {
                    for node in 0..self.nodes.len() {
                        let down = Down::Rung { sequence };
                        self.post(from, Party::Node(node), Event::ToNode(node, down));
                    }
                }
                Out::Op { call, op } => {
                    let timeline = self.database.primary.timeline;
                    let event = Event::ToDatabase { replica: index, timeline, call, op };
                    self.post(from, Party::Database, event);
                }
            }
        }
        self.out = out;
    }

    fn post(&mut self, from: Party, to: Party, event: Event) {
        let conditions = self.stage.mix.conditions;
        self.network.post(&mut self.stage, &conditions, (from, to), event);
    }

    fn judge_liveness(&mut self) {
        let now = self.stage.now();
        for (index, replica) in self.replicas.iter().enumerate() {
            if replica.held(now).is_none() {
                self.stage
                    .checkers
                    .verdict
                    .violated(LIVENESS, format!("replica {index} holds no beat"));
            }
        }
        for node in &self.nodes {
            let authority = node.authority();
            if authority != Some(Authority::Healthy) {
                let (index, state) = (node.process.index, authority.map_or("down", word));
                self.stage.checkers.verdict.violated(LIVENESS, format!("node {index} is {state}"));
            }
        }
    }
}
