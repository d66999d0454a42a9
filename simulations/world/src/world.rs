//! The scenario "enrollment, snapshots and sessions".
//!
//! Two tenants, an entry, a relay, an egress for each tenant and a thief of a join token come to
//! a control plane. While hosts enroll, people change policies, memberships, resources and nodes,
//! and clients open sessions, the network and the hosts fail as the seed's mix of faults says,
//! and somebody tries what must be refused. That is the first phase: nothing wrong may happen.
//! In the second phase nothing fails any more: everything must come right.

use std::{mem, sync::Arc, time::Duration};

use rap_control_core::state::NodeStanding;

use crate::{
    attack::{ATTACKS, Attacker, Attempt},
    cast::{self, Places},
    checkers::{Checkers, Standing},
    clients::Clients,
    control::{Act, Control},
    faults::FaultMix,
    kit::{self, Chance, Phases, Report, Stage, coverage::FAULTS},
    message::{Message, SnapshotAnswer},
    mutation::Mutation,
    network::{Carriage, Network, Party},
    node::SimNode,
    turn::{Sent, Turn},
};

pub type Options = kit::Options<Mutation>;

/// Runs the scenario once.
pub fn run(options: Options) -> Report {
    kit::run(World::new(options), options.seed, "--scenario fabric")
}

/// How long things go wrong.
pub const SAFETY: Duration = Duration::from_secs(80);
/// How long things then have to come right: longer than the longest backoff and poll together.
pub const LIVENESS: Duration = Duration::from_secs(150);
/// More events than this in one run: the world runs in circles.
const MAX_EVENTS: u64 = 200_000;
/// What goes wrong.
pub const FAULT_KINDS: [&str; 8] = [
    "loss",
    "duplicate",
    "partition",
    "one-way partition",
    "severed",
    "node crash",
    "control crash",
    "torn write",
];
/// The heading under which is counted how much there was of anything.
pub const TOTALS: &str = "totals";

#[derive(Debug)]
pub enum Event {
    Deliver(Party, Message),
    Timer(usize),
    Boot(Party),
    Crash,
    Cut,
    Heal(Party, Party),
    Act,
    Approve,
    Revoke,
    Ask,
    Close(u64),
    Attack,
    RecordLate(Vec<u8>),
}

pub struct World {
    stage: Stage<Self>,
    network: Network,
    control: Control,
    nodes: Vec<SimNode>,
    clients: Clients,
    attacker: Attacker,
}

impl World {
    pub fn new(Options { seed, mutation }: Options) -> Self {
        let mut chance = Chance::new(seed, 1);
        let mix = FaultMix::draw(&mut chance);
        let (tenants, hosts) = (cast::tenants(), cast::hosts());
        let mut nodes: Vec<SimNode> = hosts
            .iter()
            .enumerate()
            .map(|(index, host)| {
                SimNode::new(index, seed, host.clone(), tenants.clone(), mix.clock_skew)
            })
            .collect();
        let places: Places =
            nodes.iter().map(|node| (cast::node_id(&node.public_key()), node.index)).collect();
        let places = Arc::new(places);
        nodes.iter_mut().for_each(|node| node.meet(places.clone()));
        Self {
            stage: Stage::new(mutation, chance, mix, Checkers::default(), MAX_EVENTS)
                .declare(FAULTS, FAULT_KINDS)
                .declare(FAULTS, ATTACKS),
            network: Network::default(),
            control: Control::new(seed, tenants.clone(), hosts, places.clone()),
            nodes,
            clients: Clients::new(seed, tenants, places),
            attacker: Attacker::default(),
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
        Phases { failing: SAFETY, recovery: LIVENESS, calm: Duration::ZERO }
    }

    fn begin(&mut self) {
        self.control.found(self.stage.now());
        self.turn(|world, turn| world.control.boot(turn));
        for index in 0..self.nodes.len() {
            self.stage.within_secs(0, 10, Event::Boot(Party::Node(index)));
        }
        let seconds = Duration::from_secs;
        let FaultMix { crash_every, partition_every, attack_every, .. } = self.stage.mix;
        for (event, delay) in [
            (Event::Act, seconds(12)),
            (Event::Approve, seconds(4)),
            (Event::Ask, seconds(8)),
            (Event::Crash, crash_every.unwrap_or(SAFETY)),
            (Event::Cut, partition_every.unwrap_or(SAFETY)),
            (Event::Attack, attack_every.unwrap_or(SAFETY)),
        ] {
            self.stage.after(delay, event);
        }
        if self.stage.chance.happens(200) {
            self.stage.within(seconds(30), SAFETY, Event::Revoke);
        }
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Deliver(to, message) => self.deliver(to, message),
            Event::Timer(index) => {
                if self.stage.fires(&mut self.nodes[index].armed) {
                    self.node_turn(index, SimNode::handle_timeout);
                }
            }
            Event::Boot(party) => self.boot(party),
            Event::RecordLate(bytes) => {
                self.turn(|world, turn| world.control.record_late(turn, &bytes));
            }
            Event::Heal(from, to) => self.network.heal(from, to),
            Event::Close(request) => self.turn(|world, turn| world.clients.close(turn, request)),
            // Nobody begins anything new in the second phase.
            _ if !self.stage.failing => {}
            Event::Crash => self.crash(),
            Event::Cut => self.cut(),
            Event::Act => {
                let act = *self.stage.chance.pick(Act::USUAL).expect("there are acts");
                self.turn(|world, turn| world.control.act(turn, act));
                self.stage.within_secs(3, 12, Event::Act);
            }
            Event::Approve => {
                self.turn(|world, turn| world.control.act(turn, Act::Approve));
                self.stage.within_secs(3, 10, Event::Approve);
            }
            Event::Revoke => self.turn(|world, turn| world.control.act(turn, Act::Revoke)),
            Event::Ask => {
                self.turn(|world, turn| world.clients.ask(turn));
                self.stage.within_secs(2, 9, Event::Ask);
            }
            Event::Attack => self.attack(),
        }
    }

