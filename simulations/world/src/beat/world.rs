//! The world of beats: who is there, what happens next, and the two phases.

use std::{mem, time::Duration};

use rap_proto::{Authority, Moment, Signer as _};

use crate::{
    chance::Chance,
    checkers::Violation,
    lease::network::{Network, Party},
    scheduler::Scheduler,
    trace::Trace,
};

use super::{
    checkers::{Checkers, LIVENESS},
    coverage::{Coverage, word},
    database::Database,
    faults::{FaultMix, Jumps, Outage},
    keys::{self, REPLICAS},
    message::{Call, Down, Entry, Op, Reply},
    mutation::Mutation,
    node::SimNode,
    replica::{self, SimReplica},
    trouble::Trouble,
    turn::{Out, Turn},
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
pub(super) enum Event {
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
    leader: usize,
    checkers: Checkers,
    pub(super) coverage: Coverage,
    pub(super) trace: Trace,
    out: Vec<Out>,
    events: u64,
}

/// How a run ended.
#[derive(Debug)]
pub struct End {
    pub mix: FaultMix,
    pub violation: Option<Violation>,
    pub trace: Trace,
    pub coverage: Coverage,
    pub simulated: Duration,
    pub events: u64,
}

impl World {
    pub fn new(seed: u64, mutation: Option<Mutation>) -> Self {
        let mut chance = Chance::new(seed, 1);
        let mix = FaultMix::draw(&mut chance);
        let nodes = 1 + usize::try_from(chance.below(MAX_NODES)).unwrap_or(0);
        let database = Database::new(mix.unsynced, &mut chance);
        Self {
            mutation,
            scheduler: Scheduler::default(),
            drawn: mix.clone(),
            failing: true,
            network: Network::default(),
            nodes: (0..nodes).map(|index| SimNode::new(index, seed)).collect(),
            replicas: (0..REPLICAS).map(|index| SimReplica::new(index, seed)).collect(),
            database,
            leader: 0,
            checkers: Checkers::new(nodes, mix.jumps == Jumps::Nobody),
            mix,
            chance,
            coverage: Coverage::default(),
            trace: Trace::default(),
            out: Vec::new(),
            events: 0,
        }
    }

    /// All phases, or as far as the first violation.
    pub fn run(mut self) -> End {
        self.plan();
        let outage = self.drawn.outage.map_or(Duration::ZERO, |(_, lasts)| lasts);
        self.advance(SAFETY + outage);
        self.stop_failing();
        let unsynced = self.drawn.unsynced;
        self.advance(if unsynced { LIVENESS_BOUND_UNSYNCED } else { LIVENESS_BOUND });
        self.judge_liveness();
        self.checkers.calm();
        self.advance(CALM);
        self.judge_liveness();
        End {
            mix: self.drawn,
            violation: self.checkers.found().cloned(),
            trace: self.trace,
            coverage: self.coverage,
            simulated: self.scheduler.now().since(Moment::default()),
            events: self.events,
        }
    }

    fn plan(&mut self) {
        for index in 0..REPLICAS {
            self.scheduler.after(Duration::from_millis(index as u64), Event::BootReplica(index));
        }
        for index in 0..self.nodes.len() {
            let delay = self.chance.between(Duration::ZERO, Duration::from_secs(8));
            self.scheduler.after(delay, Event::BootNode(index));
        }
        self.scheduler.after(Duration::from_millis(20), Event::Elect);
        self.scheduler.after(Duration::from_millis(30), Event::Append);
        self.scheduler.after(LOOK_EVERY, Event::Look);
        for trouble in Trouble::ALL {
            if let Some(every) = trouble.every(&self.mix) {
                let first =
                    self.chance.between(Duration::from_secs(3), every + Duration::from_secs(3));
                self.scheduler.after(first, Event::Trouble(*trouble));
            }
        }
        if let Some((outage, lasts)) = self.mix.outage {
            let begins = self.chance.between(Duration::from_secs(15), Duration::from_secs(40));
            self.scheduler.after(begins, Event::Outage(outage, lasts));
        }
    }

    fn advance(&mut self, span: Duration) {
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
            Event::ToNode(index, down) => {
                self.node_turn(index, |node, turn| node.handle(turn, down));
            }
            Event::ToReplica(index, happening) => self.reach(index, happening),
            Event::ToDatabase { replica, timeline, call, op } => {
                self.perform(replica, timeline, call, op);
            }
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
            Event::Append => self.append(),
            Event::Elect => self.elect(),
            Event::Look => self.look(),
            Event::DatabaseUp => self.database.up = true,
            Event::Heal(from, to) => self.network.heal(from, to),
            // Nothing goes wrong in the second phase.
            Event::Trouble(_) | Event::Rival | Event::Outage(..) if !self.failing => {}
            Event::Rival => self.rival(),
            Event::Outage(outage, lasts) => self.outage(outage, lasts),
            Event::Trouble(trouble) => self.trouble(trouble),
        }
    }

    fn reach(&mut self, index: usize, happening: replica::Happening) {
        if let replica::Happening::Asked { node, ask } = &happening
            && !self.replicas[index].up
        {
            let down = Down::Refused { incarnation: ask.incarnation };
            let (from, to) = (Party::Replica(index), Party::Node(*node));
            self.post(from, to, Event::ToNode(*node, down));
            return;
        }
        if let replica::Happening::Reply { reply: Reply::Tail { head, .. }, .. } = &happening
            && self.replicas[index].up
        {
            self.checkers.read(index, *head);
        }
        self.replica_turn(index, |replica, turn| replica.handle(turn, happening));
    }

    fn perform(&mut self, replica: usize, timeline: u64, call: Call, op: Op) {
        // A connection to the old primary died with it.
        if !self.database.up || timeline != self.database.timeline {
            return;
        }
        let reply = self.database.perform(self.scheduler.now(), op, self.mutation);
        if matches!(reply, Reply::Proposed(true)) {
            self.after_a_proposal();
        }
        let happening = replica::Happening::Reply { call, reply };
        let (from, to) = (Party::Database, Party::Replica(replica));
        self.post(from, to, Event::ToReplica(replica, happening));
    }

    fn append(&mut self) {
        if self.database.up {
            let entry = if self.chance.happens(80) { Entry::Denial } else { Entry::Other };
            self.database.append(self.scheduler.now(), entry);
        }
        let next = self.chance.between(Duration::from_millis(200), Duration::from_secs(2));
        self.scheduler.after(next, Event::Append);
    }

    /// Somebody leads, and sometimes two.
    fn elect(&mut self) {
        let works = |replica: &SimReplica| replica.up && !replica.paused;
        let before = self.leader;
        if !works(&self.replicas[before]) || self.chance.happens(self.mix.two_leaders) {
            let other = self.any(REPLICAS);
            if works(&self.replicas[other]) {
                self.leader = other;
            }
        }
        let two = self.failing && self.chance.happens(self.mix.two_leaders);
        for index in 0..REPLICAS {
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

    fn look(&mut self) {
        let now = self.scheduler.now();
        for (index, replica) in self.replicas.iter().enumerate() {
            if let Some(held) = replica.held(now) {
                self.checkers.still_holds(now, index, &held.beat);
            }
        }
        for node in &self.nodes {
            if let Some(authority) = node.authority() {
                self.checkers.stands(now, node.index, authority);
            }
        }
        self.scheduler.after(LOOK_EVERY, Event::Look);
    }

    fn boot_node(&mut self, index: usize) {
        if !self.nodes[index].up {
            self.node_turn(index, SimNode::boot);
        }
    }

    fn boot_replica(&mut self, index: usize) {
        if !self.replicas[index].up {
            if self.mutation == Some(Mutation::VoteNotStored) {
                self.database.forget_vote(keys::replica(index).public_key().id());
            }
            self.replica_turn(index, SimReplica::boot);
        }
    }

    fn stop_failing(&mut self) {
        let now = self.scheduler.now();
        self.trace.note(now, format_args!("nothing fails any more"));
        self.failing = false;
        self.network.heal_all();
        self.mix = FaultMix::calm();
        self.database.up = true;
        self.database.calendar.repair();
        if self.drawn.unsynced {
            self.database.make_good(now);
        }
        for index in 0..self.nodes.len() {
            self.nodes[index].steady();
            self.boot_node(index);
            self.node_turn(index, SimNode::resume);
        }
        for index in 0..REPLICAS {
            self.boot_replica(index);
            self.replica_turn(index, SimReplica::resume);
            if self.drawn.unsynced {
                // What was folded may be gone.
                let refold = replica::Happening::Refold;
                self.replica_turn(index, |replica, turn| replica.handle(turn, refold));
            }
        }
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
            chance: &mut self.chance,
            checkers: &mut self.checkers,
            coverage: &mut self.coverage,
            trace: &mut self.trace,
            out: mem::take(&mut self.out),
        };
        what(&mut self.nodes[index], &mut turn);
        let out = turn.out;
        self.leave(Party::Node(index), index, out);
        if was_up && !self.nodes[index].up && self.failing {
            let back = self.chance.between(Duration::from_millis(200), Duration::from_secs(10));
            self.scheduler.after(back, Event::BootNode(index));
        }
        let now = self.scheduler.now();
        if let Some(authority) = self.nodes[index].authority() {
            self.checkers.stands(now, index, authority);
        }
        let node = &mut self.nodes[index];
        let Some(at) = node.timeout() else { return };
        let at = node.clock.when(at).max(now);
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
                    let timeline = self.database.timeline;
                    let event = Event::ToDatabase { replica: index, timeline, call, op };
                    self.post(from, Party::Database, event);
                }
            }
        }
        self.out = out;
    }

    fn post(&mut self, from: Party, to: Party, event: Event) {
        let conditions = self.mix.conditions;
        let [first, second] = self.network.deliveries(from, to, &conditions, &mut self.chance);
        if let Some(delay) = second {
            self.coverage.fault("duplicate");
            self.scheduler.after(delay, event.clone());
        }
        if let Some(delay) = first {
            self.scheduler.after(delay, event);
        }
    }

    fn judge_liveness(&mut self) {
        let now = self.scheduler.now();
        for (index, replica) in self.replicas.iter().enumerate() {
            if replica.held(now).is_none() {
                self.checkers.violated(LIVENESS, format!("replica {index} holds no beat"));
            }
        }
        for node in &self.nodes {
            let authority = node.authority();
            if authority != Some(Authority::Healthy) {
                let (index, state) = (node.index, authority.map_or("down", word));
                self.checkers.violated(LIVENESS, format!("node {index} is {state}"));
            }
        }
    }
}
