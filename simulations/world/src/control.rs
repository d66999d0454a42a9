//! The control plane: the real log, aggregates, projections, compiler and process managers, with
//! this file in the server's place. Its log survives a crash; everything else is folded again.

mod admin;
mod answers;
mod enroll;
mod setup;

use std::{collections::BTreeMap, sync::Arc};

use futures_util::FutureExt as _;
use rap_agent_core::replay::ReplayWindow;
use rap_control_core::{State, process};
use rap_events::{
    Actor, Aggregate, Envelope, Log, MemoryLog,
    cluster::Cluster,
    handler::{self, ExecuteError, Request},
    log::MAX_READ_EVENTS,
    login::Login,
    session::Session,
};
use rap_proto::{
    CommandId, Digest, IncarnationId, JoinTokenId, Moment, NodeId, Timestamp,
    bus::{ControlBody, ControlMessage, MESSAGE_TTL_MS},
    key::LocalKey,
    signed,
};
use uuid::Uuid;

use crate::{
    cast::{self, Host, Places, Tenant},
    checkers::Violation,
    kit::Chance,
    message::Message,
    mutation::Mutation,
    network::Party,
    turn::{Turn, calendar},
};

pub use admin::Act;
pub use setup::join_secret;

/// How many rounds of process managers may follow one change before it is called a circle.
const MAX_ROUNDS: usize = 50;

pub struct Control {
    log: Arc<dyn Log>,
    key: LocalKey,
    tenants: Vec<Tenant>,
    hosts: Vec<Host>,
    /// Which join token opens with which secret.
    tokens: BTreeMap<Digest, JoinTokenId>,
    /// Where each node is; the real one knows it from their connections.
    places: Arc<Places>,
    chance: Chance,
    commands: u64,
    boots: u64,
    running: Option<Running>,
}

/// What a crash takes away.
struct Running {
    state: State,
    incarnation: IncarnationId,
    sequence: u64,
    windows: BTreeMap<NodeId, ReplayWindow>,
    announced: BTreeMap<NodeId, u64>,
    listening_since: Timestamp,
}

impl Control {
    pub fn new(seed: u64, tenants: Vec<Tenant>, hosts: Vec<Host>, places: Arc<Places>) -> Self {
        let mut chance = Chance::new(seed, 2);
        Self {
            log: Arc::new(MemoryLog::new()),
            key: key(&mut chance),
            tenants,
            hosts,
            tokens: BTreeMap::new(),
            places,
            chance,
            commands: 0,
            boots: 0,
            running: None,
        }
    }

    pub fn state(&self) -> Option<&State> {
        self.running.as_ref().map(|running| &running.state)
    }

    pub fn is_running(&self) -> bool {
        self.running.is_some()
    }

    /// Every event of the log.
    pub fn events(&self) -> Vec<Envelope> {
        let mut events: Vec<Envelope> = Vec::new();
        loop {
            let after = events.last().map_or(0, |event| event.position);
            let page = at_once(self.log.read(after, MAX_READ_EVENTS)).expect("in memory");
            if page.is_empty() {
                return events;
            }
            events.extend(page);
        }
    }

    pub fn knows(&self, command: CommandId) -> bool {
        at_once(self.log.command(command)).expect("in memory").is_some()
    }

    /// Starts, from the log alone.
    pub fn boot(&mut self, turn: &mut Turn<'_>) {
        let mut events = self.events();
        self.boots += 1;
        if turn.planted(Mutation::EventForgotten) && self.boots > 1 {
            events.pop();
        }
        let mut state = State::default();
        for envelope in &events {
            let folded = state.fold(envelope).map_err(|error| {
                Violation::new("replay", format!("the log does not fold: {error}"))
            });
            turn.judge(folded);
        }
        let now = calendar(turn.now);
        self.running = Some(Running {
            state,
            incarnation: IncarnationId::new(now, self.chance.bytes()),
            sequence: 0,
            windows: BTreeMap::new(),
            announced: BTreeMap::new(),
            listening_since: now,
        });
        turn.note(format_args!("control starts at {}", events.len()));
        let replayed =
            self.state().map_or(Ok(()), |live| turn.checkers.replay.check(live, &self.events()));
        turn.judge(replayed);
        self.settle(turn);
    }

    pub fn crash(&mut self, turn: &mut Turn<'_>) {
        turn.note(format_args!("control crashes"));
        self.running = None;
    }

    pub fn handle(&mut self, turn: &mut Turn<'_>, message: Message) {
        if self.running.is_none() {
            return;
        }
        match message {
            Message::Enroll(enroll) => self.enroll(turn, &enroll),
            Message::AskSnapshot { node, ask, request } => {
                self.snapshot(turn, node, ask, &request);
            }
            Message::Up(bytes) if turn.planted(Mutation::ConfirmedBeforeRecorded) => {
                self.confirm_blindly(turn, &bytes);
                turn.recorded_later.push(bytes);
            }
            Message::Up(bytes) => self.heard(turn, &bytes),
            Message::AskAccess(ask) => self.access(turn, &ask),
            _ => {}
        }
        self.settle(turn);
    }