    fn stop_failing(&mut self) {
        self.network.heal_all();
        self.stage.mix.stop();
        self.boot(Party::Control);
        self.turn(|world, turn| world.control.make_peace(turn));
        for index in 0..self.nodes.len() {
            self.nodes[index].steady();
            self.boot(Party::Node(index));
        }
    }

    fn judge_recovery(&mut self) {
        self.count_totals();
        if self.stage.violation().is_none() {
            self.judge_the_end();
        }
    }
}

impl World {
    fn deliver(&mut self, to: Party, message: Message) {
        match to {
            Party::Control => self.turn(|world, turn| world.control.handle(turn, message)),
            Party::Node(index) => {
                if let Message::Snapshot { answer: SnapshotAnswer::Newer(bundle), .. } = &message {
                    self.attacker.overhear_snapshot(index, bundle);
                }
                self.node_turn(index, |node, turn| node.handle(turn, message));
            }
            Party::Client => {
                let mut opened = None;
                self.turn(|world, turn| opened = world.clients.handle(turn, message));
                if let Some(request) = opened {
                    self.stage.within_secs(1, 40, Event::Close(request));
                }
            }
        }
    }

    fn boot(&mut self, party: Party) {
        match party {
            Party::Control if !self.control.is_running() => {
                self.turn(|world, turn| world.control.boot(turn));
            }
            Party::Node(index) if self.nodes[index].is_off() => {
                self.node_turn(index, SimNode::boot);
            }
            _ => {}
        }
    }

    fn crash(&mut self) {
        let index = self.stage.any(self.nodes.len() + 1);
        if index == self.nodes.len() {
            if self.control.is_running() {
                self.stage.coverage.fault("control crash");
            }
            self.turn(|world, turn| world.control.crash(turn));
            self.stage.within_secs(1, 15, Event::Boot(Party::Control));
        } else if self.stage.chance.happens(self.stage.mix.torn_writes) {
            // Counted when it happens: a node that writes nothing loses nothing.
            self.nodes[index].crash_in_a_write();
        } else {
            if !self.nodes[index].is_off() {
                self.stage.coverage.fault("node crash");
            }
            self.node_turn(index, SimNode::crash);
        }
        if let Some(every) = self.stage.mix.crash_every {
            self.stage.after(every, Event::Crash);
        }
    }

    fn cut(&mut self) {
        // Control is what most of them need.
        let one = if self.stage.chance.happens(500) { Party::Control } else { self.any_party() };
        let other = self.any_party();
        let (one, other) = if self.stage.chance.happens(500) { (one, other) } else { (other, one) };
        let both = self.stage.chance.happens(500);
        if one != other {
            self.stage.coverage.fault(if both { "partition" } else { "one-way partition" });
        }
        self.stage.note(format_args!("{one:?} is cut off from {other:?}, both ways: {both}"));
        let lasts = self.stage.chance.between(Duration::ZERO, self.stage.mix.partition_lasts);
        for (from, to) in [(one, other), (other, one)] {
            // Either of the two may be the one that is not heard.
            if both || (from, to) == (one, other) {
                self.network.cut(from, to);
                self.stage.after(lasts, Event::Heal(from, to));
            }
        }
        if let Some(every) = self.stage.mix.partition_every {
            self.stage.after(every, Event::Cut);
        }
    }

    fn any_party(&mut self) -> Party {
        let nodes = self.nodes.len();
        match self.stage.any(nodes + 2) {
            index if index < nodes => Party::Node(index),
            index if index == nodes => Party::Control,
            _ => Party::Client,
        }
    }

    fn attack(&mut self) {
        let attempt = self.attacker.attempt(self.nodes.len(), &mut self.stage.chance);
        if let Some((kind, _)) = attempt {
            self.stage.coverage.fault(kind);
        }
        match attempt.map(|(_, attempt)| attempt) {
            Some(Attempt::Snapshot(index, bundle)) => {
                self.node_turn(index, |node, turn| node.deceive(turn, bundle));
            }
            Some(Attempt::ToNode(index, message)) => {
                self.node_turn(index, |node, turn| node.handle(turn, message));
            }
            Some(Attempt::ToControl(message)) => {
                self.turn(|world, turn| world.control.handle(turn, message));
            }
            None => {}
        }
        if let Some(every) = self.stage.mix.attack_every {
            self.stage.after(every, Event::Attack);
        }
    }

