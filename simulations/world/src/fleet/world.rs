//! The fleet's world: who is there, what happens next, and the phases.

use std::{collections::BTreeSet, time::Duration};

use rap_mesh_core::peers::{Availability, Directory, Effect, Input, Listed};
use rap_proto::{Moment, NodeRole, Timestamp};

use crate::{chance::Chance, checkers::Violation, scheduler::Scheduler, trace::Trace};

use super::{
    checkers::{CONVERGENCE, Checkers},
    coverage::Coverage,
    faults::FaultMix,
    mutation::Mutation,
    network::{CLAIMED_RTT_US, Host, Network, Welcome},
    node::{self, SimNode, calendar, id_of, index_of},
    run::Options,
    trouble::Trouble,
};

/// How long things go wrong.
pub const FAULTS: Duration = Duration::from_secs(240);
/// How long everything then has to come right.
pub const CONVERGENCE_BOUND: Duration = Duration::from_secs(240);
/// How long nothing may change after that.
pub const CALM: Duration = Duration::from_secs(120);
/// Of one node's kind: at least and at most so many connections, as the checkers know them.
pub const NORMAL: (usize, usize) = (3, 5);
pub const RELAY: (usize, usize) = (8, 20);
/// The most others of one role that a node is told of.
const MAX_TOLD: usize = 24;
const CERTIFICATE_UNTIL: Timestamp = Timestamp::from_unix_millis(86_400_000);
/// Whoever is connected was heard within this.
const FRESH: Duration = Duration::from_secs(30);
/// How soon a broken connection is noticed.
const NOTICED: Duration = Duration::from_secs(4);
const CHOOSE_EVERY: Duration = Duration::from_secs(7);
/// Of a large fleet only so many entries choose at once, others the next time.
const MAX_CHOOSING: usize = 64;
/// For each node; more in one run, and the world runs in circles.
const MAX_EVENTS: u64 = 60_000;

#[derive(Debug, Clone)]
pub(super) enum Event {
    Timer(usize),
    Boot(usize),
    /// A question arrives, and its answer some time later.
    Answer {
        node: usize,
        boot: u32,
        other: usize,
        stays: bool,
    },
    Silence {
        node: usize,
        boot: u32,
        other: usize,
    },
    Through {
        node: usize,
        boot: u32,
        relay: usize,
        target: usize,
        passed: bool,
    },
    Lost {
        node: usize,
        boot: u32,
        other: usize,
    },
    /// The newest directory comes to a node.
    Directory(usize),
    Choose,
    Heal(usize, usize),
    Lighten(usize),
    Hear(usize),
    /// A machine breaks for good.
    Gone(usize),
    /// A link is away once more, and so many times more after that.
    Flap(usize, usize, u32),
    Trouble(Trouble),
}

pub struct World {
    pub(super) scheduler: Scheduler<Event>,
    pub(super) chance: Chance,
    pub(super) mix: FaultMix,
    pub(super) failing: bool,
    pub(super) network: Network,
    pub(super) nodes: Vec<SimNode>,
    pub(super) told: Vec<Vec<usize>>,
    pub(super) withdrawn: BTreeSet<usize>,
    /// Still in the directory, and never there again.
    gone: Option<usize>,
    /// How many choices of a relay were made.
    chosen: usize,
    pub(super) version: u64,
    pub(super) regions: usize,
    pub(super) checkers: Checkers,
    pub(super) coverage: Coverage,
    pub(super) trace: Trace,
    events: u64,
}

/// How a run ended.
#[derive(Debug)]
pub struct End {
    pub mix: FaultMix,
    pub violation: Option<Violation>,
    pub trace: Trace,
    pub coverage: Coverage,
    pub simulated: Duration,
    pub events: u64,
}