    /// What a planted bug put off.
    pub fn record_late(&mut self, turn: &mut Turn<'_>, bytes: &[u8]) {
        if self.running.is_some() {
            self.heard(turn, bytes);
            self.settle(turn);
        }
    }

    /// Folds what is new, does what follows from it, and rings at every node that it concerns.
    pub fn settle(&mut self, turn: &mut Turn<'_>) {
        for _ in 0..MAX_ROUNDS {
            self.fold(turn);
            let Some(running) = &self.running else { return };
            let clock = process::Clock {
                now: calendar(turn.now),
                listening_since: running.listening_since,
            };
            let steps = process::due(&running.state, clock);
            if steps.is_empty() {
                self.ring(turn);
                return;
            }
            for step in steps {
                self.step(turn, &step);
            }
        }
        turn.judge(Err(Violation::new("process", "the process managers run in circles")));
    }

    fn fold(&mut self, turn: &mut Turn<'_>) {
        let Some(running) = &mut self.running else { return };
        loop {
            let after = running.state.position();
            let page = at_once(self.log.read(after, MAX_READ_EVENTS)).expect("in memory");
            if page.is_empty() {
                return;
            }
            for envelope in &page {
                if let Err(error) = running.state.fold(envelope) {
                    let violation = Violation::new("replay", format!("control halts: {error}"));
                    return turn.judge(Err(violation));
                }
            }
        }
    }

    fn step(&mut self, turn: &mut Turn<'_>, step: &process::Step) {
        turn.note(format_args!("{} acts", step.process));
        let request = Request {
            command: step.id,
            request_hash: step.request_hash(),
            actor: step.actor(),
            causation: step.causation,
            at: calendar(turn.now),
        };
        let problem = match step.command.clone() {
            process::ProcessCommand::Cluster(id, command) => {
                self.run_as::<Cluster>(&request, id.uuid(), command).err().map(|e| e.to_string())
            }
            process::ProcessCommand::Login(id, command) => {
                self.run_as::<Login>(&request, id.uuid(), command).err().map(|e| e.to_string())
            }
            process::ProcessCommand::Session(id, command) => {
                self.run_as::<Session>(&request, id.uuid(), command).err().map(|e| e.to_string())
            }
        };
        if let Some(problem) = problem {
            turn.judge(Err(Violation::new("process", format!("{}: {problem}", step.process))));
        }
    }

    /// Doorbells for the nodes whose snapshot is newer than what was last announced.
    fn ring(&mut self, turn: &mut Turn<'_>) {
        let Some(running) = &mut self.running else { return };
        let newer: Vec<(NodeId, u64)> = running
            .state
            .nodes()
            .approved()
            .filter(|node| running.announced.get(&node.id).is_none_or(|at| *at < node.version))
            .map(|node| (node.id, node.version))
            .collect();
        for (node, version) in newer {
            if let Some(running) = &mut self.running {
                running.announced.insert(node, version);
            }
            self.say(turn, node, ControlBody::SnapshotAvailable { version });
        }
    }

    fn say(&mut self, turn: &mut Turn<'_>, node: NodeId, body: ControlBody) {
        let (Some(running), Some(place)) = (&mut self.running, self.places.get(&node)) else {
            return;
        };
        running.sequence += 1;
        let now = calendar(turn.now);
        let message = ControlMessage {
            cluster: cast::CLUSTER,
            authority_epoch: running.state.authority().epoch(),
            audience: node,
            incarnation: running.incarnation,
            sequence: running.sequence,
            issued_at: now,
            expires_at: now + std::time::Duration::from_millis(MESSAGE_TTL_MS),
            body,
        };
        let bytes = signed::seal(&message, &[&self.key]);
        turn.publish(Party::Node(*place), Message::Down(bytes));
    }

    /// A command of its own id; for what the scenario itself does.
    fn run<A: Aggregate>(
        &mut self,
        now: Moment,
        id: Uuid,
        command: A::Command,
    ) -> Result<(), ExecuteError<A::Rejection>> {
        self.commands += 1;
        let id_bytes = u128::from(self.commands) | 0xadu128 << 64;
        let request = Request {
            command: CommandId::from_u128(id_bytes),
            request_hash: Digest::of(&id_bytes.to_be_bytes()),
            actor: Actor::Setup,
            causation: None,
            at: calendar(now),
        };
        self.run_as::<A>(&request, id, command)
    }

    fn run_as<A: Aggregate>(
        &self,
        request: &Request,
        id: Uuid,
        command: A::Command,
    ) -> Result<(), ExecuteError<A::Rejection>> {
        at_once(handler::run::<A>(&self.log, request, id, command)).map(|_| ())
    }
}

/// The memory log answers at once, so its futures need nobody to wait for them.
fn at_once<T>(future: impl Future<Output = T>) -> T {
    future.now_or_never().expect("the memory log answers at once")
}

pub(crate) fn key(chance: &mut Chance) -> LocalKey {
    loop {
        if let Some(key) = LocalKey::from_random(&chance.bytes()) {
            return key;
        }
    }
}
