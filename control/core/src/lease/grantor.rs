//! The machine that grants, asks and fences.
//!
//! INVARIANT: nothing is granted over a lease that is not over by both clocks, or ended, and
//! nothing at all within a class' patience after the start or a failover of the database.

use std::{
    cmp::Ordering,
    collections::{BTreeMap, VecDeque},
    iter, mem,
    time::Duration,
};

use rap_proto::{Generation, LeaseClass, Moment, VpnConnectionId};

use super::{
    ANSWER_LIMIT, COMMAND_AGAIN, Desired, Effect, Input, MAX_COMMANDS, Nodes, READ_EVERY, ReadId,
    Reason, Row, TELL_AGAIN, Table, Watch,
    decide::{Facts, Step},
};

pub struct Grantor {
    patience: fn(LeaseClass) -> Duration,
    leading: bool,
    desired: BTreeMap<VpnConnectionId, Desired>,
    watch: Watch,
    nodes: Nodes,
    reads: u64,
    reading: Option<(ReadId, Moment)>,
    read_at: Moment,
    /// Something changed after the present read was sent.
    again: bool,
    /// Commands on their way, and when each is taken for lost.
    commanded: BTreeMap<VpnConnectionId, Moment>,
    /// Each connection's last command.
    given: BTreeMap<VpnConnectionId, Given>,
    asked: BTreeMap<VpnConnectionId, Generation>,
    told: BTreeMap<VpnConnectionId, (Generation, Reason, Moment)>,
    /// Which there are, wanted or in the table: of no other is anything remembered.
    connections: Vec<VpnConnectionId>,
    /// The first connection that the last read left out: the next one begins with it.
    rest: Option<VpnConnectionId>,
    reasons: BTreeMap<VpnConnectionId, Reason>,
    effects: VecDeque<Effect>,
}

/// A command, when it was given, and how long after that the same is given again at the earliest.
struct Given {
    effect: Effect,
    at: Moment,
    pause: Duration,
}

/// One connection's decision, and what it was made of.
struct Decided {
    connection: VpnConnectionId,
    class: LeaseClass,
    row: Option<Row>,
    timeline: u64,
    floor: Generation,
    step: Step,
    reason: Reason,
}

impl Grantor {
    /// `patience` is [`LeaseClass::hold_off`] wherever it matters.
    pub fn new(now: Moment, patience: fn(LeaseClass) -> Duration) -> Self {
        Self {
            patience,
            leading: false,
            desired: BTreeMap::new(),
            watch: Watch::new(now),
            nodes: Nodes::default(),
            reads: 0,
            reading: None,
            read_at: now,
            again: false,
            commanded: BTreeMap::new(),
            given: BTreeMap::new(),
            asked: BTreeMap::new(),
            told: BTreeMap::new(),
            connections: Vec::new(),
            rest: None,
            reasons: BTreeMap::new(),
            effects: VecDeque::new(),
        }
    }

    pub fn handle_input(&mut self, now: Moment, input: Input) {
        match input {
            Input::Desired(desired) => {
                self.desired = desired;
                self.read_soon(now);
            }
            Input::Read { read, table } => {
                if self.reading.is_some_and(|(current, _)| current == read) {
                    self.reading = None;
                    self.consider(now, &table);
                }
            }
            Input::Reported { node, connections } => self.nodes.reported(now, node, connections),
            Input::Draining { node, draining } => {
                self.nodes.drain(node, draining);
                self.read_soon(now);
            }
            Input::Changed(connection) => {
                self.commanded.remove(&connection);
                self.read_soon(now);
            }
            Input::Leading(leading) => {
                self.leading = leading;
                self.read_soon(now);
            }
            Input::LossAccepted { timeline } => {
                self.watch.accept_loss(now, timeline);
                self.read_soon(now);
            }
        }
    }

    pub fn handle_timeout(&mut self, now: Moment) {
        let waits = self.reading.is_some_and(|(_, sent)| now < sent + ANSWER_LIMIT);
        if waits || now < self.read_at {
            return;
        }
        self.reads += 1;
        let read = ReadId(self.reads);
        self.reading = Some((read, now));
        self.again = false;
        self.effects.push_back(Effect::Read { read });
    }

    pub fn poll_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    pub fn poll_timeout(&self) -> Option<Moment> {
        Some(self.reading.map_or(self.read_at, |(_, sent)| sent + ANSWER_LIMIT))
    }

    /// Why each connection is as it is, as of the last read.
    pub fn reasons(&self) -> &BTreeMap<VpnConnectionId, Reason> {
        &self.reasons
    }

    pub fn watch(&self) -> &Watch {
        &self.watch
    }

    fn read_soon(&mut self, now: Moment) {
        self.again = true;
        self.read_at = self.read_at.min(now);
    }

    fn consider(&mut self, now: Moment, table: &Table) {
        let floors = self.nodes.floors();
        let wanted = |connection: &VpnConnectionId| self.desired.contains_key(connection);
        self.watch.read(now, table, &floors, wanted);
        self.commanded.retain(|_, until| now < *until);
        let connections = self.know(table);
        let mut next = if self.again { now } else { now + READ_EVERY };
        let before = self.effects.len();
        // In turn: those that are refused again and again would keep all behind them waiting.
        let begin = self.rest.take().map_or(0, |rest| connections.partition_point(|id| *id < rest));
        let (first, last) = connections.split_at(begin);
        for connection in last.iter().chain(first) {
            if self.effects.len() - before >= MAX_COMMANDS {
                self.rest = Some(*connection);
                next = now;
                break;
            }
            let due = self.consider_one(now, table, *connection, &floors);
            next = next.min(due.unwrap_or(next));
        }
        self.connections = connections;
        self.read_at = next;
    }