impl World {
    pub fn new(options: Options) -> Self {
        let mut chance = Chance::new(options.seed, 1);
        let mix = FaultMix::draw(&mut chance, options.nodes);
        let cast = cast(options.nodes);
        let regions = if options.nodes < 500 { 3 } else { 6 };
        let hosts = (0..cast.len()).map(|index| Host::new(index % regions)).collect();
        let network = Network::new(hosts, mix.loss);
        let told = (0..cast.len()).map(|index| told(index, &cast, &mut chance)).collect();
        let of = |role: &NodeRole| if *role == NodeRole::RelayNode { RELAY.1 } else { NORMAL.1 };
        let is_relay =
            |(index, role): (usize, &NodeRole)| (*role == NodeRole::RelayNode).then_some(index);
        let relays = cast.iter().enumerate().filter_map(is_relay).collect();
        let checkers = Checkers::new(cast.iter().map(of), relays);
        let node = |(index, role)| SimNode::new(index, role, options.mutation);
        Self {
            scheduler: Scheduler::default(),
            chance,
            mix,
            failing: true,
            network,
            nodes: cast.into_iter().enumerate().map(node).collect(),
            told,
            withdrawn: BTreeSet::new(),
            gone: None,
            chosen: 0,
            version: 1,
            regions,
            checkers,
            coverage: Coverage::default(),
            trace: Trace::default(),
            events: 0,
        }
    }

    /// All phases, or as far as the first violation.
    pub fn run(mut self) -> End {
        self.plan();
        self.advance(FAULTS);
        self.stop_failing();
        self.advance(CONVERGENCE_BOUND);
        self.judge();
        self.checkers.calm();
        self.advance(CALM);
        self.judge();
        End {
            mix: self.mix,
            violation: self.checkers.found().cloned(),
            trace: self.trace,
            coverage: self.coverage,
            simulated: self.scheduler.now().since(Moment::default()),
            events: self.events,
        }
    }

    fn plan(&mut self) {
        let relays: Vec<usize> = self.with_role(NodeRole::RelayNode);
        if self.mix.liar {
            self.network.hosts[relays[0]].swallows = true;
            self.coverage.fault("a relay that swallows");
        }
        if self.mix.full {
            self.network.hosts[relays[1]].capacity = 1;
            self.coverage.fault("a full relay");
        }
        if self.mix.gone {
            let entries = self.with_role(NodeRole::EntryNode);
            let index = self.chance.pick(&entries).copied().unwrap_or(0);
            let when = self.chance.between(Duration::from_secs(40), Duration::from_secs(200));
            self.scheduler.after(when, Event::Gone(index));
        }
        for index in 0..self.nodes.len() {
            let delay = self.chance.between(Duration::ZERO, Duration::from_secs(20));
            self.scheduler.after(delay, Event::Boot(index));
        }
        self.scheduler.after(CHOOSE_EVERY, Event::Choose);
        for trouble in Trouble::ALL {
            if let Some(every) = trouble.every(&self.mix) {
                let first = self.chance.between(Duration::from_secs(5), every * 2);
                self.scheduler.after(first, Event::Trouble(*trouble));
            }
        }
    }

    fn advance(&mut self, span: Duration) {
        let end = self.scheduler.now() + span;
        while self.checkers.found().is_none() {
            let Some(event) = self.scheduler.next(end) else { return };
            self.events += 1;
            let most = MAX_EVENTS * self.nodes.len() as u64;
            assert!(self.events < most, "the world runs in circles");
            self.happen(event);
        }
    }

    fn happen(&mut self, event: Event) {
        let now = self.scheduler.now();
        match event {
            Event::Timer(index) => {
                if self.nodes[index].armed == Some(now) {
                    self.nodes[index].armed = None;
                    self.nodes[index].handle_timeout(now);
                    let lost = self.nodes[index].planted(Mutation::TimerLost);
                    self.settle(index, !lost);
                }
            }
            Event::Boot(index) => self.boot(index),
            Event::Answer { node, boot, other, stays } => self.answer(node, boot, other, stays),
            Event::Silence { node, boot, other } => {
                self.feed(node, boot, answered(now, other, 10_000));
            }
            Event::Through { node, boot, relay, target, passed } => {
                let rtt_us = passed.then_some(30_000);
                let (relay, target) = (id_of(relay), id_of(target));
                self.feed(node, boot, Input::Through { relay, target, rtt_us });
            }
            Event::Lost { node, boot, other } => {
                self.feed(node, boot, Input::Lost { node: id_of(other) });
            }
            Event::Directory(index) => self.tell(index),
            Event::Choose => self.choose(),
            Event::Heal(from, to) => self.network.heal(from, to),
            Event::Lighten(region) => self.network.lighten(region),
            Event::Hear(index) => self.network.hosts[index].outward_loss = 0,
            Event::Gone(index) => self.lose(index),
            Event::Trouble(_) | Event::Flap(..) if !self.failing => {}
            Event::Flap(index, other, left) => self.flap_again(index, other, left),
            Event::Trouble(trouble) => self.trouble(trouble),
        }
    }

