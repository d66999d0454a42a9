//! A replica of control: the shell of one grantor, and the way of every renewal to the database.

use std::{collections::BTreeMap, time::Duration};

use rap_control_core::lease::{Effect, Grantor, Hold, Input, ReadId, Table};
use rap_proto::{Generation, LeaseClass, Moment, VpnConnectionId};

use crate::kit::{Chance, process::Process};

use super::{
    admin::{Wishes, connection_id, connection_index, node_id, node_index},
    coverage::{GRANTORS, REASONS},
    message::{Down, Grant, Op, Out, Reply, Turn, Up},
    mutation::Mutation,
};

/// What comes to a replica. While it stands still, it waits.
#[derive(Debug, Clone)]
pub enum Happening {
    Up {
        node: usize,
        up: Up,
    },
    Reply(Reply),
    /// What people want has changed.
    Told(Wishes),
    Leading(bool),
    LossAccepted {
        timeline: u64,
    },
}

pub struct SimReplica {
    pub process: Process<Happening>,
    pub leading: bool,
    known: Wishes,
    grantor: Option<Grantor>,
    /// Each row's generation at the last read, for a planted bug.
    shown: BTreeMap<VpnConnectionId, Generation>,
}

impl SimReplica {
    pub fn new(index: usize, seed: u64) -> Self {
        Self {
            process: Process::new(index, Chance::new(seed, 200 + index as u64)),
            leading: false,
            known: Wishes::default(),
            grantor: None,
            shown: BTreeMap::new(),
        }
    }

    pub fn boot(&mut self, turn: &mut Turn<'_>, wishes: &Wishes) {
        self.process.boot();
        let patience: fn(LeaseClass) -> Duration = match turn.mutation {
            Some(Mutation::NoDriftMargin) => LeaseClass::ttl,
            _ => LeaseClass::hold_off,
        };
        let now = self.process.time(turn.now);
        let start = if turn.planted(Mutation::HoldOffSkipped) { Moment::default() } else { now };
        self.grantor = Some(Grantor::new(start, patience));
        self.take_in(turn, Happening::Told(wishes.clone()));
        self.drain_effects(turn);
    }

    pub fn crash(&mut self, turn: &mut Turn<'_>) {
        turn.note(format_args!("replica {} crashes", self.process.index));
        self.process.crash();
        self.leading = false;
        self.grantor = None;
    }

    pub fn handle(&mut self, turn: &mut Turn<'_>, happening: Happening) {
        if let Some(happening) = self.process.receive(happening) {
            self.take_in(turn, happening);
            self.drain_effects(turn);
        }
    }

    pub fn resume(&mut self, turn: &mut Turn<'_>) {
        self.process.resume();
        for happening in self.process.waiting() {
            self.take_in(turn, happening);
            self.drain_effects(turn);
        }
    }

    pub fn handle_timeout(&mut self, turn: &mut Turn<'_>) {
        let now = self.process.time(turn.now);
        if let Some(grantor) = self.grantor.as_mut().filter(|_| !self.process.is_paused()) {
            grantor.handle_timeout(now);
        }
        self.drain_effects(turn);
    }

    pub fn timeout(&self) -> Option<Moment> {
        self.grantor.as_ref().filter(|_| !self.process.is_paused())?.poll_timeout()
    }

    fn take_in(&mut self, turn: &mut Turn<'_>, happening: Happening) {
        let now = self.process.time(turn.now);
        let Some(grantor) = &mut self.grantor else { return };
        match happening {
            Happening::Up { node, up } => match up {
                Up::Renew { connection, generation, asked } => {
                    turn.out.push(Out::Op(Op::Renew { node, connection, generation, asked }));
                }
                Up::Release { connection, generation } => {
                    turn.out.push(Out::Op(Op::Release { node, connection, generation }));
                }
                Up::Tree { watch, request } => {
                    turn.out.push(Out::Op(Op::Tree { node, watch, request }));
                }
                Up::Report(all) => {
                    let node = node_id(node);
                    // Of so few, each by itself is quicker than a collection of all.
                    let mut connections = BTreeMap::new();
                    connections.extend((0..).map(connection_id).zip(all.iter().copied()));
                    grantor.handle_input(now, Input::Reported { node, connections });
                }
            },
            Happening::Reply(reply) => self.replied(turn, now, reply),
            Happening::Told(wishes) => {
                grantor.handle_input(now, Input::Desired(wishes.desired()));
                let drained = self.known.draining.union(&wishes.draining);
                for node in drained {
                    let draining = wishes.draining.contains(node);
                    let node = node_id(*node);
                    grantor.handle_input(now, Input::Draining { node, draining });
                }
                self.known = wishes;
            }
            Happening::Leading(leading) => {
                self.leading = leading;
                grantor.handle_input(now, Input::Leading(leading));
            }
            Happening::LossAccepted { timeline } => {
                // Whoever is blind for timelines knows of none but the first.
                let blind = turn.mutation == Some(Mutation::HoldOffSkipped);
                let timeline = if blind { 1 } else { timeline };
                grantor.handle_input(now, Input::LossAccepted { timeline });
            }
        }
    }

