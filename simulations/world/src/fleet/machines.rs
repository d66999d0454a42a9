//! What goes into the nodes' machines and what comes out of them; when nodes run.

use std::time::Duration;

use rap_mesh_core::peers::{Effect, Input, Said};
use rap_proto::{Moment, Timestamp};

use super::{
    EFFECTS, FOUND, REACHED, RECOVERY,
    directory::named,
    mutation::Mutation,
    network::{CLAIMED_RTT_US, Welcome},
    node::{Heard, calendar, id_of, index_of},
    scope::ORGANIZATIONS,
    world::{Event, World},
};

const CERTIFICATE_UNTIL: Timestamp = Timestamp::from_unix_millis(86_400_000);
/// How soon a broken connection is noticed.
const NOTICED: Duration = Duration::from_secs(4);

impl World {
    pub(super) fn feed(&mut self, node: usize, boot: u32, input: Input) {
        if self.nodes[node].boot == boot && self.nodes[node].is_up() {
            let now = self.stage.now();
            self.nodes[node].handle(now, input);
            self.settle(node, true);
        }
    }

    pub(super) fn answer(&mut self, node: usize, boot: u32, other: usize, stays: bool) {
        let now = self.stage.now();
        if self.nodes[node].boot != boot || !self.nodes[node].is_up() {
            return;
        }
        match self.network.welcome(other, node, stays) {
            Welcome::Full => self.feed(node, boot, Input::Full { node: id_of(other) }),
            Welcome::Taken => {
                let heard = Heard { at: now, is_open: true };
                let before = stays.then(|| self.nodes[node].answered.insert(other, heard));
                if before.flatten().is_some_and(|before| !before.is_open) {
                    self.stage.note(format_args!("node {node} opens {other}"));
                    self.stage.checkers.opened(now, node, other);
                }
                let lies = self.network.hosts[other].lie.is_some();
                let rtt = self.network.rtt(node, other, &mut self.stage.chance);
                let rtt = u32::try_from(rtt.as_micros()).unwrap_or(u32::MAX);
                let rtt_us = if lies { CLAIMED_RTT_US } else { rtt };
                let said = Some(self.said_by(other));
                self.feed(node, boot, answered(now, other, (rtt_us, said)));
            }
        }
    }

    /// Performs what the node wants done, and arms its timer.
    pub(super) fn settle(&mut self, index: usize, arm: bool) {
        while let Some(effect) = self.nodes[index].poll_effect() {
            self.perform(index, effect);
        }
        if !arm {
            return;
        }
        let node = &mut self.nodes[index];
        if let Some(at) = node.poll_timeout() {
            self.stage.arm(&mut node.armed, at, Event::Timer(index));
        }
    }

    fn perform(&mut self, index: usize, effect: Effect) {
        match effect {
            Effect::Heartbeat { node } => {
                self.stage.coverage.count(EFFECTS, "heartbeat");
                let other = index_of(node);
                self.stage.checkers.holds(self.stage.now(), index, other);
                let asked = Heard { at: self.stage.now(), is_open: false };
                self.nodes[index].answered.entry(other).or_insert(asked);
                self.ask(index, other, true);
            }
            Effect::Probe { node } => {
                self.stage.coverage.count(EFFECTS, "probe");
                self.stage.checkers.turned_to(index, index_of(node));
                self.ask(index, index_of(node), false);
            }
            Effect::Release { node } => {
                self.stage.coverage.count(EFFECTS, "release");
                let other = index_of(node);
                self.stage.checkers.released(index, other);
                self.nodes[index].answered.remove(&other);
                self.network.hosts[other].inbound.remove(&index);
            }
            Effect::ProbeThrough { relay, target } => {
                self.stage.coverage.count(EFFECTS, "probe through");
                self.stage.checkers.probes_through(index, index_of(relay));
                self.ask_through(index, index_of(relay), index_of(target));
            }
            Effect::Refresh => self.stage.coverage.count(EFFECTS, "refresh"),
            Effect::Discover => {
                self.stage.coverage.count(EFFECTS, "discover");
                let (least, greatest) = (Duration::from_millis(50), Duration::from_secs(3));
                self.stage.within(least, greatest, Event::Directory(index));
            }
            Effect::Recovering(step) => {
                let step = step.map(rap_mesh_core::peers::Step::as_str);
                self.stage.coverage.count(RECOVERY, step.unwrap_or(REACHED));
                let shown = step.unwrap_or("over");
                self.stage.note(format_args!("node {index}: recovery {shown}"));
                self.stage.checkers.recovering(index, step);
            }
            Effect::Persist(_) => self.stage.coverage.count(EFFECTS, "persist"),
        }
    }

