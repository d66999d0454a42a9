//! The fleet's world: who is there, what happens next, and the phases.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use rap_mesh_core::{
    View,
    busy::STEP,
    peers::{Availability, Effect, Input, Said},
    score::GREATEST,
};
use rap_proto::{Moment, NodeRole, Timestamp};

use crate::kit::{self, Chance, Phases, Stage};

use super::{
    EFFECTS, Options, RECOVERY, VIEWS,
    checkers::{CONVERGENCE, Checkers},
    faults::FaultMix,
    mutation::Mutation,
    network::{CLAIMED_RTT_US, Host, Network, Welcome},
    node::{SimNode, calendar, id_of, index_of},
    organization::{MAX_OF_A_ROLE, Shown},
    snapshot::{self, Told},
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
/// How often nodes say to control that they live.
const REPORT_EVERY: Duration = Duration::from_secs(10);
/// Of a large fleet only so many entries choose at once, others the next time.
const MAX_CHOOSING: usize = 64;
/// For each node; more in one run, and the world runs in circles.
const MAX_EVENTS: u64 = 60_000;

#[derive(Debug, Clone)]
pub enum Event {
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
    /// Whoever lives says so, and the organization looks.
    Report,
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
    pub(super) stage: Stage<Self>,
    pub(super) network: Network,
    pub(super) nodes: Vec<SimNode>,
    pub(super) told: Vec<Vec<usize>>,
    pub(super) withdrawn: BTreeSet<usize>,
    /// What control shows one organization, and the nodes that it knows of.
    pub(super) shown: Shown,
    known: Vec<usize>,
    /// Still in the directory, and never there again.
    gone: Option<usize>,
    /// How many choices of a relay were made.
    chosen: usize,
    /// By which relay each entry would lead, as it said last.
    led: BTreeMap<usize, usize>,
    pub(super) version: u64,
    pub(super) regions: usize,
}

impl World {
    pub fn new(Options { seed, nodes, mutation }: Options) -> Self {
        let mut chance = Chance::new(seed, 1);
        let mix = FaultMix::draw(&mut chance, nodes);
        let cast = cast(nodes);
        let regions = if nodes < 500 { 3 } else { 6 };
        let hosts = (0..cast.len()).map(|index| Host::new(index % regions)).collect();
        let network = Network::new(hosts, mix.loss);
        let told = (0..cast.len()).map(|index| told(index, &cast, &mut chance)).collect();
        let of = |role: &NodeRole| if *role == NodeRole::RelayNode { RELAY.1 } else { NORMAL.1 };
        let is_relay =
            |(index, role): (usize, &NodeRole)| (*role == NodeRole::RelayNode).then_some(index);
        let relays = cast.iter().enumerate().filter_map(is_relay).collect();
        let mut checkers = Checkers::new(cast.iter().map(of), relays);
        let [known_relays, entries, workers] =
            [NodeRole::RelayNode, NodeRole::EntryNode, NodeRole::StreamWorker]
                .map(|role| first_of(&cast, role));
        checkers.serve(&entries, &workers);
        let known = [known_relays, entries, workers].concat();
        let with_roles: Vec<_> = known.iter().map(|index| (*index, cast[*index])).collect();
        let shown = Shown::new(&with_roles, mutation);
        let most_events = MAX_EVENTS * cast.len() as u64;
        let node = |(index, role)| SimNode::new(index, role, mutation);
        Self {
            stage: Stage::new(mutation, chance, mix, checkers, most_events),
            network,
            nodes: cast.into_iter().enumerate().map(node).collect(),
            told,
            withdrawn: BTreeSet::new(),
            shown,
            known,
            gone: None,
            chosen: 0,
            led: BTreeMap::new(),
            version: 1,
            regions,
        }
    }
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
        Phases { failing: FAULTS, recovery: CONVERGENCE_BOUND, calm: CALM }
    }

    fn begin(&mut self) {
        let relays: Vec<usize> = self.with_role(NodeRole::RelayNode);
        if self.stage.mix.liar {
            self.network.hosts[relays[0]].swallows = true;
            self.stage.coverage.fault("a relay that swallows");
        }
        if self.stage.mix.full {
            self.network.hosts[relays[1]].capacity = 1;
            self.stage.coverage.fault("a full relay");
        }
        if self.stage.mix.gone {
            let entries = self.with_role(NodeRole::EntryNode);
            let index = self.stage.chance.pick(&entries).copied().unwrap_or(0);
            self.stage.within_secs(40, 200, Event::Gone(index));
        }
        for index in 0..self.nodes.len() {
            self.stage.within_secs(0, 20, Event::Boot(index));
        }
        self.stage.after(CHOOSE_EVERY, Event::Choose);
        self.stage.after(REPORT_EVERY, Event::Report);
        for trouble in Trouble::ALL {
            if let Some(every) = trouble.every(&self.stage.mix) {
                self.stage.within(Duration::from_secs(5), every * 2, Event::Trouble(*trouble));
            }
        }
    }

    fn happen(&mut self, event: Event) {
        let now = self.stage.now();
        match event {
            Event::Timer(index) => {
                if self.stage.fires(&mut self.nodes[index].armed) {
                    self.nodes[index].handle_timeout(now);
                    let lost = self.nodes[index].planted(Mutation::TimerLost);
                    self.settle(index, !lost);
                }
            }
            Event::Boot(index) => self.boot(index),
            Event::Answer { node, boot, other, stays } => self.answer(node, boot, other, stays),
            Event::Silence { node, boot, other } => {
                self.feed(node, boot, answered(now, other, (10_000, None)));
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
            Event::Report => self.report(),
            Event::Heal(from, to) => self.network.heal(from, to),
            Event::Lighten(region) => self.network.lighten(region),
            Event::Hear(index) => self.network.hosts[index].outward_loss = 0,
            Event::Gone(index) => self.lose(index),
            Event::Trouble(_) | Event::Flap(..) if !self.stage.failing => {}
            Event::Flap(index, other, left) => self.flap_again(index, other, left),
            Event::Trouble(trouble) => self.trouble(trouble),
        }
    }

    fn stop_failing(&mut self) {
        self.network.heal_all();
        for index in 0..self.nodes.len() {
            self.boot(index);
        }
    }

    fn judge_recovery(&mut self) {
        self.judge();
        self.stage.checkers.calm();
    }

    fn judge_calm(&mut self) {
        self.judge();
    }
}

impl World {
    fn feed(&mut self, node: usize, boot: u32, input: Input) {
        if self.nodes[node].boot == boot && self.nodes[node].is_up() {
            let now = self.stage.now();
            self.nodes[node].handle(now, input);
            self.settle(node, true);
        }
    }

    fn answer(&mut self, node: usize, boot: u32, other: usize, stays: bool) {
        let now = self.stage.now();
        if self.nodes[node].boot != boot || !self.nodes[node].is_up() {
            return;
        }
        match self.network.welcome(other, node, stays) {
            Welcome::Full => self.feed(node, boot, Input::Full { node: id_of(other) }),
            Welcome::Taken => {
                if stays && self.nodes[node].answered.insert(other, Some(now)) == Some(None) {
                    self.stage.note(format_args!("node {node} opens {other}"));
                    self.stage.checkers.opened(now, node, other);
                }
                let lies = self.network.hosts[other].swallows;
                let rtt = self.network.rtt(node, other, &mut self.stage.chance);
                let rtt = u32::try_from(rtt.as_micros()).unwrap_or(u32::MAX);
                let rtt_us = if lies { CLAIMED_RTT_US } else { rtt };
                let said = Some(self.said_by(other));
                self.feed(node, boot, answered(now, other, (rtt_us, said)));
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
                self.stage.checkers.holds(index, other);
                self.nodes[index].answered.entry(other).or_insert(None);
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
                self.stage.checkers.leads_through(index, index_of(relay));
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
                self.stage.coverage.count(RECOVERY, step.unwrap_or("reached"));
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
        let forwards = arrives && !self.network.hosts[relay].swallows;
        let rtt = self.network.rtt(node, relay, &mut self.stage.chance)
            + self.network.rtt(relay, target, &mut self.stage.chance);
        let passed = forwards || self.nodes[node].planted(Mutation::ThroughSkipped);
        // Who gets no answer waits; the machine counts the time.
        if passed {
            self.stage.after(rtt, Event::Through { node, boot, relay, target, passed });
        }
    }

    pub(super) fn boot(&mut self, index: usize) {
        let gone = self.withdrawn.contains(&index) || self.gone == Some(index);
        if self.nodes[index].is_up() || gone {
            return;
        }
        self.network.hosts[index].up = true;
        self.stage.checkers.started(index);
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
        self.network.hosts[index].up = false;
        for other in self.nodes[index].answered.keys() {
            self.network.hosts[*other].inbound.remove(&index);
        }
        for node in std::mem::take(&mut self.network.hosts[index].inbound) {
            let boot = self.nodes[node].boot;
            self.stage.after(NOTICED, Event::Lost { node, boot, other: index });
        }
    }

    fn lose(&mut self, index: usize) {
        self.stage.coverage.fault("gone for good");
        self.stage.note(format_args!("node {index} breaks for good"));
        self.gone = Some(index);
        if self.nodes[index].is_up() {
            self.crash(index);
        }
    }

    fn tell(&mut self, index: usize) {
        if self.nodes[index].is_up() {
            let now = self.stage.now();
            let view = self.view(index);
            self.stage.checkers.told(index, named(&view));
            self.nodes[index].take(now, view);
            self.settle(index, true);
        }
    }

    fn choose(&mut self) {
        let now = self.stage.now();
        let entries = self.with_role(NodeRole::EntryNode);
        let choosing = entries.iter().cycle().skip(self.chosen % entries.len());
        self.chosen += entries.len().min(MAX_CHOOSING);
        for index in choosing.take(entries.len().min(MAX_CHOOSING)).copied() {
            if let Some(relay) = self.chosen_by(index, now) {
                self.stage.checkers.leads_through(index, relay);
                if let Some(before) = self.led.insert(index, relay) {
                    self.network.hosts[before].carries -= 1;
                }
                self.network.hosts[relay].carries += 1;
            }
        }
        self.stage.after(CHOOSE_EVERY, Event::Choose);
    }

    /// What a host says of itself: of all entries, how many lead through it. One that swallows says that
    /// it is idle.
    fn said_by(&self, index: usize) -> Said {
        let Host { carries, swallows, .. } = &self.network.hosts[index];
        let taken =
            if *swallows { 0 } else { carries * usize::from(GREATEST) / self.led.len().max(1) };
        let load = u16::try_from(taken).unwrap_or(GREATEST) / STEP * STEP;
        Said { load, bandwidth_kbps: u32::MAX }
    }

    /// The relay by which an entry would reach one of the egresses that it knows.
    fn chosen_by(&mut self, index: usize, now: Moment) -> Option<usize> {
        let named = self.stage.checkers.named(index).iter();
        let target = named.copied().find(|it| self.nodes[*it].role == NodeRole::StreamWorker)?;
        self.nodes[index].choose(now, target)
    }

    fn report(&mut self) {
        let now = self.stage.now();
        for index in self.known.iter().copied().filter(|index| self.nodes[*index].is_up()) {
            self.shown.hears(now, index);
            self.stage.checkers.heard(now, index);
        }
        let view = self.shown.view(now);
        self.stage.coverage.count(VIEWS, view.clone());
        self.stage.checkers.shown(now, &view);
        self.stage.after(REPORT_EVERY, Event::Report);
    }

    fn judge(&mut self) {
        if self.stage.violation().is_some() {
            return;
        }
        let mut all = 0..self.nodes.len();
        let wrong = all.find_map(|index| self.lack(index).or_else(|| self.misled(index)));
        if let Some(detail) = wrong {
            self.stage.checkers.verdict.violated(CONVERGENCE, detail);
        }
    }

    /// What a node still lacks, though nothing fails.
    fn lack(&self, index: usize) -> Option<String> {
        let book = self.nodes[index].book()?;
        let alive = |other: usize| self.network.hosts[other].up;
        let open = self.stage.checkers.open(index);
        if let Some(dead) = open.iter().find(|other| !alive(**other)) {
            return Some(format!("node {index} holds on to {dead}, which is gone"));
        }
        let now = self.stage.now();
        let answered = &self.nodes[index].answered;
        let fresh = |other: &usize| {
            answered.get(other).copied().flatten().is_some_and(|at| now.since(at) < FRESH)
        };
        if let Some(silent) = open.iter().find(|other| !fresh(other)) {
            return Some(format!("node {index} has long heard nothing of {silent}"));
        }
        let reachable = self.useful(index).count();
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
        None
    }

    /// Whether an entry would lead a session through a relay that does not forward, though another
    /// one does.
    fn misled(&mut self, index: usize) -> Option<String> {
        if self.nodes[index].role != NodeRole::EntryNode {
            return None;
        }
        let is_relay = |other: usize| self.nodes[other].role == NodeRole::RelayNode;
        let somebody = self.useful(index).any(is_relay);
        let chosen = self.chosen_by(index, self.stage.now())?;
        let host = &self.network.hosts[chosen];
        (somebody && (host.swallows || !host.up))
            .then(|| format!("node {index} chose {chosen}, which does not forward"))
    }

    /// Whom a node knows and can count on: no relay that swallows, and none that takes nobody.
    fn useful(&self, index: usize) -> impl Iterator<Item = usize> {
        let named = self.stage.checkers.named(index).iter().copied();
        named.filter(|other| {
            let host = &self.network.hosts[*other];
            host.up && !host.swallows && host.capacity == usize::MAX
        })
    }

    fn view(&self, index: usize) -> Arc<View> {
        let told = |index: usize| Told {
            index,
            role: self.nodes[index].role,
            region: self.network.hosts[index].region,
        };
        let known = self.told[index].iter().filter(|other| !self.withdrawn.contains(other));
        let mistaken = self.nodes[index].planted(Mutation::RoleNotChecked);
        let peers = known.map(|other| match told(*other) {
            peer if mistaken => Told { role: NodeRole::RelayNode, ..peer },
            peer => peer,
        });
        snapshot::view(told(index), self.version, peers)
    }

    pub(super) fn with_role(&self, role: NodeRole) -> Vec<usize> {
        self.nodes.iter().filter(|node| node.role == role).map(|node| node.index).collect()
    }
}

fn named(view: &View) -> BTreeSet<usize> {
    view.peers().map(|peer| index_of(peer.node)).collect()
}

fn answered(now: Moment, other: usize, (rtt_us, said): (u32, Option<Said>)) -> Input {
    let (node, at) = (id_of(other), calendar(now));
    Input::Answered { node, rtt_us, said, certificate_until: CERTIFICATE_UNTIL, at }
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

/// The nodes of a role that control is asked about.
fn first_of(cast: &[NodeRole], role: NodeRole) -> Vec<usize> {
    (0..cast.len()).filter(|index| cast[*index] == role).take(MAX_OF_A_ROLE).collect()
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
