//! The turns of nodes, replicas and clients: each sees its own clock, and the checkers see what it did.

use std::{sync::atomic::Ordering, time::Duration};

use rap_proto::Moment;

use crate::{
    clients::Clients,
    control::Control,
    kit::{Stage, clock::START, network::Party},
    message::Message,
    node::SimNode,
    turn::Turn,
};

use super::{
    host::{Host, Replica},
    world::{Event, World},
};

impl World {
    pub(super) fn reach_node(&mut self, index: usize, message: Message) {
        if let Some(message) = self.hosts[index].process.receive(message) {
            self.node_turn(index, |node, turn| node.handle(turn, message));
        }
    }

    pub(super) fn reach_replica(&mut self, index: usize, message: Message) {
        // The question of a run that is over went with its connection.
        if let Message::AskTree { node, call, .. } = &message
            && let Some(place) = self.places.get(node)
            && !self.hosts[*place].node.awaits_tree(*call)
        {
            return;
        }
        if let Some(message) = self.replicas[index].process.receive(message) {
            self.replica_turn(index, |control, turn| control.handle(turn, message));
        }
    }

    pub(super) fn boot_node(&mut self, index: usize) {
        if !self.hosts[index].process.up {
            self.hosts[index].process.boot();
            self.node_turn(index, SimNode::boot);
        }
    }

    pub(super) fn boot_replica(&mut self, index: usize) {
        let replica = &mut self.replicas[index];
        if replica.process.up {
            return;
        }
        replica.process.boot();
        self.replica_turn(index, |control, turn| control.boot(turn));
        // Without its log it does not start.
        let replica = &mut self.replicas[index];
        if !replica.control.is_running() {
            replica.process.crash();
            self.stage.within_secs(1, 3, Event::BootReplica(index));
        }
    }

    pub(super) fn node_turn(
        &mut self,
        index: usize,
        what: impl FnOnce(&mut SimNode, &mut Turn<'_>),
    ) {
        let Self { stage, hosts, .. } = self;
        let Host { process, node, .. } = &mut hosts[index];
        if !process.works() {
            return;
        }
        let looks = stage.checkers.leases.looks();
        let moment = process.time(stage.now());
        let mut turn = turn(stage, moment);
        what(node, &mut turn);
        let sent = turn.sent;
        if node.is_off() {
            process.crash();
            let (least, greatest) = (Duration::from_millis(200), Duration::from_secs(12));
            stage.within(least, greatest, Event::BootNode(index));
        } else if let Some(at) = node.timeout() {
            let at = process.clock.when(at);
            stage.arm(&mut process.armed, at, Event::NodeTimer(index));
        }
        sent.into_iter().for_each(|one| self.post(Party::Node(index), one));
        if self.stage.checkers.leases.looks() > looks {
            self.after_a_look();
        }
        // Nothing else makes a node active, so this looks at every instant.
        self.judge_activity();
        self.stage.checkers.judge_leases();
    }

    pub(super) fn replica_turn(
        &mut self,
        index: usize,
        what: impl FnOnce(&mut Control, &mut Turn<'_>),
    ) {
        self.show_clock();
        self.open_way(index);
        let Self { stage, replicas, .. } = self;
        let Replica { process, control, .. } = &mut replicas[index];
        if !process.works() {
            return;
        }
        let moment = process.time(stage.now());
        let well = !control.is_halted();
        let mut turn = turn(stage, moment);
        what(control, &mut turn);
        let sent = turn.sent;
        if well && control.is_halted() {
            stage.within_secs(1, 12, Event::StartAgain(index));
        }
        if let Some(at) = control.timeout() {
            let at = process.clock.when(at);
            stage.arm(&mut process.armed, at, Event::ReplicaTimer(index));
        }
        sent.into_iter().for_each(|one| self.post(Party::Replica(index), one));
        self.read_log(index);
        self.judge_follower(index);
        self.stage.checkers.judge_leases();
    }

    pub(super) fn client_turn(&mut self, what: impl FnOnce(&mut Clients, &mut Turn<'_>)) {
        let Self { stage, clients, .. } = self;
        let moment = stage.now();
        let mut turn = turn(stage, moment);
        what(clients, &mut turn);
        let sent = turn.sent;
        sent.into_iter().for_each(|one| self.post(Party::Client, one));
    }

    pub(super) fn show_clock(&self) {
        let since = |moment: Moment| i64::try_from(moment.micros() / 1_000).unwrap_or(0);
        let shown = since(self.clock.show(self.stage.now())) - since(self.origin);
        self.shown.store(START.unix_millis() + shown, Ordering::Relaxed);
    }

    /// Whether the replica reaches the primary in this turn, and hears from it.
    fn open_way(&mut self, index: usize) {
        let (one, other) = (Party::Replica(index), Party::Database);
        let loss = self.stage.mix.conditions.loss / 4;
        let asks = self.primary_up && self.network.passes(one, other);
        let answers = self.network.passes(other, one) && !self.stage.chance.happens(loss);
        if asks && !answers {
            self.stage.coverage.fault("lost answer of the primary");
        }
        self.replicas[index].way.tap.set(asks, answers);
    }
}

fn turn(stage: &mut Stage<World>, moment: Moment) -> Turn<'_> {
    Turn {
        now: stage.now(),
        moment,
        mutation: stage.mutation,
        checkers: &mut stage.checkers,
        trace: &mut stage.trace,
        coverage: &mut stage.coverage,
        sent: Vec::new(),
        recorded_later: Vec::new(),
    }
}
