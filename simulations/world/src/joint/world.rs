//! The joint world: who is there, what happens next, and the phases.

use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::AtomicI64},
    time::Duration,
};

use futures_util::FutureExt as _;
use rap_events::{Aggregate as _, MemoryLog, leadership::Leadership, lease::LeaseTable as _};
use rap_proto::{Digest, Generation, Moment};

use crate::{
    cast::{CONNECTION, Places},
    checkers::Checkers,
    clients::Clients,
    control::replica_id,
    kit::{
        self, Phases, Stage,
        clock::DriftClock,
        network::{Network, Party},
    },
    message::Message,
    mutation::Mutation,
    node::SimNode,
    world::TOTALS,
};

use super::{
    faults::{Aim, FaultMix},
    host::{Host, Replica},
    judge::LIVENESS,
    loss::Losses,
    trouble::Trouble,
};

/// How long things go wrong.
pub const SAFETY: Duration = Duration::from_secs(90);
/// How long things then have to come right: longer than the longest backoff and poll together.
pub const LIVENESS_BOUND: Duration = Duration::from_secs(150);
/// How long nothing may move after that.
pub const CALM: Duration = Duration::from_secs(20);
/// More events than this in one run: the world runs in circles.
pub(super) const MAX_EVENTS: u64 = 1_000_000;
/// How often a replica looks for what others appended.
pub(super) const TAIL_EVERY: Duration = Duration::from_millis(500);
const CARRY_EVERY: Duration = Duration::from_millis(700);

#[derive(Debug, Clone)]
pub enum Event {
    ToNode(usize, Message),
    ToReplica(usize, Message),
    ToClient(Message),
    NodeTimer(usize),
    ReplicaTimer(usize),
    BootNode(usize),
    BootReplica(usize),
    ResumeNode(usize),
    ResumeReplica(usize),
    Tail(usize),
    /// Bytes come for the flows of every node.
    Carry,
    Act,
    Revoke,
    Ask,
    Close(u64),
    /// Standbys hear of what was stored.
    Sync,
    /// A primary that lost what was stored within this time takes over.
    Failover(Duration),
    PrimaryUp,
    /// Too few replicas reach the primary.
    Outage(Duration),
    /// The checkers look at what nodes make of beats.
    Look,
    /// Somebody looks after a replica that says that the log went back.
    StartAgain(usize),
    Heal(Party, Party),
    Relieve(Party, Party),
    Trouble(Trouble),
}