    fn node_turn(&mut self, index: usize, what: impl FnOnce(&mut SimNode, &mut Turn<'_>)) {
        let was_off = self.nodes[index].is_off();
        self.turn_of(Party::Node(index), |world, turn| what(&mut world.nodes[index], turn));
        let node = &mut self.nodes[index];
        if node.is_off() && !was_off {
            self.stage.within_secs(1, 15, Event::Boot(Party::Node(index)));
            return;
        }
        if let Some(at) = node.timeout() {
            self.stage.arm(&mut node.armed, at, Event::Timer(index));
        }
    }

    /// A turn of control or of a client.
    fn turn(&mut self, what: impl FnOnce(&mut Self, &mut Turn<'_>)) {
        // Both speak to nodes only, or to each other.
        self.turn_of(Party::Control, what);
    }

    fn turn_of(&mut self, from: Party, what: impl FnOnce(&mut Self, &mut Turn<'_>)) {
        let mut checkers = mem::take(&mut self.stage.checkers);
        let mut trace = mem::take(&mut self.stage.trace);
        let mut coverage = mem::take(&mut self.stage.coverage);
        let mut turn = Turn {
            now: self.stage.now(),
            moment: self.stage.now(),
            mutation: self.stage.mutation,
            checkers: &mut checkers,
            trace: &mut trace,
            coverage: &mut coverage,
            sent: Vec::new(),
            recorded_later: Vec::new(),
        };
        what(self, &mut turn);
        let (sent, late) = (turn.sent, turn.recorded_later);
        self.stage.checkers = checkers;
        self.stage.trace = trace;
        self.stage.coverage = coverage;
        for one in sent {
            self.post(from, one);
        }
        for bytes in late {
            self.stage.within_secs(0, 4, Event::RecordLate(bytes));
        }
    }

    fn post(&mut self, from: Party, sent: Sent) {
        let Sent { to, message, carriage } = sent;
        let from = match message {
            Message::AskAccess(_) | Message::Hello(_) | Message::Close { .. } => Party::Client,
            _ => from,
        };
        let to_node = match to {
            Party::Node(index) => Some(index),
            Party::Control | Party::Client => None,
        };
        self.attacker.overhear(to_node, &message);
        let delays =
            self.network.deliveries(from, to, carriage, &self.stage.mix, &mut self.stage.chance);
        match delays.len() {
            0 if self.network.severs(from, to) => self.stage.coverage.fault("severed"),
            0 => self.stage.coverage.fault("loss"),
            1 => {}
            _ => self.stage.coverage.fault("duplicate"),
        }
        if delays.is_empty() && carriage == Carriage::Connection {
            self.stage.note(format_args!("{from:?} to {to:?} is lost"));
        }
        for delay in delays {
            self.stage.after(delay, Event::Deliver(to, message.clone()));
        }
    }

    fn count_totals(&mut self) {
        let nodes = self.nodes.iter().filter(|node| node.is_working()).count();
        let Stage { checkers, coverage, .. } = &mut self.stage;
        coverage.count_many(TOTALS, "flows admitted", checkers.admission.admitted());
        coverage.count_many(TOTALS, "sessions opened", self.clients.welcomed());
        coverage.count_many(TOTALS, "observations", checkers.recorded.count() as u64);
        coverage.count_many(TOTALS, "nodes working", nodes as u64);
    }

    fn judge_the_end(&mut self) {
        let events = self.control.events();
        let Some(state) = self.control.state() else { return };
        let approved = |node| state.nodes().get(node).is_some_and(|node| node.is_approved());
        let mut outcomes = vec![
            self.stage.checkers.replay.check(state, &events),
            self.stage.checkers.enrollment.log(&events),
            self.stage.checkers.recorded.log(&events),
            self.stage.checkers.recorded.complete(approved, |command| self.control.knows(command)),
        ];
        for node in &self.nodes {
            outcomes.push(self.stage.checkers.convergence.check(&self.standing(node)));
            outcomes.push(self.stage.checkers.scope.disk(&node.host, node.disk()));
        }
        for outcome in outcomes {
            self.stage.checkers.judge(outcome);
        }
    }

    fn standing(&self, node: &SimNode) -> Standing {
        let id = cast::node_id(&node.public_key());
        let found = self.control.state().and_then(|state| state.nodes().get(id));
        Standing {
            host: node.host.name.to_string(),
            applied: node.version(),
            spooled: node.spooled(),
            working: node.is_working(),
            newest: found.filter(|node| node.is_approved()).map(|node| node.version),
            revoked: found.is_some_and(|node| node.standing == NodeStanding::Revoked),
        }
    }
}
