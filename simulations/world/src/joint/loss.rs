//! Failovers that lose what was stored last, and what an operator does about one.

use std::{
    collections::{BTreeSet, VecDeque},
    time::Duration,
};

use futures_util::FutureExt as _;
use rap_events::{BeatTable as _, Log as _, beat::Ballot, log::MAX_READ_EVENTS, memory::Standby};
use rap_proto::{Moment, NodeId};

use crate::kit::World as _;

use super::{
    faults::Aim,
    world::{Event, World},
};

/// How far back a standby is, at most.
const KEPT: Duration = Duration::from_secs(6);
/// How often what a standby has is looked at.
const SYNC_EVERY: Duration = Duration::from_millis(400);

/// What standbys have, and what was lost.
#[derive(Debug, Default)]
pub(super) struct Losses {
    standbys: VecDeque<(Moment, Standby)>,
    /// The greatest position that ever was; 0 as long as nothing was lost.
    highest: u64,
    /// Whose revocations were lost.
    revoked: BTreeSet<NodeId>,
}

impl World {
    /// Standbys hear of what was stored, from when every host is a node on: its enrollment could not
    /// be done again.
    pub(super) fn sync(&mut self) {
        let now = self.stage.now();
        let enrolled = self.replicas.iter().any(|replica| {
            let state = replica.control.state().filter(|_| !replica.control.is_halted());
            state.is_some_and(|state| state.nodes().iter().count() == self.hosts.len())
        });
        if enrolled || !self.losses.standbys.is_empty() {
            let standbys = &mut self.losses.standbys;
            standbys.push_back((now, self.primary.standby()));
            while standbys.front().is_some_and(|(at, _)| now.since(*at) > KEPT) {
                standbys.pop_front();
            }
        }
        self.stage.within(SYNC_EVERY / 2, SYNC_EVERY * 3 / 2, Event::Sync);
    }

    /// A grant was stored. Where failovers lose something one may follow at once: that is when it
    /// matters most.
    pub(super) fn after_a_grant(&mut self) {
        if self.stage.mix.unsynced && self.stage.failing && self.stage.chance.happens(400) {
            let (least, greatest) = (Duration::from_millis(5), Duration::from_millis(1_500));
            let soon = self.stage.chance.between(least, greatest);
            self.stage.after(soon, Event::Failover(soon + Duration::from_millis(1)));
        }
    }

    /// A node saw the log. Where that is what the run is about, what it saw is lost before it looks
    /// again.
    pub(super) fn after_a_look(&mut self) {
        let aimed = self.stage.mix.aim == Aim::Log && self.stage.failing;
        if aimed && self.stage.chance.happens(500) {
            let (least, greatest) = (Duration::from_millis(5), Duration::from_millis(900));
            let soon = self.stage.chance.between(least, greatest);
            // What it saw was stored some time before.
            let lost = self.stage.chance.between(soon + greatest, KEPT);
            self.stage.after(soon, Event::Failover(lost));
        }
    }

    /// Takes what a standby had `lost` ago for what is stored. Whether something was lost.
    pub(super) fn lose(&mut self, lost: Duration) -> bool {
        let now = self.stage.now();
        let standbys = &mut self.losses.standbys;
        while standbys.back().is_some_and(|(at, _)| now.since(*at) < lost) {
            standbys.pop_back();
        }
        let Some((_, standby)) = standbys.back() else { return false };
        let head = standby.head();
        let tail = self.primary.read(head, MAX_READ_EVENTS).now_or_never();
        let tail = tail.and_then(Result::ok).unwrap_or_default();
        let recorded = |world: &Self| {
            let known = |command| world.primary.command(command).now_or_never();
            let known = |command| matches!(known(command), Some(Ok(Some(_))));
            world.stage.checkers.recorded.places(known)
        };
        let (standby, mut places) = (standby.clone(), recorded(self));
        let had = self.ballot();
        self.primary.fail_over_to(standby);
        let left = recorded(self);
        places.retain(|place| !left.contains(place));
        self.stage.checkers.recorded.lost(places, &tail);
        let has = self.ballot();
        self.stage.checkers.beat.votes_lost(&had, &has);
        let Some(last) = tail.last() else { return false };
        self.losses.highest = self.losses.highest.max(last.position);
        self.stage.note(format_args!("what came after {head} is lost, up to {}", last.position));
        for envelope in tail.iter().filter(|envelope| envelope.event_type == "node.revoked") {
            let node = NodeId::from_uuid(envelope.stream.id);
            self.losses.revoked.insert(node);
            if let Some(place) = self.places.get(&node) {
                self.revoked.remove(place);
            }
        }
        self.read = self.read.min(head);
        self.chain.truncate(usize::try_from(head).unwrap_or(0));
        true
    }

    fn ballot(&self) -> Ballot {
        let ballot = self.primary.read_ballot().now_or_never();
        ballot.and_then(Result::ok).unwrap_or_default()
    }

    /// Somebody starts a replica again that says that the log went back.
    pub(super) fn start_again(&mut self, index: usize) {
        let replica = &self.replicas[index];
        if !replica.control.is_halted() {
            return;
        }
        if replica.process.works() {
            self.stop_replica(index);
            self.happen(Event::BootReplica(index));
        } else {
            // It stands still: nobody can start it now.
            self.stage.within_secs(1, 12, Event::StartAgain(index));
        }
    }

    pub(super) fn stop_replica(&mut self, index: usize) {
        self.replica_turn(index, |control, turn| control.crash(turn));
        self.replicas[index].process.crash();
    }

    /// The loss is accepted: replicas that refuse the log are started again, and what nodes keep of
    /// it is removed.
    pub(super) fn accept_losses(&mut self) {
        if self.losses.highest == 0 {
            return;
        }
        for index in 0..self.replicas.len() {
            self.replica_turn(index, |control, turn| control.settle(turn));
            let control = &self.replicas[index].control;
            if control.is_halted() || control.is_refuted() {
                self.stop_replica(index);
                self.happen(Event::BootReplica(index));
            }
        }
        let (highest, revoked) = (self.losses.highest, self.losses.revoked.clone());
        self.replica_turn(0, |control, turn| control.make_good(turn, highest, &revoked));
        for index in 0..self.hosts.len() {
            if self.hosts[index].process.up {
                self.node_turn(index, |node, turn| node.crash(turn));
            }
            // A witness that goes on would hold the head that is removed.
            assert!(!self.hosts[index].process.up, "node {index} is not started again");
            self.hosts[index].node.trust_again();
            self.stage.checkers.leases.trusted_again(index);
            self.stage.checkers.beat.trusted_again(index);
        }
    }
}
