//! What goes wrong, when its time has come.

use std::time::Duration;

use crate::kit::{keys::REPLICAS, network::Party};

use super::{
    database::KEPT,
    faults::{FaultMix, Jumps, Outage},
    node::SimNode,
    replica::SimReplica,
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
    Restate,
}

impl Trouble {
    pub(super) const ALL: &'static [Self] =
        &[Self::Cut, Self::Crash, Self::Pause, Self::Jump, Self::Failover, Self::Restate];

    pub(super) fn every(self, mix: &FaultMix) -> Option<Duration> {
        match self {
            Self::Cut => mix.faults.cut_every,
            Self::Crash => mix.faults.crash_every,
            Self::Pause => mix.faults.pause_every,
            Self::Jump => (mix.jumps != Jumps::Nobody).then_some(mix.jump_every),
            Self::Failover => mix.failover_every,
            Self::Restate => mix.restate_every,
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
            Trouble::Failover => self.fail_over(),
            Trouble::Restate => {
                self.stage.coverage.fault("new statement");
                let promoted = self.stage.chance.happens(300);
                self.database.restate(self.stage.now(), promoted);
            }
        }
        self.stage.again(trouble.every(&self.stage.mix), Event::Trouble(trouble));
    }

    /// A beat was proposed. Where somebody tampers with the table he does it now, and that matters
    /// most when the replicas forget how they voted.
    pub(super) fn after_a_proposal(&mut self) {
        if self.stage.chance.happens(self.stage.mix.rival) {
            self.stage.within(
                Duration::from_millis(50),
                Duration::from_millis(3_000),
                Event::Rival,
            );
        }
    }

    pub(super) fn rival(&mut self) {
        let now = self.stage.now();
        if !self.database.primary.up || !self.database.put_a_rival(now) {
            return;
        }
        self.stage.coverage.fault("rival proposal");
        self.stage.note(format_args!("somebody puts another beat in its place"));
        if self.stage.mix.replicas_crash && self.stage.chance.happens(400) {
            self.stage.coverage.fault("power cut of all replicas");
            for index in 0..REPLICAS {
                self.crash_replica(index, Duration::from_millis(300));
            }
        }
    }

    pub(super) fn outage(&mut self, outage: Outage, lasts: Duration) {
        let (kind, pairs): (_, Vec<_>) = match outage {
            Outage::Primary => {
                let pair = |index| (Party::Replica(index), Party::Database);
                ("nobody reaches the primary", (0..REPLICAS).map(pair).collect())
            }
            Outage::Majority => {
                let pair = |index| (Party::Replica(index), Party::Database);
                ("a minority reaches the primary", (1..REPLICAS).map(pair).collect())
            }
            Outage::Node => {
                let pair = |index| (Party::Node(0), Party::Replica(index));
                ("a node reaches no replica", (0..REPLICAS).map(pair).collect())
            }
        };
        self.stage.coverage.fault(kind);
        self.stage.note(format_args!("{kind} for {lasts:?}"));
        self.part(&pairs, 0, lasts);
    }

    /// Cuts these pairs, both ways or one.
    fn part(&mut self, pairs: &[(Party, Party)], way: u64, lasts: Duration) {
        for (one, other) in pairs {
            for (from, to, number) in [(*one, *other, 1), (*other, *one, 2)] {
                if way == 0 || way == number {
                    self.network.cut(from, to);
                    self.stage.after(lasts, Event::Heal(from, to));
                }
            }
        }
    }

    fn cut(&mut self) {
        let node = Party::Node(self.stage.any(self.nodes.len()));
        let replica = Party::Replica(self.stage.any(REPLICAS));
        let pairs: Vec<_> = match self.stage.chance.below(4) {
            0 | 1 => vec![(replica, Party::Database)],
            2 => vec![(node, replica)],
            _ => (0..REPLICAS).map(|index| (node, Party::Replica(index))).collect(),
        };
        let way = self.stage.chance.below(3);
        self.stage.coverage.fault(if way == 0 { "partition" } else { "one-way partition" });
        let lasts =
            self.stage.chance.between(Duration::from_millis(500), self.stage.mix.faults.cut_lasts);
        let first = pairs[0];
        self.stage.note(format_args!("{first:?} is cut off for {lasts:?}, way {way}"));
        self.part(&pairs, way, lasts);
    }

    fn crash(&mut self) {
        if self.stage.mix.replicas_crash && self.stage.chance.happens(500) {
            let index = self.stage.any(REPLICAS);
            self.crash_replica(index, Duration::from_secs(6));
            return;
        }
        let index = self.stage.any(self.nodes.len());
        if self.stage.chance.happens(self.stage.mix.faults.torn) {
            self.nodes[index].crash_in_a_write();
        } else if self.nodes[index].process.up {
            self.stage.coverage.fault("node crash");
            self.node_turn(index, SimNode::crash);
        }
    }

    /// It is back within this time.
    fn crash_replica(&mut self, index: usize, within: Duration) {
        if self.replicas[index].process.up {
            self.stage.coverage.fault("replica crash");
            self.replica_turn(index, SimReplica::crash);
            self.stage.within(Duration::from_millis(50), within, Event::BootReplica(index));
        }
    }

    fn pause(&mut self) {
        let lasts = self
            .stage
            .chance
            .between(Duration::from_millis(200), self.stage.mix.faults.pause_lasts);
        if self.stage.chance.happens(400) {
            let index = self.stage.any(REPLICAS);
            if self.replicas[index].process.works() {
                self.stage.coverage.fault("replica pause");
                self.replicas[index].process.pause(self.stage.now());
                self.stage.after(lasts, Event::ResumeReplica(index));
            }
            return;
        }
        let index = self.stage.any(self.nodes.len());
        let process = &mut self.nodes[index].process;
        if process.works() {
            process.pause(self.stage.now());
            self.stage.coverage.fault("node suspended");
            self.stage.note(format_args!("node {index} stands still for {lasts:?}"));
            self.stage.after(lasts, Event::ResumeNode(index));
        }
    }

    fn jump(&mut self) {
        let far = self.stage.chance.between(Duration::from_secs(1), Duration::from_secs(90));
        let far = i64::try_from(far.as_millis()).unwrap_or(0);
        let back = self.stage.chance.happens(500);
        let by = if back { -far } else { far };
        let (calendar, kind) = match self.stage.mix.jumps {
            Jumps::Nobody => return,
            Jumps::Database if back => (&mut self.database.calendar, "primary's calendar back"),
            Jumps::Database => (&mut self.database.calendar, "primary's calendar forward"),
            Jumps::Node => {
                let index = usize::try_from(self.stage.chance.below(self.nodes.len() as u64));
                let node = &mut self.nodes[index.unwrap_or(0)];
                let kind = if back { "node's calendar back" } else { "node's calendar forward" };
                (&mut node.calendar, kind)
            }
        };
        calendar.jump(by);
        self.stage.coverage.fault(kind);
    }

    fn fail_over(&mut self) {
        if !self.database.primary.up {
            return;
        }
        let lost = if self.stage.mix.unsynced {
            self.stage.chance.between(Duration::from_millis(100), KEPT)
        } else {
            Duration::ZERO
        };
        let kind = if self.stage.mix.unsynced { "unsynced failover" } else { "failover" };
        let now = self.stage.now();
        self.stage.coverage.fault(kind);
        self.stage.note(format_args!("{kind}, {lost:?} lost"));
        self.database.fail_over(now, lost, &mut self.stage.chance);
        self.stage.within(Duration::from_millis(20), Duration::from_secs(6), Event::DatabaseUp);
    }
}