    fn replied(&mut self, turn: &mut Turn<'_>, now: Moment, reply: Reply) {
        let Some(grantor) = &mut self.grantor else { return };
        match reply {
            Reply::Renewed { node, connection, asked, answer } => {
                let down = Down::Answer { connection, asked, answer };
                turn.out.push(Out::Down { node, down });
            }
            Reply::Released { node, connection, generation } => {
                turn.out.push(Out::Down { node, down: Down::Released { connection, generation } });
            }
            Reply::Read { read, boot, table } if boot == self.process.boot => {
                self.read(turn, now, read, *table);
            }
            Reply::Read { .. } => {}
            Reply::Tree { node, watch, reply } => {
                turn.out.push(Out::Down { node, down: Down::Tree { watch, reply } });
            }
            Reply::Done { connection } => {
                grantor.handle_input(now, Input::Changed(connection_id(connection)));
            }
        }
    }

    fn read(&mut self, turn: &mut Turn<'_>, now: Moment, read: ReadId, mut table: Table) {
        let now = self.distort(turn, now, &mut table);
        let Some(grantor) = &mut self.grantor else { return };
        grantor.handle_input(now, Input::Read { read, table });
        if self.leading {
            for reason in grantor.reasons().values() {
                turn.coverage.count(REASONS, reason.as_str());
            }
        }
    }

    /// What a shell with a planted bug makes of a table, and of the time.
    fn distort(&mut self, turn: &Turn<'_>, now: Moment, table: &mut Table) -> Moment {
        let Some(mutation) = turn.mutation else { return now };
        let Some(grantor) = &mut self.grantor else { return now };
        let at = table.now;
        for (connection, row) in &table.rows {
            let wish = &self.known.connections[connection_index(*connection)];
            let patience = wish.class.hold_off();
            let quiet = now.since(grantor.watch().quiet_since(*connection));
            let holder = row.holder;
            let Hold::Held { valid_until, .. } = row.hold else { continue };
            match mutation {
                // As if the database's clock said so as well.
                Mutation::OwnClockOnly if quiet >= patience => {
                    table.now = at + Duration::from_secs(3_600);
                }
                // As if this replica's clock said so as well.
                Mutation::DatabaseClockOnly if valid_until <= at => {
                    self.process.clock.forward(patience)
                }
                Mutation::NotSticky if self.known.draining.is_empty() => {
                    let preferred = wish.nodes.first().copied().map(node_id);
                    let draining = preferred != Some(holder);
                    grantor.handle_input(now, Input::Draining { node: holder, draining });
                }
                _ => {}
            }
        }
        match mutation {
            Mutation::HoldOffSkipped => table.timeline = 1,
            Mutation::GenerationFromRow => {
                let shown = table.rows.iter().map(|(id, row)| (*id, row.generation));
                self.shown = shown.collect();
            }
            _ => {}
        }
        self.process.time(turn.now)
    }

    fn drain_effects(&mut self, turn: &mut Turn<'_>) {
        while let Some(effect) = self.grantor.as_mut().and_then(Grantor::poll_effect) {
            self.perform(turn, effect);
        }
    }

    fn perform(&mut self, turn: &mut Turn<'_>, effect: Effect) {
        match effect {
            Effect::Read { read } => {
                turn.out.push(Out::Op(Op::Read { read, boot: self.process.boot }));
            }
            Effect::Grant { connection, node, generation, class, revision, timeline, reason } => {
                let generation = if turn.planted(Mutation::GenerationFromRow) {
                    self.shown.get(&connection).copied().unwrap_or_default().next()
                } else {
                    generation
                };
                let (connection, node) = (connection_index(connection), node_index(node));
                turn.coverage.count(GRANTORS, format!("grant, for {}", reason.as_str()));
                turn.note(format_args!(
                    "replica {} grants connection {connection} to node {node} under {generation}: \
                     {reason}",
                    self.process.index
                ));
                let grant = Grant { connection, node, generation, class, revision, timeline };
                turn.out.push(Out::Op(Op::Grant(grant)));
            }
            Effect::Fence { connection, generation, revision, reason } => {
                let connection = connection_index(connection);
                turn.coverage.count(GRANTORS, format!("fence, for {}", reason.as_str()));
                turn.out.push(Out::Op(Op::Fence { connection, generation, revision }));
            }
            Effect::AskRelease { connection, node, generation, reason } => {
                let (connection, node) = (connection_index(connection), node_index(node));
                turn.coverage.count(GRANTORS, format!("ask release, for {}", reason.as_str()));
                turn.note(format_args!(
                    "replica {} asks node {node} for connection {connection}: {reason}",
                    self.process.index
                ));
                turn.checkers.asked_for(connection, node, &self.known);
                let down = Down::AskRelease { connection, generation };
                turn.out.push(Out::Down { node, down });
            }
            Effect::Offer { connection, node, generation, class } => {
                let (connection, node) = (connection_index(connection), node_index(node));
                let down = Down::Offer { connection, generation, class };
                turn.out.push(Out::Down { node, down });
            }
        }
    }
}
