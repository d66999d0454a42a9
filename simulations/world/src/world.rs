//! The scenario "enrollment, snapshots and sessions".
//!
//! Two tenants, an entry, a relay, an egress for each tenant and a thief of a join token come to
//! a control plane. While hosts enroll, people change policies, memberships, resources and nodes,
//! and clients open sessions, the network and the hosts fail as the seed's mix of faults says,
//! and somebody tries what must be refused. That is the first phase: nothing wrong may happen.
//! In the second phase nothing fails any more: everything must come right.

use std::{sync::Arc, time::Duration};

use crate::{
    attack::{Attacker, Attempt},
    cast::{self, Places},
    chance::Chance,
    checkers::{Checkers, Standing},
    clients::Clients,
    control::{Act, Control},
    faults::FaultMix,
    message::{Message, SnapshotAnswer},
    mutation::Mutation,
    network::{Carriage, Network, Party},
    node::SimNode,
    scheduler::Scheduler,
    trace::Trace,
    turn::{Sent, Turn},
};
use rap_control_core::state::NodeStanding;

/// How long things go wrong.
pub const SAFETY: Duration = Duration::from_secs(80);
/// How long things then have to come right: longer than the longest backoff and poll together.
pub const LIVENESS: Duration = Duration::from_secs(150);
/// More events than this in one run: the world runs in circles.
const MAX_EVENTS: u64 = 200_000;

#[derive(Debug)]
enum Event {
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
    mutation: Option<Mutation>,
    scheduler: Scheduler<Event>,
    chance: Chance,
    /// The first phase's faults.
    drawn: FaultMix,
    mix: FaultMix,
    failing: bool,
    network: Network,
    control: Control,
    nodes: Vec<SimNode>,
    clients: Clients,
    attacker: Attacker,
    checkers: Checkers,
    trace: Trace,
}

/// How a run ended.
#[derive(Debug)]
pub struct End {
    pub mix: FaultMix,
    pub checkers: Checkers,
    pub trace: Trace,
    pub welcomed: u64,
    pub nodes: usize,
}

impl World {
    pub fn new(seed: u64, mutation: Option<Mutation>) -> Self {
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
        let drawn = mix.clone();
        Self {
            mutation,
            drawn,
            scheduler: Scheduler::default(),
            chance,
            mix,
            failing: true,
            network: Network::default(),
            control: Control::new(seed, tenants.clone(), hosts, places.clone()),
            nodes,
            clients: Clients::new(seed, tenants, places),
            attacker: Attacker::default(),
            checkers: Checkers::default(),
            trace: Trace::default(),
        }
    }

    /// Both phases, or as far as the first violation.
    pub fn run(mut self) -> End {
        self.control.found(self.scheduler.now());
        self.turn(|world, turn| world.control.boot(turn));
        self.plan();
        self.advance(SAFETY);
        self.stop_failing();
        self.advance(LIVENESS);
        self.judge_the_end();
        End {
            mix: self.drawn,
            welcomed: self.clients.welcomed(),
            nodes: self.nodes.iter().filter(|node| node.is_working()).count(),
            checkers: self.checkers,
            trace: self.trace,
        }
    }

    fn plan(&mut self) {
        for index in 0..self.nodes.len() {
            let delay = self.chance.between(Duration::ZERO, Duration::from_secs(10));
            self.scheduler.after(delay, Event::Boot(Party::Node(index)));
        }
        let seconds = Duration::from_secs;
        for (event, delay) in [
            (Event::Act, seconds(12)),
            (Event::Approve, seconds(4)),
            (Event::Ask, seconds(8)),
            (Event::Crash, self.mix.crash_every.unwrap_or(SAFETY)),
            (Event::Cut, self.mix.partition_every.unwrap_or(SAFETY)),
            (Event::Attack, self.mix.attack_every.unwrap_or(SAFETY)),
        ] {
            self.scheduler.after(delay, event);
        }
        if self.chance.happens(200) {
            let at = self.chance.between(seconds(30), SAFETY);
            self.scheduler.after(at, Event::Revoke);
        }
    }