    fn ask(&mut self, index: usize, other: usize, stays: bool) {
        let boot = self.nodes[index].boot;
        if self.network.round_trip(index, other, &mut self.stage.chance) {
            let rtt = self.network.rtt(index, other, &mut self.stage.chance);
            self.stage.after(rtt, Event::Answer { node: index, boot, other, stays });
        } else if self.nodes[index].planted(Mutation::SilenceIsAnAnswer) {
            self.stage.after(NOTICED / 2, Event::Silence { node: index, boot, other });
        }
    }

    fn ask_through(&mut self, node: usize, relay: usize, target: usize) {
        let boot = self.nodes[node].boot;
        let arrives = self.network.round_trip(node, relay, &mut self.stage.chance)
            && self.network.round_trip(relay, target, &mut self.stage.chance);
        let now = self.stage.now();
        let forwards = arrives && !self.network.swallows(relay, now, &mut self.stage.chance);
        self.note_tried(node, (relay, target), forwards);
        let rtt = self.network.rtt(node, relay, &mut self.stage.chance)
            + self.network.rtt(relay, target, &mut self.stage.chance);
        let passed = forwards || self.nodes[node].believes(relay);
        // Who gets no answer waits; the machine counts the time.
        if passed {
            self.stage.after(rtt, Event::Through { node, boot, relay, target, passed });
        }
    }

    fn note_tried(&mut self, node: usize, (relay, egress): (usize, usize), arrives: bool) {
        if arrives {
            self.nodes[node].forwarded.insert(relay);
        }
        if self.stage.failing {
            // What does not arrive now may be nobody's lie.
            return;
        }
        let now = self.stage.now();
        let found = self.stage.checkers.tried(now, node, (relay, egress), arrives);
        if let Some(lie) = self.network.hosts[relay].lie.filter(|_| found) {
            self.stage.coverage.count(FOUND, lie.as_str());
        }
    }

    pub(super) fn boot(&mut self, index: usize) {
        let gone = self.withdrawn.contains(&index) || self.gone == Some(index);
        if self.nodes[index].is_up() || gone {
            return;
        }
        self.network.hosts[index].up = true;
        let view = self.view(index);
        self.stage.checkers.told(index, named(&view));
        let seed = self.stage.chance.number();
        let now = self.stage.now();
        self.nodes[index].boot(now, seed, view);
        self.stage.note(format_args!("node {index} starts"));
        self.settle(index, true);
    }

    pub(super) fn crash(&mut self, index: usize) {
        self.nodes[index].crash();
        self.stage.checkers.stopped(index);
        self.network.hosts[index].up = false;
        (0..ORGANIZATIONS.len()).for_each(|organization| self.let_go(index, organization));
        for other in self.nodes[index].answered.keys() {
            self.network.hosts[*other].inbound.remove(&index);
        }
        for node in std::mem::take(&mut self.network.hosts[index].inbound) {
            let boot = self.nodes[node].boot;
            self.stage.after(NOTICED, Event::Lost { node, boot, other: index });
        }
    }

    pub(super) fn lose(&mut self, index: usize) {
        self.stage.coverage.fault("gone for good");
        self.stage.note(format_args!("node {index} breaks for good"));
        self.gone = Some(index);
        if self.nodes[index].is_up() {
            self.crash(index);
        }
    }
}

pub(super) fn answered(now: Moment, other: usize, (rtt_us, said): (u32, Option<Said>)) -> Input {
    let (node, at) = (id_of(other), calendar(now));
    Input::Answered { node, rtt_us, said, packets: None, certificate_until: CERTIFICATE_UNTIL, at }
}