    fn feed(&mut self, node: usize, boot: u32, input: Input) {
        if self.nodes[node].boot == boot && self.nodes[node].is_up() {
            let now = self.scheduler.now();
            self.nodes[node].handle(now, input);
            self.settle(node, true);
        }
    }

    fn answer(&mut self, node: usize, boot: u32, other: usize, stays: bool) {
        let now = self.scheduler.now();
        if self.nodes[node].boot != boot || !self.nodes[node].is_up() {
            return;
        }
        match self.network.welcome(other, node, stays) {
            Welcome::Full => self.feed(node, boot, Input::Full { node: id_of(other) }),
            Welcome::Taken => {
                if stays && self.nodes[node].answered.insert(other, Some(now)) == Some(None) {
                    self.trace.note(now, format_args!("node {node} opens {other}"));
                    self.checkers.opened(now, node, other);
                }
                let lies = self.network.hosts[other].swallows;
                let rtt = self.network.rtt(node, other, &mut self.chance);
                let rtt = u32::try_from(rtt.as_micros()).unwrap_or(u32::MAX);
                let rtt_us = if lies { CLAIMED_RTT_US } else { rtt };
                self.feed(node, boot, answered(now, other, rtt_us));
            }
        }
    }

    /// Performs what the node wants done, and arms its timer.
    fn settle(&mut self, index: usize, arm: bool) {
        while let Some(effect) = self.nodes[index].poll_effect() {
            self.perform(index, effect);
        }
        if !arm {
            return;
        }
        let now = self.scheduler.now();
        let node = &mut self.nodes[index];
        let Some(at) = node.poll_timeout() else { return };
        let at = at.max(now);
        if node.armed.is_none_or(|armed| at < armed) {
            node.armed = Some(at);
            self.scheduler.at(at, Event::Timer(index));
        }
    }

    fn perform(&mut self, index: usize, effect: Effect) {
        match effect {
            Effect::Heartbeat { node } => {
                self.coverage.effect("heartbeat");
                let other = index_of(node);
                self.checkers.holds(index, other);
                self.nodes[index].answered.entry(other).or_insert(None);
                self.ask(index, other, true);
            }
            Effect::Probe { node } => {
                self.coverage.effect("probe");
                self.checkers.turned_to(index, index_of(node));
                self.ask(index, index_of(node), false);
            }
            Effect::Release { node } => {
                self.coverage.effect("release");
                let other = index_of(node);
                self.checkers.released(index, other);
                self.nodes[index].answered.remove(&other);
                self.network.hosts[other].inbound.remove(&index);
            }
            Effect::ProbeThrough { relay, target } => {
                self.coverage.effect("probe through");
                self.checkers.leads_through(index, index_of(relay));
                self.ask_through(index, index_of(relay), index_of(target));
            }
            Effect::Refresh => self.coverage.effect("refresh"),
            Effect::Discover => {
                self.coverage.effect("discover");
                let soon = self.chance.between(Duration::from_millis(50), Duration::from_secs(3));
                self.scheduler.after(soon, Event::Directory(index));
            }
            Effect::Recovering(step) => {
                let step = step.map(rap_mesh_core::peers::Step::as_str);
                self.coverage.step(step.unwrap_or("reached"));
                let now = self.scheduler.now();
                let shown = step.unwrap_or("over");
                self.trace.note(now, format_args!("node {index}: recovery {shown}"));
                self.checkers.recovering(index, step);
            }
            Effect::Persist(_) => self.coverage.effect("persist"),
        }
    }

    fn ask(&mut self, index: usize, other: usize, stays: bool) {
        let boot = self.nodes[index].boot;
        if self.network.round_trip(index, other, &mut self.chance) {
            let rtt = self.network.rtt(index, other, &mut self.chance);
            self.scheduler.after(rtt, Event::Answer { node: index, boot, other, stays });
        } else if self.nodes[index].planted(Mutation::SilenceIsAnAnswer) {
            self.scheduler.after(NOTICED / 2, Event::Silence { node: index, boot, other });
        }
    }

