//! What goes wrong, when its time has come.

use std::time::Duration;

use rap_proto::Moment;

use crate::kit::network::Party;

use super::{
    faults::{FaultMix, Jumps},
    node, replica,
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
    Change,
    Beatless,
    ResourceCrash,
}

impl Trouble {
    pub(super) const ALL: &'static [Self] = &[
        Self::Cut,
        Self::Crash,
        Self::Pause,
        Self::Jump,
        Self::Failover,
        Self::Change,
        Self::Beatless,
        Self::ResourceCrash,
    ];

    pub(super) fn every(self, mix: &FaultMix) -> Option<Duration> {
        match self {
            Self::Cut => mix.faults.cut_every,
            Self::Crash => mix.faults.crash_every,
            Self::Pause => mix.faults.pause_every,
            Self::Jump => (mix.jumps != Jumps::Nobody).then_some(mix.jump_every),
            Self::Failover => mix.failover_every,
            Self::Change => mix.change_every,
            Self::Beatless => mix.beatless_every,
            Self::ResourceCrash => mix.resource_crash_every,
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
                let lost = self.lost();
                self.fail_over(lost);
            }
            Trouble::Change => self.change(),
            Trouble::Beatless => {
                self.stage.coverage.fault("no beat");
                let lasts =
                    self.stage.chance.between(Duration::from_secs(10), Duration::from_secs(50));
                self.beats_from = self.stage.now() + lasts;
            }
            Trouble::ResourceCrash => {
                self.stage.coverage.fault("resource crash");
                self.resource.restart();
            }
        }
        self.stage.again(trouble.every(&self.stage.mix), Event::Trouble(trouble));
    }

    /// A node, more often one that holds something.
    fn any_node(&mut self) -> usize {
        let connection = self.stage.any(self.wishes.connections.len());
        match self.database.held(connection) {
            Some(held) if self.stage.chance.happens(500) => held.node,
            _ => self.stage.any(self.nodes.len()),
        }
    }

    fn any_replica(&mut self) -> usize {
        if self.stage.chance.happens(400) {
            self.leader
        } else {
            self.stage.any(self.replicas.len())
        }
    }

    fn cut(&mut self) {
        let node = Party::Node(self.any_node());
        let replica = Party::Replica(self.any_replica());
        let pairs: Vec<(Party, Party)> = match self.stage.chance.below(4) {
            0 => vec![(replica, Party::Database)],
            1 => vec![(node, replica)],
            // From all of control at once.
            _ => (0..self.replicas.len()).map(|index| (node, Party::Replica(index))).collect(),
        };
        let way = self.stage.chance.below(3);
        self.stage.coverage.fault(if way == 0 { "partition" } else { "one-way partition" });
        let lasts =
            self.stage.chance.between(Duration::from_millis(500), self.stage.mix.faults.cut_lasts);
        let first = pairs[0];
        self.stage.note(format_args!("{first:?} and more are cut off, way {way}"));
        // A way that is cut is often congested before, the other way round.
        let congested = way != 0 && self.stage.chance.happens(700);
        let begins = if congested {
            self.stage.chance.between(Duration::from_millis(200), Duration::from_secs(3))
        } else {
            Duration::ZERO
        };
        for (one, other) in pairs {
            for (from, to) in [(one, other), (other, one)] {
                if way == 0 || (way == 1) == ((from, to) == (one, other)) {
                    self.stage.after(begins, Event::Cut { from, to, lasts });
                } else if congested {
                    self.stage.coverage.fault("congestion");
                    self.network.congest(from, to);
                    self.stage.after(begins + lasts, Event::Relieve(from, to));
                }
            }
        }
    }

    fn crash(&mut self) {
        if self.stage.chance.happens(300) {
            let index = self.any_replica();
            let back =
                self.stage.chance.between(Duration::from_millis(200), Duration::from_secs(12));
            self.crash_replica(index, back);
            return;
        }
        let index = self.any_node();
        if self.stage.chance.happens(self.stage.mix.faults.torn) {
            self.nodes[index].crash_in_a_write();
        } else if self.nodes[index].process.up {
            self.stage.coverage.fault("node crash");
            self.node_turn(index, node::SimNode::crash);
        }
    }

    fn crash_replica(&mut self, index: usize, back: Duration) {
        if self.replicas[index].process.up {
            self.stage.coverage.fault("replica crash");
            self.replica_turn(index, replica::SimReplica::crash);
            self.stage.after(back, Event::BootReplica(index));
        }
    }

    fn pause(&mut self) {
        let lasts = self
            .stage
            .chance
            .between(Duration::from_millis(200), self.stage.mix.faults.pause_lasts);
        if self.stage.chance.happens(250) {
            let index = self.any_replica();
            if self.replicas[index].process.up {
                self.stage.coverage.fault("replica pause");
                self.replicas[index].process.pause(self.stage.now());
                self.stage.after(lasts, Event::ResumeReplica(index));
            }
            return;
        }
        let index = self.any_node();
        let node = &mut self.nodes[index];
        if !node.process.up {
            return;
        }
        let (agent, packets, kind) = match self.stage.chance.below(3) {
            0 => (true, true, "process pause"),
            1 => (true, false, "agent pause"),
            _ => (false, true, "packet loop pause"),
        };
        if agent {
            node.process.pause(self.stage.now());
        }
        node.loop_paused |= packets;
        self.stage.coverage.fault(kind);
        self.stage.note(format_args!("node {index}: {kind} of {lasts:?}"));
        self.stage.after(lasts, Event::ResumeNode(index));
    }

    fn jump(&mut self) {
        let far = self.stage.chance.between(Duration::from_millis(100), Duration::from_secs(60));
        match self.stage.mix.jumps {
            Jumps::Nobody => {}
            Jumps::Database if self.stage.chance.happens(300) => {
                self.stage.coverage.fault("database clock back");
                self.database.clock.back(far / 12);
            }
            Jumps::Database => {
                self.stage.coverage.fault("database clock forward");
                self.database.clock.forward(far);
            }
            Jumps::Replica => {
                self.stage.coverage.fault("replica clock forward");
                let index = self.any_replica();
                self.replicas[index].process.clock.forward(far);
                self.replica_turn(index, replica::SimReplica::handle_timeout);
            }
        }
    }

    /// How much of what was written last the next failover loses.
    fn lost(&mut self) -> Duration {
        if self.stage.chance.happens(self.stage.mix.unsynced) {
            self.stage.chance.between(Duration::from_millis(100), Duration::from_secs(4))
        } else {
            Duration::ZERO
        }
    }

    /// A grant was stored. Where failovers lose something, one may follow at once: that is when
    /// it matters, and worst when its grantor goes as well.
    pub(super) fn after_a_grant(&mut self) {
        if !self.stage.chance.happens(self.stage.mix.unsynced / 2) {
            return;
        }
        let ms = Duration::from_millis;
        let soon = self.stage.chance.between(ms(5), ms(1_500));
        self.stage.after(soon, Event::Failover(soon + ms(1)));
    }

    pub(super) fn fail_over(&mut self, lost: Duration) {
        if !self.database.primary.up {
            return;
        }
        let kind = if lost > Duration::ZERO { "unsynced failover" } else { "failover" };
        self.stage.coverage.fault(kind);
        let now = self.stage.now();
        self.stage.note(format_args!("{kind}, {lost:?} lost"));
        self.database.primary.fail_over(now, lost);
        // The new primary's clock is another one. Where replicas' clocks jump it agrees.
        if self.stage.mix.jumps != Jumps::Replica && self.stage.chance.happens(500) {
            self.database
                .clock
                .forward(self.stage.chance.between(Duration::ZERO, Duration::from_secs(3)));
        }
        self.stage.within(Duration::from_millis(20), Duration::from_secs(5), Event::DatabaseUp);
        if lost > Duration::ZERO && self.stage.chance.happens(700) {
            let back = self.stage.chance.between(Duration::from_millis(10), Duration::from_secs(6));
            let index = self.leader;
            self.crash_replica(index, back);
        }
    }

    fn change(&mut self) {
        let what = self.wishes.change(self.nodes.len(), &mut self.stage.chance);
        self.stage.coverage.fault(what);
        self.stage.note(format_args!("people: {what}"));
        self.tell_everybody();
    }

    /// Who wants what reaches nodes and replicas a little later, each by itself.
    pub(super) fn tell_everybody(&mut self) {
        let (least, greatest) = self.stage.mix.conditions.latency;
        let late = if self.stage.failing { Duration::from_secs(1) } else { greatest };
        for index in 0..self.replicas.len() {
            self.stage.within(least, late, Event::TellReplica(index));
        }
        for index in 0..self.nodes.len() {
            self.stage.within(least, late, Event::TellNode(index));
        }
    }

    /// Whether a node hears of a beat at this moment.
    pub(super) fn beat_reaches(&self, now: Moment, node: usize) -> bool {
        let reaches = |index: usize| {
            self.replicas[index].process.works()
                && self.network.passes(Party::Replica(index), Party::Node(node))
        };
        now >= self.beats_from && (0..self.replicas.len()).any(reaches)
    }
}