pub struct World {
    pub(super) stage: Stage<Self>,
    pub(super) network: Network,
    pub(super) hosts: Vec<Host>,
    pub(super) replicas: Vec<Replica>,
    pub(super) primary: Arc<MemoryLog>,
    pub(super) primary_up: bool,
    /// The primary's.
    pub(super) clock: DriftClock,
    /// How far the primary's clock is ahead since the last failover.
    pub(super) ahead: Duration,
    /// What the primary's clock showed first.
    pub(super) origin: Moment,
    /// What the primary's clock shows in the present turn.
    pub(super) shown: Arc<AtomicI64>,
    pub(super) clients: Clients,
    pub(super) places: Arc<Places>,
    /// How far the checkers read the log.
    pub(super) read: u64,
    /// The hash over all events up to each position, where some may be lost.
    pub(super) chain: Vec<Digest>,
    pub(super) losses: Losses,
    /// Who was revoked, and when.
    pub(super) revoked: BTreeMap<usize, Moment>,
    pub(super) grants: u64,
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
        Phases { failing: SAFETY, recovery: LIVENESS_BOUND, calm: CALM }
    }

    fn begin(&mut self) {
        self.come_first();
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::ToNode(index, message) => self.reach_node(index, message),
            Event::ToReplica(index, message) => self.reach_replica(index, message),
            Event::ToClient(message) => {
                let mut opened = None;
                self.client_turn(|clients, turn| opened = clients.handle(turn, message));
                if let Some(request) = opened {
                    self.stage.within_secs(1, 40, Event::Close(request));
                }
            }
            Event::NodeTimer(index) => {
                if self.stage.fires(&mut self.hosts[index].process.armed) {
                    self.node_turn(index, SimNode::handle_timeout);
                }
            }
            Event::ReplicaTimer(index) => {
                if self.stage.fires(&mut self.replicas[index].process.armed) {
                    self.replica_turn(index, |control, turn| control.settle(turn));
                }
            }
            Event::BootNode(index) => self.boot_node(index),
            Event::BootReplica(index) => self.boot_replica(index),
            Event::ResumeNode(index) => {
                self.hosts[index].process.resume();
                for message in self.hosts[index].process.waiting() {
                    self.reach_node(index, message);
                }
                self.node_turn(index, SimNode::handle_timeout);
            }
            Event::ResumeReplica(index) => {
                self.replicas[index].process.resume();
                for message in self.replicas[index].process.waiting() {
                    self.reach_replica(index, message);
                }
                self.replica_turn(index, |control, turn| control.settle(turn));
            }
            Event::Tail(index) => {
                self.replica_turn(index, |control, turn| control.settle(turn));
                self.stage.within(TAIL_EVERY / 2, 2 * TAIL_EVERY, Event::Tail(index));
            }
            Event::Carry => {
                (0..self.hosts.len()).for_each(|index| self.node_turn(index, SimNode::carry));
                self.judge_revoked();
                self.stage.within(CARRY_EVERY / 2, 2 * CARRY_EVERY, Event::Carry);
            }
            Event::Close(request) => self.client_turn(|clients, turn| clients.close(turn, request)),
            Event::PrimaryUp => self.primary_up = true,
            Event::Look => self.look(),
            Event::StartAgain(index) => self.start_again(index),
            Event::Heal(from, to) => self.network.heal(from, to),
            Event::Relieve(from, to) => self.network.relieve(from, to),
            // Nobody begins anything new in the second phase.
            _ if !self.stage.failing => {}
            Event::Act => {
                self.act();
                let often = self.stage.mix.aim == Aim::Leadership;
                let (least, greatest) = if often { (1, 4) } else { (3, 12) };
                self.stage.within_secs(least, greatest, Event::Act);
            }
            Event::Revoke => self.revoke(),
            Event::Sync => self.sync(),
            Event::Outage(lasts) => self.outage(lasts),
            Event::Failover(lost) => self.fail_over(lost),
            Event::Ask => {
                self.client_turn(Clients::ask);
                self.stage.within_secs(1, 4, Event::Ask);
            }
            Event::Trouble(trouble) => self.trouble(trouble),
        }
    }

    fn stop_failing(&mut self) {
        self.calm_down();
    }

    fn judge_recovery(&mut self) {
        if self.stage.violation().is_none() {
            self.judge_holder();
            self.judge_the_end();
            self.judge_everybody_healthy();
        }
        self.stage.checkers.beat.calm();
        self.grants = self.stage.checkers.leases.moves(0);
    }

    fn judge_calm(&mut self) {
        let grants = self.stage.checkers.leases.moves(0);
        if grants != self.grants {
            let detail = format!("nothing fails, and {} grants became {grants}", self.grants);
            self.stage.checkers.verdict.violated(LIVENESS, detail);
        }
        let Stage { checkers, coverage, .. } = &mut self.stage;
        coverage.count_many(TOTALS, "grants", grants);
        coverage.count_many(TOTALS, "flows admitted", checkers.admission.admitted());
        coverage.count_many(TOTALS, "sessions opened", self.clients.welcomed());
        coverage.count_many(TOTALS, "observations", checkers.recorded.count() as u64);
    }
}

impl World {
    /// The nodes that are active for the connection, each with its generation.
    pub(super) fn holders(&self) -> Vec<(usize, Generation)> {
        let now = self.stage.now();
        let holds = |(index, host): (usize, &Host)| {
            let generation = host.node.holds(host.process.time(now), CONNECTION)?;
            Some((index, generation))
        };
        self.hosts.iter().enumerate().filter_map(holds).collect()
    }

    /// Which replica's lease of the duty is valid, as the primary has it.
    pub(super) fn leader(&self) -> Option<usize> {
        let page = self.primary.read_leases(Leadership::CATEGORY, None, 1).now_or_never()?.ok()?;
        let (_, row) = page.rows.first().filter(|(_, row)| row.is_held(page.at.now))?;
        (0..self.replicas.len()).find(|index| replica_id(*index).uuid() == row.holder)
    }
}
