//! The fleet's world: who is there, what happens next, and the phases.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use rap_mesh_core::peers::{Input, Step};
use rap_proto::{
    NodeRole,
    api::Availability,
    mesh::{Mesh, MeshRule},
};

use crate::kit::{self, Chance, Phases, Stage, coverage};

use super::{
    EFFECT_KINDS, EFFECTS, EVERYBODY, FAULT_KINDS, FOUND, HOP_COUNTS, HOPS, ONE_ALONE, Options,
    REACHED, RECOVERY, RELAYS, VIEWS,
    checkers::Checkers,
    choice::{CHOOSE_EVERY, REPORT_EVERY},
    directory::{cast, first_of, is_whole, scopes, told},
    faults::FaultMix,
    lie::Lie,
    machines::answered,
    mutation::Mutation,
    network::{Host, Network},
    node::{SimNode, id_of},
    organization::Shown,
    trouble::Trouble,
};

/// How long things go wrong.
pub const FAULTS: Duration = Duration::from_secs(240);
/// How long everything then has to come right.
pub const CONVERGENCE_BOUND: Duration = Duration::from_secs(240);
/// How long nothing may change after that.
pub const CALM: Duration = Duration::from_secs(120);
/// Of one node's kind: at least and at most so many connections while nothing else is said, as the
/// checkers know them.
pub const NORMAL: (usize, usize) = (3, 5);
pub const RELAY: (usize, usize) = (8, 20);
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
    /// Everybody keeps to what was said by now.
    Obeyed,
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
    pub(super) known: Vec<usize>,
    /// Still in the directory, and never there again.
    pub(super) gone: Option<usize>,
    /// How many rounds of choices there were, each for one organization, and how many choices.
    pub(super) rounds: usize,
    pub(super) chosen: usize,
    /// Over which relays each entry leads an organization.
    pub(super) led: BTreeMap<(usize, usize), Vec<usize>>,
    /// Whether every node may know all that its role speaks with: else no path is set up.
    pub(super) is_whole: bool,
    /// What the platform says of the mesh, and as nodes are told it.
    pub(super) rule: MeshRule,
    pub(super) mesh: Mesh,
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
        let is_whole = is_whole(&cast);
        let cast_scopes = scopes(&cast, &mut chance);
        let relays = cast_scopes.iter().copied().enumerate();
        let relays = relays.filter(|(index, _)| cast[*index] == NodeRole::RelayNode);
        let mut checkers = Checkers::new(cast.iter().map(of), relays.collect());
        let [known_relays, entries, workers] =
            [NodeRole::RelayNode, NodeRole::EntryNode, NodeRole::StreamWorker]
                .map(|role| first_of(&cast, role));
        checkers.serve(&entries, &workers);
        let known = [known_relays, entries, workers].concat();
        let with_roles: Vec<_> = known.iter().map(|index| (*index, cast[*index])).collect();
        let shown = Shown::new(&with_roles, mutation);
        let most_events = MAX_EVENTS * cast.len() as u64;
        let nodes = cast.into_iter().zip(cast_scopes).enumerate();
        let node = |(index, given)| SimNode::new(index, given, mutation);
        Self {
            stage: Stage::new(mutation, chance, mix, checkers, most_events)
                .declare(coverage::FAULTS, FAULT_KINDS)
                .declare(EFFECTS, EFFECT_KINDS)
                .declare(RECOVERY, Step::ALL.map(Step::as_str))
                .declare(RECOVERY, [REACHED])
                .declare(RELAYS, [EVERYBODY, ONE_ALONE])
                .declare(HOPS, HOP_COUNTS)
                .declare(FOUND, Lie::ALL.map(Lie::as_str))
                .declare(VIEWS, Availability::ALL.iter().map(|view| view.as_str())),
            network,
            nodes: nodes.map(node).collect(),
            told,
            withdrawn: BTreeSet::new(),
            shown,
            known,
            gone: None,
            rounds: 0,
            chosen: 0,
            led: BTreeMap::new(),
            is_whole,
            rule: MeshRule::default(),
            mesh: Mesh::default(),
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
        if let Some(lie) = self.stage.mix.liar {
            self.network.hosts[relays[0]].lie = Some(lie);
            self.stage.coverage.fault(lie.as_str());
            if lie != Lie::SwallowsAll {
                self.stage.checkers.expect_turns();
            }
        }
        if self.stage.mix.full {
            self.network.hosts[relays[1]].capacity = 1;
            self.stage.checkers.fills(relays[1]);
            self.stage.coverage.fault("a full relay");
        }
        self.wall(&relays);
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
            Event::Obeyed => self.stage.checkers.obeyed(now),
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