    fn advance(&mut self, span: Duration) {
        let end = self.scheduler.now() + span;
        let mut events = 0;
        while self.checkers.found().is_none() {
            let Some(event) = self.scheduler.next(end) else { return };
            events += 1;
            assert!(events < MAX_EVENTS, "the world runs in circles");
            self.happen(event);
        }
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Deliver(to, message) => self.deliver(to, message),
            Event::Timer(index) => {
                if self.nodes[index].armed != Some(self.scheduler.now()) {
                    return;
                }
                self.nodes[index].armed = None;
                self.node_turn(index, SimNode::handle_timeout);
            }
            Event::Boot(party) => self.boot(party),
            Event::RecordLate(bytes) => {
                self.turn(|world, turn| world.control.record_late(turn, &bytes));
            }
            Event::Heal(one, other) => self.network.heal(one, other),
            Event::Close(request) => self.turn(|world, turn| world.clients.close(turn, request)),
            // Nobody begins anything new in the second phase.
            _ if !self.failing => {}
            Event::Crash => self.crash(),
            Event::Cut => self.cut(),
            Event::Act => {
                let act = *self.chance.pick(Act::USUAL).expect("there are acts");
                self.turn(|world, turn| world.control.act(turn, act));
                self.again(Event::Act, 3, 12);
            }
            Event::Approve => {
                self.turn(|world, turn| world.control.act(turn, Act::Approve));
                self.again(Event::Approve, 3, 10);
            }
            Event::Revoke => self.turn(|world, turn| world.control.act(turn, Act::Revoke)),
            Event::Ask => {
                self.turn(|world, turn| world.clients.ask(turn));
                self.again(Event::Ask, 2, 9);
            }
            Event::Attack => self.attack(),
        }
    }

    fn again(&mut self, event: Event, least: u64, greatest: u64) {
        let delay = self.chance.between(Duration::from_secs(least), Duration::from_secs(greatest));
        self.scheduler.after(delay, event);
    }

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
                    self.again(Event::Close(request), 1, 40);
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
        let index = usize::try_from(self.chance.below(self.nodes.len() as u64 + 1)).unwrap_or(0);
        if index == self.nodes.len() {
            self.turn(|world, turn| world.control.crash(turn));
            self.again(Event::Boot(Party::Control), 1, 15);
        } else if self.chance.happens(self.mix.torn_writes) {
            self.nodes[index].crash_in_a_write();
        } else {
            self.node_turn(index, SimNode::crash);
        }
        if let Some(every) = self.mix.crash_every {
            self.scheduler.after(every, Event::Crash);
        }
    }

    fn cut(&mut self) {
        let place = |chance: &mut Chance, nodes: usize| match usize::try_from(
            chance.below(nodes as u64 + 2),
        )
        .unwrap_or(0)
        {
            index if index < nodes => Party::Node(index),
            index if index == nodes => Party::Control,
            _ => Party::Client,
        };
        let nodes = self.nodes.len();
        // Control is what most of them need.
        let one =
            if self.chance.happens(500) { Party::Control } else { place(&mut self.chance, nodes) };
        let other = place(&mut self.chance, nodes);
        self.network.cut(one, other);
        self.trace.note(self.scheduler.now(), format_args!("{one:?} and {other:?} are cut off"));
        let lasts = self.chance.between(Duration::ZERO, self.mix.partition_lasts);
        self.scheduler.after(lasts, Event::Heal(one, other));
        if let Some(every) = self.mix.partition_every {
            self.scheduler.after(every, Event::Cut);
        }
    }

    fn attack(&mut self) {
        let attempt = self.attacker.attempt(self.nodes.len(), &mut self.chance);
        match attempt {
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
        if let Some(every) = self.mix.attack_every {
            self.scheduler.after(every, Event::Attack);
        }
    }

    fn stop_failing(&mut self) {
        let now = self.scheduler.now();
        self.trace.note(now, format_args!("nothing fails any more"));
        self.failing = false;
        self.network.heal_all();
        self.mix.stop();
        self.boot(Party::Control);
        self.turn(|world, turn| world.control.make_peace(turn));
        for index in 0..self.nodes.len() {
            self.nodes[index].steady();
            self.boot(Party::Node(index));
        }
    }

    fn node_turn(&mut self, index: usize, what: impl FnOnce(&mut SimNode, &mut Turn<'_>)) {
        let was_off = self.nodes[index].is_off();
        self.turn_of(Party::Node(index), |world, turn| what(&mut world.nodes[index], turn));
        let node = &mut self.nodes[index];
        if node.is_off() && !was_off {
            self.again(Event::Boot(Party::Node(index)), 1, 15);
            return;
        }
        let Some(at) = node.timeout() else { return };
        let at = at.max(self.scheduler.now());
        if node.armed.is_none_or(|armed| at < armed || armed < self.scheduler.now()) {
            node.armed = Some(at);
            self.scheduler.at(at, Event::Timer(index));
        }
    }

    /// A turn of control or of a client.
    fn turn(&mut self, what: impl FnOnce(&mut Self, &mut Turn<'_>)) {
        // Both speak to nodes only, or to each other.
        self.turn_of(Party::Control, what);
    }

    fn turn_of(&mut self, from: Party, what: impl FnOnce(&mut Self, &mut Turn<'_>)) {
        let mut checkers = std::mem::take(&mut self.checkers);
        let mut trace = std::mem::take(&mut self.trace);
        let mut turn = Turn {
            now: self.scheduler.now(),
            mutation: self.mutation,
            checkers: &mut checkers,
            trace: &mut trace,
            sent: Vec::new(),
            recorded_later: Vec::new(),
        };
        what(self, &mut turn);
        let (sent, late) = (turn.sent, turn.recorded_later);
        self.checkers = checkers;
        self.trace = trace;
        for one in sent {
            self.post(from, one);
        }
        for bytes in late {
            self.again(Event::RecordLate(bytes), 0, 4);
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
        let delays = self.network.deliveries(from, to, carriage, &self.mix, &mut self.chance);
        if delays.is_empty() && carriage == Carriage::Connection {
            self.trace.note(self.scheduler.now(), format_args!("{from:?} to {to:?} is lost"));
        }
        for delay in delays {
            self.scheduler.after(delay, Event::Deliver(to, message.clone()));
        }
    }

    fn judge_the_end(&mut self) {
        if self.checkers.found().is_some() {
            return;
        }
        let events = self.control.events();
        let Some(state) = self.control.state() else { return };
        let approved = |node| state.nodes().get(node).is_some_and(|node| node.is_approved());
        let mut outcomes = vec![
            self.checkers.replay.check(state, &events),
            self.checkers.enrollment.log(&events),
            self.checkers.recorded.log(&events),
            self.checkers.recorded.complete(approved, |command| self.control.knows(command)),
        ];
        for node in &self.nodes {
            outcomes.push(self.checkers.convergence.check(&self.standing(node)));
            outcomes.push(self.checkers.scope.disk(&node.host, node.disk()));
        }
        for outcome in outcomes {
            self.checkers.judge(outcome);
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
