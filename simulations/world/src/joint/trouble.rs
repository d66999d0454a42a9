//! What goes wrong, when its time has come.

use std::time::Duration;

use crate::{
    control::Act,
    kit::{World as _, network::Party},
    node::SimNode,
};

use super::{
    faults::{Aim, FaultMix, Jumps},
    world::{Event, World},
};

/// Kinds of trouble, each with its own interval.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    Cut,
    Crash,
    Pause,
    Jump,
    Failover,
}

impl Trouble {
    pub(super) const ALL: &'static [Self] =
        &[Self::Cut, Self::Crash, Self::Pause, Self::Jump, Self::Failover];

    pub(super) fn every(self, mix: &FaultMix) -> Option<Duration> {
        match self {
            Self::Cut => mix.faults.cut_every,
            Self::Crash => mix.faults.crash_every,
            Self::Pause => mix.faults.pause_every,
            Self::Jump => (mix.jumps != Jumps::Nobody).then_some(mix.jump_every),
            Self::Failover => mix.failover_every,
        }
    }
}

impl World {
    pub(super) fn trouble(&mut self, trouble: Trouble) {
        match trouble {
            Trouble::Cut => self.cut(),
            Trouble::Crash => self.crash(),
            Trouble::Pause => self.pause(),
            Trouble::Jump => self.jump(),
            Trouble::Failover => {
                let (least, greatest) = (Duration::from_millis(100), Duration::from_secs(6));
                let lost = self.stage.chance.between(least, greatest);
                self.fail_over(lost);
            }
        }
        self.stage.again(trouble.every(&self.stage.mix), Event::Trouble(trouble));
    }

    /// A node, more often one that carries the connection.
    fn any_node(&mut self) -> usize {
        match self.holders()[..] {
            [(holder, _), ..] if self.stage.chance.happens(500) => holder,
            _ => self.stage.any(self.hosts.len()),
        }
    }

    /// A replica, more often the one that leads.
    fn any_replica(&mut self) -> usize {
        match self.leader() {
            Some(leader) if self.stage.chance.happens(400) => leader,
            _ => self.stage.any(self.replicas.len()),
        }
    }

    fn cut(&mut self) {
        let node = Party::Node(self.any_node());
        let replica = Party::Replica(self.any_replica());
        let other = Party::Node(self.stage.any(self.hosts.len()));
        let pairs: Vec<(Party, Party)> = match self.stage.chance.below(5) {
            0 => vec![(replica, Party::Database)],
            1 => vec![(node, replica)],
            2 => vec![(node, other)],
            // From all of control at once.
            _ => (0..self.replicas.len()).map(|index| (node, Party::Replica(index))).collect(),
        };
        let way = self.stage.chance.below(3);
        self.stage.coverage.fault(if way == 0 { "partition" } else { "one-way partition" });
        let lasts =
            self.stage.chance.between(Duration::from_millis(500), self.stage.mix.faults.cut_lasts);
        let first = pairs[0];
        self.stage.note(format_args!("{first:?} and more are cut off, way {way}"));
        let congested = way != 0 && self.stage.chance.happens(500);
        for (one, other) in pairs {
            for (from, to) in [(one, other), (other, one)] {
                if way == 0 || (way == 1) == ((from, to) == (one, other)) {
                    self.network.cut(from, to);
                    self.stage.after(lasts, Event::Heal(from, to));
                } else if congested {
                    self.stage.coverage.fault("congestion");
                    self.network.congest(from, to);
                    self.stage.after(lasts, Event::Relieve(from, to));
                }
            }
        }
    }

    fn crash(&mut self) {
        if self.stage.chance.happens(300) {
            let index = self.any_replica();
            if self.replicas[index].process.up {
                self.stage.coverage.fault("replica crash");
                self.replica_turn(index, |control, turn| control.crash(turn));
                self.replicas[index].process.crash();
                let (least, greatest) = (Duration::from_millis(200), Duration::from_secs(12));
                self.stage.within(least, greatest, Event::BootReplica(index));
            }
            return;
        }
        let index = self.any_node();
        if self.stage.chance.happens(self.stage.mix.faults.torn) {
            self.hosts[index].node.crash_in_a_write();
        } else if self.hosts[index].process.up {
            self.stage.coverage.fault("node crash");
            self.node_turn(index, SimNode::crash);
        }
    }