    /// All connections, by id; what was remembered of others is forgotten. Nearly every read is of
    /// the same ones as the one before.
    fn know(&mut self, table: &Table) -> Vec<VpnConnectionId> {
        let mut connections = mem::take(&mut self.connections);
        if !connections.iter().eq(union(self.desired.keys(), table.rows.keys())) {
            connections = union(self.desired.keys(), table.rows.keys()).copied().collect();
            let is_there =
                |connection: &VpnConnectionId| connections.binary_search(connection).is_ok();
            self.reasons.retain(|connection, _| is_there(connection));
            self.given.retain(|connection, _| is_there(connection));
            self.asked.retain(|connection, _| is_there(connection));
            self.told.retain(|connection, _| is_there(connection));
        }
        connections
    }

    /// Decides for one connection; returns when its patience or a pause ends, if that is to come.
    fn consider_one(
        &mut self,
        now: Moment,
        table: &Table,
        connection: VpnConnectionId,
        floors: &BTreeMap<VpnConnectionId, Generation>,
    ) -> Option<Moment> {
        let desired = self.desired.get(&connection);
        // A connection that was removed may have been of the slower class.
        let class = desired.map_or(LeaseClass::Steady, |desired| desired.class);
        let patience = (self.patience)(class);
        let row = table.rows.get(&connection).copied();
        let facts = Facts {
            now,
            connection,
            desired,
            row,
            read_at: table.now,
            watch: &self.watch,
            nodes: &self.nodes,
            asked: self.asked.get(&connection).copied(),
            patience,
        };
        let (step, reason) = facts.decide();
        let commanded = self.commanded.contains_key(&connection);
        self.reasons.insert(connection, if commanded { Reason::Commanded } else { reason });
        let mut again = None;
        if self.leading && !commanded {
            let floor = floors.get(&connection).copied().unwrap_or_default();
            let timeline = table.timeline;
            again =
                self.act(now, Decided { connection, class, row, timeline, floor, step, reason });
        }
        let due = self.watch.quiet_since(connection) + patience;
        [Some(due), again].into_iter().flatten().filter(|due| *due > now).min()
    }

    /// Returns when a command that waits is given again.
    fn act(&mut self, now: Moment, decided: Decided) -> Option<Moment> {
        let Decided { connection, class, row, timeline, floor, step, reason } = decided;
        match step {
            Step::Wait => None,
            Step::Grant { node } => {
                if let Some(row) = row.filter(|_| reason.is_a_loss()) {
                    self.watch.lost(now, connection, &row);
                }
                let generation = self.watch.next_generation(connection, floor);
                let revision = row.map(|row| row.revision);
                let grant = Effect::Grant {
                    connection,
                    node,
                    generation,
                    class,
                    revision,
                    timeline,
                    reason,
                };
                self.command(now, connection, grant)
            }
            Step::Fence(Row { generation, revision, .. }) => {
                let fence = Effect::Fence { connection, generation, revision, reason };
                self.command(now, connection, fence)
            }
            Step::AskRelease(Row { holder: node, generation, .. }) => {
                self.asked.insert(connection, generation);
                let ask = Effect::AskRelease { connection, node, generation, reason };
                self.tell(now, connection, generation, reason, ask);
                None
            }
            Step::Offer(Row { holder: node, generation, .. }) => {
                let offer = Effect::Offer { connection, node, generation, class };
                self.tell(now, connection, generation, reason, offer);
                None
            }
        }
    }

    /// Commands, and the same again only after a pause, which grows: a command that was refused while
    /// the table shows what it did before would be refused as often as anybody can ask.
    fn command(
        &mut self,
        now: Moment,
        connection: VpnConnectionId,
        effect: Effect,
    ) -> Option<Moment> {
        let pause = match self.given.get(&connection).filter(|given| given.effect == effect) {
            Some(given) if now < given.at + given.pause => return Some(given.at + given.pause),
            Some(given) => (given.pause * 2).min(READ_EVERY),
            None => COMMAND_AGAIN,
        };
        self.given.insert(connection, Given { effect, at: now, pause });
        self.commanded.insert(connection, now + ANSWER_LIMIT);
        self.effects.push_back(effect);
        None
    }

    /// Says something to a holder, and the same again only after a while.
    fn tell(
        &mut self,
        now: Moment,
        connection: VpnConnectionId,
        generation: Generation,
        reason: Reason,
        effect: Effect,
    ) {
        let told = self.told.get(&connection);
        let same = told.filter(|told| (told.0, told.1) == (generation, reason));
        if same.is_some_and(|(_, _, at)| now < *at + TELL_AGAIN) {
            return;
        }
        self.told.insert(connection, (generation, reason, now));
        self.effects.push_back(effect);
    }
}

/// All ids of two rows of them, each once; both rows are in order, and so are they.
fn union<'m>(
    one: impl Iterator<Item = &'m VpnConnectionId>,
    other: impl Iterator<Item = &'m VpnConnectionId>,
) -> impl Iterator<Item = &'m VpnConnectionId> {
    let (mut one, mut other) = (one.peekable(), other.peekable());
    iter::from_fn(move || {
        let (Some(first), Some(second)) = (one.peek(), other.peek()) else {
            return one.next().or_else(|| other.next());
        };
        match first.cmp(second) {
            Ordering::Less => one.next(),
            Ordering::Greater => other.next(),
            Ordering::Equal => {
                other.next();
                one.next()
            }
        }
    })
}