    fn ask_through(&mut self, node: usize, relay: usize, target: usize) {
        let boot = self.nodes[node].boot;
        let arrives = self.network.round_trip(node, relay, &mut self.chance)
            && self.network.round_trip(relay, target, &mut self.chance);
        let forwards = arrives && !self.network.hosts[relay].swallows;
        let rtt = self.network.rtt(node, relay, &mut self.chance)
            + self.network.rtt(relay, target, &mut self.chance);
        let passed = forwards || self.nodes[node].planted(Mutation::ThroughSkipped);
        // Who gets no answer waits; the machine counts the time.
        if passed {
            self.scheduler.after(rtt, Event::Through { node, boot, relay, target, passed });
        }
    }

    pub(super) fn boot(&mut self, index: usize) {
        let gone = self.withdrawn.contains(&index) || self.gone == Some(index);
        if self.nodes[index].is_up() || gone {
            return;
        }
        self.network.hosts[index].up = true;
        self.checkers.started(index);
        let directory = self.directory(index);
        self.checkers.told(index, named(&directory));
        let seed = self.chance.number();
        let now = self.scheduler.now();
        self.nodes[index].boot(now, seed, directory);
        self.trace.note(now, format_args!("node {index} starts"));
        self.settle(index, true);
    }

    pub(super) fn crash(&mut self, index: usize) {
        self.nodes[index].crash();
        self.network.hosts[index].up = false;
        for other in self.nodes[index].answered.keys() {
            self.network.hosts[*other].inbound.remove(&index);
        }
        for node in std::mem::take(&mut self.network.hosts[index].inbound) {
            let boot = self.nodes[node].boot;
            self.scheduler.after(NOTICED, Event::Lost { node, boot, other: index });
        }
    }

    fn lose(&mut self, index: usize) {
        self.coverage.fault("gone for good");
        let now = self.scheduler.now();
        self.trace.note(now, format_args!("node {index} breaks for good"));
        self.gone = Some(index);
        if self.nodes[index].is_up() {
            self.crash(index);
        }
    }

    fn tell(&mut self, index: usize) {
        if self.nodes[index].is_up() {
            let now = self.scheduler.now();
            let directory = self.directory(index);
            self.checkers.told(index, named(&directory));
            self.nodes[index].handle(now, Input::Directory { directory, at: calendar(now) });
            self.settle(index, true);
        }
    }

    fn choose(&mut self) {
        let now = self.scheduler.now();
        let entries = self.with_role(NodeRole::EntryNode);
        let choosing = entries.iter().cycle().skip(self.chosen % entries.len());
        self.chosen += entries.len().min(MAX_CHOOSING);
        for index in choosing.take(entries.len().min(MAX_CHOOSING)).copied() {
            if let Some(relay) = self.nodes[index].choose(now) {
                self.checkers.leads_through(index, relay);
            }
        }
        self.scheduler.after(CHOOSE_EVERY, Event::Choose);
    }

    fn stop_failing(&mut self) {
        let now = self.scheduler.now();
        self.trace.note(now, format_args!("nothing fails any more"));
        self.failing = false;
        self.network.heal_all();
        for index in 0..self.nodes.len() {
            self.boot(index);
        }
    }

    fn judge(&mut self) {
        if self.checkers.found().is_some() {
            return;
        }
        let wrong = (0..self.nodes.len()).find_map(|index| self.lack(index));
        if let Some(detail) = wrong {
            self.checkers.violated(CONVERGENCE, detail);
        }
    }