    fn pause(&mut self) {
        let lasts = self
            .stage
            .chance
            .between(Duration::from_millis(200), self.stage.mix.faults.pause_lasts);
        let now = self.stage.now();
        if self.stage.chance.happens(350) {
            let index = self.any_replica();
            if self.replicas[index].process.up {
                self.stage.coverage.fault("replica pause");
                self.replicas[index].process.pause(now);
                self.stage.note(format_args!("replica {index} stands still for {lasts:?}"));
                self.stage.after(lasts, Event::ResumeReplica(index));
            }
            return;
        }
        let index = self.any_node();
        if self.hosts[index].process.up {
            self.stage.coverage.fault("node pause");
            self.hosts[index].process.pause(now);
            self.stage.note(format_args!("node {index} stands still for {lasts:?}"));
            self.stage.after(lasts, Event::ResumeNode(index));
        }
    }

    fn jump(&mut self) {
        let far = self.stage.chance.between(Duration::from_millis(100), Duration::from_secs(60));
        match self.stage.mix.jumps {
            Jumps::Nobody => {}
            Jumps::Primary if self.stage.chance.happens(300) => {
                self.stage.coverage.fault("primary clock back");
                self.clock.back(far / 12);
            }
            Jumps::Primary => {
                self.stage.coverage.fault("primary clock forward");
                self.clock.forward(far);
            }
            Jumps::Replica => {
                self.stage.coverage.fault("replica clock forward");
                let index = self.any_replica();
                self.replicas[index].process.clock.forward(far);
                self.replica_turn(index, |control, turn| control.settle(turn));
            }
        }
    }

    /// Another server takes over as the primary. It has everything that was stored, or, where standbys
    /// may be behind, what was stored up to `lost` ago.
    pub(super) fn fail_over(&mut self, lost: Duration) {
        if !self.primary_up {
            return;
        }
        self.stage.note(format_args!("the primary fails over"));
        if self.stage.mix.unsynced && self.lose(lost) {
            self.stage.coverage.fault("unsynced failover");
        } else {
            self.stage.coverage.fault("failover");
            self.primary.fail_over();
        }
        self.primary_up = false;
        // The new primary's clock is another one. Where replicas' clocks jump it agrees.
        if self.stage.mix.jumps != Jumps::Replica && self.stage.chance.happens(500) {
            let far = self.stage.chance.between(Duration::ZERO, Duration::from_secs(3));
            self.shift(far);
        }
        self.stage.within(Duration::from_millis(20), Duration::from_secs(5), Event::PrimaryUp);
    }

    /// The new primary shows something else, and where there are beats nothing that is far from the
    /// true time.
    fn shift(&mut self, far: Duration) {
        if self.stage.drawn.beats {
            let far = far / 6;
            self.clock.back(self.ahead);
            self.clock.forward(far);
            self.ahead = far;
        } else {
            self.clock.forward(far);
        }
    }

    /// Nobody reaches the primary, but for one replica.
    pub(super) fn outage(&mut self, lasts: Duration) {
        self.stage.coverage.fault("a minority reaches the primary");
        self.stage.note(format_args!("a minority reaches the primary for {lasts:?}"));
        for index in 1..self.replicas.len() {
            let (one, other) = (Party::Replica(index), Party::Database);
            for (from, to) in [(one, other), (other, one)] {
                self.network.cut(from, to);
                self.stage.after(lasts, Event::Heal(from, to));
            }
        }
    }

    /// Somebody with authority does something, at any of the replicas.
    pub(super) fn act(&mut self) {
        let acts = if self.stage.chance.happens(350) { Act::CONNECTED } else { Act::USUAL };
        let act = *self.stage.chance.pick(acts).expect("there are acts");
        self.act_at_one(act);
    }

    pub(super) fn act_at_one(&mut self, act: Act) {
        let index = self.stage.any(self.replicas.len());
        if self.replicas[index].process.works() {
            self.replica_turn(index, |control, turn| control.act(turn, act));
        }
    }

    /// Revokes a node, and whoever carries the connection where that is what the run is about.
    pub(super) fn revoke(&mut self) {
        let holder = self.holders().first().and_then(|(holder, _)| self.hosts[*holder].node.id());
        match holder.filter(|_| self.stage.mix.aim == Aim::Revocation) {
            Some(node) => self.replica_turn(0, |control, turn| control.revoke(turn, node)),
            None => self.act_at_one(Act::Revoke),
        }
    }

    /// Stops everything that goes wrong, and brings everybody back.
    pub(super) fn calm_down(&mut self) {
        self.network.heal_all();
        self.stage.mix = FaultMix::calm();
        self.primary_up = true;
        for index in 0..self.replicas.len() {
            self.happen(Event::ResumeReplica(index));
            self.happen(Event::BootReplica(index));
        }
        for index in 0..self.hosts.len() {
            self.hosts[index].node.steady();
            self.happen(Event::ResumeNode(index));
        }
        self.accept_losses();
        self.replica_turn(0, |control, turn| control.make_peace(turn));
        for index in 0..self.hosts.len() {
            self.happen(Event::BootNode(index));
        }
    }
}
