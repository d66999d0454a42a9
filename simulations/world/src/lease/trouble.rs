//! What goes wrong, when its time has come.

use std::time::Duration;

use rap_proto::Moment;

use super::{
    faults::{FaultMix, Jumps},
    network::Party,
    node, replica,
    world::{Event, World},
};

/// Kinds of trouble, each with its own interval.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trouble {
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
            Self::Cut => mix.cut_every,
            Self::Crash => mix.crash_every,
            Self::Pause => mix.pause_every,
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
                self.coverage.fault("no beat");
                let lasts = self.chance.between(Duration::from_secs(10), Duration::from_secs(50));
                self.beats_from = self.scheduler.now() + lasts;
            }
            Trouble::ResourceCrash => {
                self.coverage.fault("resource crash");
                self.resource.restart();
            }
        }
        if let Some(every) = trouble.every(&self.mix) {
            let next = self.chance.between(every / 2, every * 3 / 2);
            self.scheduler.after(next, Event::Trouble(trouble));
        }
    }

    /// A node, more often one that holds something.
    fn any_node(&mut self) -> usize {
        let connection = self.any(self.wishes.connections.len());
        match self.database.held(connection) {
            Some(held) if self.chance.happens(500) => held.node,
            _ => self.any(self.nodes.len()),
        }
    }

    fn any_replica(&mut self) -> usize {
        if self.chance.happens(400) { self.leader } else { self.any(self.replicas.len()) }
    }

    pub(super) fn any(&mut self, bound: usize) -> usize {
        usize::try_from(self.chance.below(bound as u64)).unwrap_or(0)
    }

    fn cut(&mut self) {
        let node = Party::Node(self.any_node());
        let replica = Party::Replica(self.any_replica());
        let pairs: Vec<(Party, Party)> = match self.chance.below(4) {
            0 => vec![(replica, Party::Database)],
            1 => vec![(node, replica)],
            // From all of control at once.
            _ => (0..self.replicas.len()).map(|index| (node, Party::Replica(index))).collect(),
        };
        let way = self.chance.below(3);
        self.coverage.fault(if way == 0 { "partition" } else { "one-way partition" });
        let lasts = self.chance.between(Duration::from_millis(500), self.mix.cut_lasts);
        let (now, first) = (self.scheduler.now(), pairs[0]);
        self.trace.note(now, format_args!("{first:?} and more are cut off, way {way}"));
        // A way that is cut is often congested before, the other way round.
        let congested = way != 0 && self.chance.happens(700);
        let begins = if congested {
            self.chance.between(Duration::from_millis(200), Duration::from_secs(3))
        } else {
            Duration::ZERO
        };
        for (one, other) in pairs {
            for (from, to) in [(one, other), (other, one)] {
                if way == 0 || (way == 1) == ((from, to) == (one, other)) {
                    self.scheduler.after(begins, Event::Cut { from, to, lasts });
                } else if congested {
                    self.coverage.fault("congestion");
                    self.network.congest(from, to);
                    self.scheduler.after(begins + lasts, Event::Relieve(from, to));
                }
            }
        }
    }

    fn crash(&mut self) {
        if self.chance.happens(300) {
            let index = self.any_replica();
            let back = self.chance.between(Duration::from_millis(200), Duration::from_secs(12));
            self.crash_replica(index, back);
            return;
        }
        let index = self.any_node();
        if self.chance.happens(self.mix.torn) {
            self.nodes[index].crash_in_a_write();
        } else if self.nodes[index].up {
            self.coverage.fault("node crash");
            self.node_turn(index, node::SimNode::crash);
        }
    }

    fn crash_replica(&mut self, index: usize, back: Duration) {
        if self.replicas[index].up {
            self.coverage.fault("replica crash");
            self.replica_turn(index, replica::SimReplica::crash);
            self.scheduler.after(back, Event::BootReplica(index));
        }
    }

    fn pause(&mut self) {
        let lasts = self.chance.between(Duration::from_millis(200), self.mix.pause_lasts);
        if self.chance.happens(250) {
            let index = self.any_replica();
            if self.replicas[index].up {
                self.coverage.fault("replica pause");
                self.replicas[index].paused = true;
                self.scheduler.after(lasts, Event::ResumeReplica(index));
            }
            return;
        }
        let index = self.any_node();
        let node = &mut self.nodes[index];
        if !node.up {
            return;
        }
        let (agent, packets, kind) = match self.chance.below(3) {
            0 => (true, true, "process pause"),
            1 => (true, false, "agent pause"),
            _ => (false, true, "packet loop pause"),
        };
        node.agent_paused |= agent;
        node.loop_paused |= packets;
        self.coverage.fault(kind);
        self.trace.note(self.scheduler.now(), format_args!("node {index}: {kind} of {lasts:?}"));
        self.scheduler.after(lasts, Event::ResumeNode(index));
    }

    fn jump(&mut self) {
        let far = self.chance.between(Duration::from_millis(100), Duration::from_secs(60));
        match self.mix.jumps {
            Jumps::Nobody => {}
            Jumps::Database if self.chance.happens(300) => {
                self.coverage.fault("database clock back");
                self.database.clock.back(far / 12);
            }
            Jumps::Database => {
                self.coverage.fault("database clock forward");
                self.database.clock.forward(far);
            }
            Jumps::Replica => {
                self.coverage.fault("replica clock forward");
                let index = self.any_replica();
                self.replicas[index].clock.forward(far);
                self.replica_turn(index, replica::SimReplica::handle_timeout);
            }
        }
    }

    /// How much of what was written last the next failover loses.
    fn lost(&mut self) -> Duration {
        if self.chance.happens(self.mix.unsynced) {
            self.chance.between(Duration::from_millis(100), Duration::from_secs(4))
        } else {
            Duration::ZERO
        }
    }

    /// A grant was stored. Where failovers lose something, one may follow at once: that is when
    /// it matters, and worst when its grantor goes as well.
    pub(super) fn after_a_grant(&mut self) {
        if !self.chance.happens(self.mix.unsynced / 2) {
            return;
        }
        let soon = self.chance.between(Duration::from_millis(5), Duration::from_millis(1_500));
        self.scheduler.after(soon, Event::Failover(soon + Duration::from_millis(1)));
    }

    pub(super) fn fail_over(&mut self, lost: Duration) {
        if !self.database.up {
            return;
        }
        let kind = if lost > Duration::ZERO { "unsynced failover" } else { "failover" };
        self.coverage.fault(kind);
        let now = self.scheduler.now();
        self.trace.note(now, format_args!("{kind}, {lost:?} lost"));
        self.database.up = false;
        self.database.fail_over(now, lost);
        // The new primary's clock is another one. Where replicas' clocks jump it agrees.
        if self.mix.jumps != Jumps::Replica && self.chance.happens(500) {
            self.database
                .clock
                .forward(self.chance.between(Duration::ZERO, Duration::from_secs(3)));
        }
        let down = self.chance.between(Duration::from_millis(20), Duration::from_secs(5));
        self.scheduler.after(down, Event::DatabaseUp);
        if lost > Duration::ZERO && self.chance.happens(700) {
            let back = self.chance.between(Duration::from_millis(10), Duration::from_secs(6));
            let index = self.leader;
            self.crash_replica(index, back);
        }
    }

    fn change(&mut self) {
        let what = self.wishes.change(self.nodes.len(), &mut self.chance);
        self.coverage.fault(what);
        self.trace.note(self.scheduler.now(), format_args!("people: {what}"));
        self.tell_everybody();
    }

    /// Who wants what reaches nodes and replicas a little later, each by itself.
    pub(super) fn tell_everybody(&mut self) {
        let (least, greatest) = self.mix.latency;
        let late = if self.failing { Duration::from_secs(1) } else { greatest };
        for index in 0..self.replicas.len() {
            let delay = self.chance.between(least, late);
            self.scheduler.after(delay, Event::TellReplica(index));
        }
        for index in 0..self.nodes.len() {
            let delay = self.chance.between(least, late);
            self.scheduler.after(delay, Event::TellNode(index));
        }
    }

    /// Whether a node hears of a beat at this moment.
    pub(super) fn beat_reaches(&self, now: Moment, node: usize) -> bool {
        let reaches = |index: usize| {
            self.replicas[index].up
                && !self.replicas[index].paused
                && self.network.passes(Party::Replica(index), Party::Node(node))
        };
        now >= self.beats_from && (0..self.replicas.len()).any(reaches)
    }
}