    /// What a node still lacks, though nothing fails.
    fn lack(&self, index: usize) -> Option<String> {
        let book = self.nodes[index].book()?;
        let alive = |other: usize| self.network.hosts[other].up;
        let open = self.checkers.open(index);
        if let Some(dead) = open.iter().find(|other| !alive(**other)) {
            return Some(format!("node {index} holds on to {dead}, which is gone"));
        }
        let now = self.scheduler.now();
        let answered = &self.nodes[index].answered;
        let fresh = |other: &usize| {
            answered.get(other).copied().flatten().is_some_and(|at| now.since(at) < FRESH)
        };
        if let Some(silent) = open.iter().find(|other| !fresh(other)) {
            return Some(format!("node {index} has long heard nothing of {silent}"));
        }
        // Not counted on: a relay that swallows, and one that takes nobody.
        let useful = |other: &&usize| {
            let host = &self.network.hosts[**other];
            host.up && !host.swallows && host.capacity == usize::MAX
        };
        let reachable = self.checkers.named(index).iter().filter(useful).count();
        let relay = self.nodes[index].role == NodeRole::RelayNode;
        let least = if relay { RELAY.0 } else { NORMAL.0 }.min(reachable);
        if open.len() < least {
            let has = open.len();
            return Some(format!("node {index} has {has} peers of {least}, {reachable} are there"));
        }
        let says = book.standing().availability;
        if reachable > 0 && says != Availability::Available {
            return Some(format!("node {index} says {says:?}, and {reachable} are there"));
        }
        if self.nodes[index].role != NodeRole::EntryNode {
            return None;
        }
        let is_relay = |other: &&usize| self.nodes[**other].role == NodeRole::RelayNode;
        let somebody = self.checkers.named(index).iter().filter(useful).any(|it| is_relay(&it));
        let chosen = self.nodes[index].choose(now)?;
        let swallows = self.network.hosts[chosen].swallows || !alive(chosen);
        (somebody && swallows)
            .then(|| format!("node {index} chose {chosen}, which does not forward"))
    }

    fn directory(&self, index: usize) -> Directory {
        let role = self.nodes[index].role;
        let region = self.network.hosts[index].region;
        let mut directory = node::directory(index, role, region, self.version);
        let known = self.told[index].iter().filter(|other| !self.withdrawn.contains(other));
        directory.listed = known
            .map(|other| Listed {
                node: id_of(*other),
                key: node::key_of(*other),
                roles: node::roles(self.nodes[*other].role),
                addresses: vec![([192, 0, 2, 1], 4433).into()],
                region: node::region_name(self.network.hosts[*other].region),
            })
            .collect();
        directory
    }

    pub(super) fn with_role(&self, role: NodeRole) -> Vec<usize> {
        self.nodes.iter().filter(|node| node.role == role).map(|node| node.index).collect()
    }

    pub(super) fn any(&mut self, bound: usize) -> usize {
        usize::try_from(self.chance.below(bound as u64)).unwrap_or(0)
    }
}

fn named(directory: &Directory) -> BTreeSet<usize> {
    directory.listed.iter().map(|listed| index_of(listed.node)).collect()
}

fn answered(now: Moment, other: usize, rtt_us: u32) -> Input {
    let (node, at) = (id_of(other), calendar(now));
    Input::Answered { node, rtt_us, certificate_until: CERTIFICATE_UNTIL, at }
}

/// A tenth relays and a quarter workers, at least three of each; the others are entries.
fn cast(nodes: usize) -> Vec<NodeRole> {
    let (relays, workers) = ((nodes / 10).max(3), (nodes / 4).max(3));
    let role = |index| match index {
        index if index < relays => NodeRole::RelayNode,
        index if index < relays + workers => NodeRole::StreamWorker,
        _ => NodeRole::EntryNode,
    };
    (0..nodes.max(10)).map(role).collect()
}

/// Whom a node may know: those that its role speaks with, and never all of a large fleet.
fn told(index: usize, cast: &[NodeRole], chance: &mut Chance) -> Vec<usize> {
    let roles: &[NodeRole] = match cast[index] {
        NodeRole::RelayNode => &[NodeRole::EntryNode, NodeRole::StreamWorker],
        NodeRole::EntryNode => &[NodeRole::RelayNode, NodeRole::StreamWorker],
        _ => &[NodeRole::EntryNode],
    };
    let mut told = Vec::new();
    for role in roles {
        let mut of_role: Vec<usize> =
            (0..cast.len()).filter(|other| cast[*other] == *role && *other != index).collect();
        while of_role.len() > MAX_TOLD {
            let places = of_role.len() as u64;
            of_role.swap_remove(usize::try_from(chance.below(places)).unwrap_or(0));
        }
        told.extend(of_role);
    }
    told.sort_unstable();
    told
}
