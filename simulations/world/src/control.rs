//! The control plane: the real log, aggregates, projections, compiler and process managers, with
//! this file in the server's place. Its log survives a crash; everything else is folded again. One
//! control alone does everything; of several over one log, which reach it over connections that may
//! fail, one leads.

mod admin;
mod answers;
mod beat;
mod enroll;
mod follow;
mod lead;
mod leases;
mod recover;
mod setup;
mod tree;

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use futures_util::FutureExt as _;
use rap_agent_core::replay::ReplayWindow;
use rap_control_core::{State, leadership::Candidate, process};
use rap_events::{
    Actor, Aggregate, Envelope, Log, MemoryLog,
    cluster::Cluster,
    handler::{self, ExecuteError, Loaded, Request, Stop, Unit},
    lease::{LeaseChange, LeaseGuard, LeaseTable},
    log::MAX_READ_EVENTS,
    login::Login,
    session::Session,
};
use rap_proto::{
    CommandId, Digest, IncarnationId, JoinTokenId, Moment, NodeId, PublicKey, Signer as _,
    Timestamp,
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
pub use beat::Ballots;
pub use follow::chained;
pub use lead::replica_id;
pub use setup::join_secret;

/// How many rounds of process managers may follow one change before it is called a circle.
const MAX_ROUNDS: usize = 50;

pub struct Control {
    log: Arc<dyn Log>,
    leases: Arc<dyn LeaseTable>,
    /// Where replicas make beats.
    beats: Option<Arc<dyn Ballots>>,
    /// Its place among the replicas, and whether there are others.
    index: usize,
    shared: bool,
    key: Arc<LocalKey>,
    tenants: Vec<Tenant>,
    hosts: Vec<Host>,
    /// Which join token opens with which secret.
    tokens: BTreeMap<Digest, JoinTokenId>,
    /// What nodes are told to trust each other's certificates by.
    ca: Vec<u8>,
    /// Where each node is; the real one knows it from their connections.
    places: Arc<Places>,
    chance: Chance,
    commands: u64,
    boots: u64,
    /// Whether the checkers are told which log it folded.
    traced: bool,
    running: Option<Running>,
}

/// What a crash takes away.
struct Running {
    state: State,
    followed: follow::Followed,
    /// A node proved that the log is not the one that it saw.
    refuted: bool,
    incarnation: IncarnationId,
    sequence: u64,
    windows: BTreeMap<NodeId, ReplayWindow>,
    announced: BTreeMap<NodeId, u64>,
    listening_since: Timestamp,
    /// None where there are no others.
    candidate: Option<Candidate>,
    desk: Option<leases::Desk>,
    /// None where no beats are made.
    keeper: Option<beat::Keeper>,
}

/// On what an append depends besides its streams, and what it does to leases.
#[derive(Clone, Default)]
struct Terms {
    /// The stream's, when it was decided at one.
    revision: Option<u64>,
    change: Option<LeaseChange>,
    guards: Vec<LeaseGuard>,
}

impl Control {
    pub fn new(seed: u64, tenants: Vec<Tenant>, hosts: Vec<Host>, places: Arc<Places>) -> Self {
        let log = Arc::new(MemoryLog::new());
        let mut chance = Chance::new(seed, 2);
        let key = Arc::new(key(&mut chance));
        let tokens = setup::tokens(&hosts);
        Self {
            leases: Arc::<MemoryLog>::clone(&log),
            beats: None,
            log,
            index: 0,
            shared: false,
            key,
            tenants,
            hosts,
            tokens,
            ca: b"the certificate of this world".to_vec(),
            places,
            chance,
            commands: 0,
            boots: 0,
            traced: false,
            running: None,
        }
    }

    /// The same of a cluster whose certificates are real.
    #[must_use]
    pub fn certified(self, ca: Vec<u8>) -> Self {
        Self { ca, ..self }
    }

    /// Another replica, with another way to the same log.
    pub fn replica<L: Log + LeaseTable + Ballots>(
        &self,
        seed: u64,
        index: usize,
        way: &Arc<L>,
    ) -> Self {
        Self {
            log: Arc::<L>::clone(way),
            leases: Arc::<L>::clone(way),
            beats: Some(Arc::<L>::clone(way)),
            index,
            shared: true,
            key: Arc::clone(&self.key),
            tenants: self.tenants.clone(),
            hosts: self.hosts.clone(),
            tokens: self.tokens.clone(),
            ca: self.ca.clone(),
            places: Arc::clone(&self.places),
            chance: Chance::new(seed, 20 + index as u64),
            commands: 0,
            boots: 0,
            traced: self.traced,
            running: None,
        }
    }

    pub fn state(&self) -> Option<&State> {
        self.running.as_ref().map(|running| &running.state)
    }

    /// What it signs with.
    pub fn public_key(&self) -> PublicKey {
        self.key.public_key()
    }

    pub fn is_running(&self) -> bool {
        self.running.is_some()
    }

    /// Every event of the log.
    ///
    /// # Panics
    /// When the log cannot be reached.
    pub fn events(&self) -> Vec<Envelope> {
        self.read().expect("the log is there")
    }

    /// None when the log cannot be reached.
    fn read(&self) -> Option<Vec<Envelope>> {
        let mut events: Vec<Envelope> = Vec::new();
        loop {
            let after = events.last().map_or(0, |event| event.position);
            let page = at_once(self.log.read(after, MAX_READ_EVENTS)).ok()?;
            if page.is_empty() {
                return Some(events);
            }
            events.extend(page);
        }
    }

    /// # Panics
    /// When the log cannot be reached.
    pub fn knows(&self, command: CommandId) -> bool {
        at_once(self.log.command(command)).expect("the log is there").is_some()
    }

    /// Starts, from the log alone. Where that cannot be reached, it does not start.
    pub fn boot(&mut self, turn: &mut Turn<'_>) {
        let Some(mut events) = self.read() else { return };
        self.boots += 1;
        if turn.planted(Mutation::EventForgotten) && self.boots > 1 {
            events.pop();
        }
        let (mut state, mut followed) = (State::default(), follow::Followed::default());
        for envelope in &events {
            let folded = state.fold(envelope).map_err(|error| {
                Violation::new("replay", format!("the log does not fold: {error}"))
            });
            turn.judge(folded);
            followed.push(envelope, self.traced);
        }
        let now = calendar(turn.now);
        let beats = self.beats.is_some() && state.authority().stated.is_some();
        turn.checkers.beat.read(self.index, 0);
        turn.checkers.beat.read(self.index, state.position());
        self.running = Some(Running {
            keeper: beats
                .then(|| beat::Keeper::new(self.index, self.key.public_key(), turn.moment)),
            state,
            followed,
            refuted: false,
            incarnation: IncarnationId::new(now, self.chance.bytes()),
            sequence: 0,
            windows: BTreeMap::new(),
            announced: BTreeMap::new(),
            listening_since: now,
            candidate: self.shared.then(|| Candidate::new(replica_id(self.index), turn.moment)),
            desk: self.shared.then(|| leases::Desk::new(turn.moment)),
        });
        turn.note(format_args!("control {} starts at {}", self.index, events.len()));
        if let (Some(live), Some(events)) = (self.state(), self.read()) {
            let replayed = turn.checkers.replay.check(live, &events);
            turn.judge(replayed);
        }
        self.settle(turn);
    }

    /// When this replica next wants to act by itself, by its own clock.
    pub fn timeout(&self) -> Option<Moment> {
        let running = self.running.as_ref().filter(|running| !running.followed.halted)?;
        let candidate = running.candidate.as_ref().and_then(Candidate::poll_timeout);
        let grantor = running.desk.as_ref().and_then(|desk| desk.grantor.poll_timeout());
        let keeper = running.keeper.as_ref().and_then(beat::Keeper::timeout);
        [candidate, grantor, keeper].into_iter().flatten().min()
    }

    pub fn crash(&mut self, turn: &mut Turn<'_>) {
        turn.note(format_args!("control {} crashes", self.index));
        self.running = None;
    }

    pub fn handle(&mut self, turn: &mut Turn<'_>, message: Message) {
        if self.running.is_none() {
            return;
        }
        match message {
            Message::Enroll(_) | Message::AskAccess(_) if self.frozen(turn) => {
                turn.coverage.count("replicas", "frozen");
            }
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
            Message::AskLeases { node, call, request } => self.renew(turn, node, call, request),
            Message::AskBeat { node, call, request } => self.tell_beat(turn, node, call, &request),
            Message::AskTree { node, call, request } => self.tree(turn, node, call, &request),
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
            self.lead(turn);
            self.vote(turn);
            self.grant(turn);
            let leads = self.leads(turn).is_some();
            let Some(running) = &self.running else { return };
            let clock = process::Clock {
                now: calendar(turn.now),
                listening_since: running.listening_since,
            };
            let mut steps = process::due(&running.state, clock);
            let frozen = self.frozen(turn);
            steps.retain(|step| !(frozen && step.prolongs_authority()));
            // What was not stored is due again, and tried at another time.
            let stored = leads && steps.iter().all(|step| self.step(turn, step));
            if steps.is_empty() || !stored {
                self.ring(turn);
                return;
            }
        }
        turn.judge(Err(Violation::new("process", "the process managers run in circles")));
    }

    /// Whether nothing may be granted now: what was folded is lost, the log is not the one that a node
    /// saw, or too few replicas agree.
    fn frozen(&self, turn: &Turn<'_>) -> bool {
        if self.lacks_a_beat(turn.moment) && !turn.planted(Mutation::NotFrozen) {
            return true;
        }
        self.running.as_ref().is_none_or(|running| running.followed.halted || running.refuted)
    }

    /// Whether it is stored.
    fn step(&mut self, turn: &mut Turn<'_>, step: &process::Step) -> bool {
        let Some(guards) = self.leads(turn) else { return false };
        turn.note(format_args!("{} acts", step.process));
        let request = Request {
            command: step.id,
            request_hash: step.request_hash(),
            actor: step.actor(),
            causation: step.causation,
            at: calendar(turn.now),
        };
        let terms = Terms { guards, ..Terms::default() };
        let outcome = match step.command.clone() {
            process::ProcessCommand::Cluster(id, command) => {
                self.store::<Cluster>(&request, id.uuid(), vec![command], terms)
            }
            process::ProcessCommand::Login(id, command) => {
                self.store::<Login>(&request, id.uuid(), vec![command], terms)
            }
            process::ProcessCommand::Session(id, command) => {
                self.store::<Session>(&request, id.uuid(), vec![command], terms)
            }
        };
        if let Err(ExecuteError::Lease(_)) = &outcome {
            turn.coverage.count("replicas", "guard refused");
            self.led_no_more(turn);
        }
        if let Err(problem) = &outcome
            && !self.shared
        {
            turn.judge(Err(Violation::new("process", format!("{}: {problem}", step.process))));
        }
        outcome.is_ok()
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
        let bytes = signed::seal(&message, &[&*self.key]);
        turn.publish(Party::Node(*place), Message::Down(bytes));
    }

    /// A command of its own id; for what the scenario itself does.
    fn run<A: Aggregate>(
        &mut self,
        now: Moment,
        id: Uuid,
        command: A::Command,
    ) -> Result<(), ExecuteError<A::Rejection>> {
        let request = self.own_request(calendar(now), Actor::Setup);
        self.run_as::<A>(&request, id, command)
    }

    /// A request of an id that nobody used before.
    fn own_request(&mut self, at: Timestamp, actor: Actor) -> Request {
        self.commands += 1;
        let id_bytes = u128::from(self.commands) | (0xad + self.index as u128) << 64;
        Request {
            command: CommandId::from_u128(id_bytes),
            request_hash: Digest::of(&id_bytes.to_be_bytes()),
            actor,
            causation: None,
            at,
        }
    }

    /// None when the log cannot be reached.
    fn load<A: Aggregate>(&self, id: Uuid) -> Option<Loaded<A>> {
        at_once(handler::fold(self.log.as_ref(), Loaded::empty(id))).ok()
    }

    /// Stores what these commands come to, on these terms.
    fn store<A: Aggregate>(
        &self,
        request: &Request,
        id: Uuid,
        commands: Vec<A::Command>,
        terms: Terms,
    ) -> Result<(), ExecuteError<String>> {
        let work = |mut unit: Unit| {
            let (commands, terms) = (commands.clone(), terms.clone());
            async move {
                let mut loaded = unit.load::<A>(id).await?;
                if terms.revision.is_some_and(|revision| revision != loaded.revision) {
                    return Err(Stop::Rejected("the stream moved".to_owned()));
                }
                for command in commands {
                    let decided = unit.decide(&mut loaded, command);
                    decided.map_err(|no| Stop::Rejected(no.to_string()))?;
                }
                terms.guards.into_iter().for_each(|guard| unit.guard(guard));
                terms.change.into_iter().for_each(|change| unit.change_lease(change));
                Ok::<_, Stop<String>>((unit, Bytes::new()))
            }
        };
        at_once(handler::execute(&self.log, request, work)).map(|_| ())
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
