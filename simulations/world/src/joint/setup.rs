//! Who is there at first, and what comes first.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use rap_events::MemoryLog;
use rap_proto::{LeaseClass, Moment, Timestamp};

use crate::{
    beat,
    cast::{self, Places},
    checkers::Checkers,
    clients::Clients,
    control::Control,
    kit::{
        Chance, Stage,
        clock::{DriftClock, START},
        coverage::FAULTS,
        network::Network,
        process::Process,
    },
    lease,
    node::SimNode,
};

use super::{
    FAULT_KINDS, Options,
    faults::{Aim, FaultMix},
    host::{Host, Replica},
    loss::Losses,
    trouble::Trouble,
    way::Way,
    world::{Event, MAX_EVENTS, TAIL_EVERY, World},
};

const MOST_REPLICAS: u64 = 3;

impl World {
    pub fn new(Options { seed, mutation }: Options) -> Self {
        let mut chance = Chance::new(seed, 1);
        let mix = FaultMix::aimed(&mut chance, mutation);
        let (tenants, hosts) = (cast::tenants(), cast::connectors());
        let skew = mix.clock_skew;
        let node = |(index, host): (usize, &cast::Host)| {
            SimNode::new(index, seed, host.clone(), tenants.clone(), skew)
        };
        let mut nodes: Vec<SimNode> = hosts.iter().enumerate().map(node).collect();
        let place = |node: &SimNode| (cast::node_id(&node.public_key()), node.index);
        let places: Arc<Places> = Arc::new(nodes.iter().map(place).collect());
        nodes.iter_mut().for_each(|node| node.meet(places.clone()));
        if mix.unsynced {
            nodes.iter_mut().for_each(SimNode::watch);
        }
        let shown = Arc::new(AtomicI64::new(START.unix_millis()));
        let read = Arc::clone(&shown);
        let primary = Arc::new(MemoryLog::with_clock(move || {
            Timestamp::from_unix_millis(read.load(Ordering::Relaxed))
        }));
        let mut first = Control::new(seed, tenants.clone(), hosts, places.clone());
        if mix.unsynced {
            first.trace();
        }
        let replica = |index: usize| {
            let way = Arc::new(Way::to(&primary));
            let process = Process::new(index, Chance::new(seed, 200 + index as u64));
            Replica { process, control: first.replica(seed, index, &way), way }
        };
        let count = 2 + usize::try_from(chance.below(MOST_REPLICAS - 1)).unwrap_or(0);
        let replicas = (0..count).map(replica).collect();
        if mix.beats {
            nodes.iter_mut().for_each(SimNode::hear_beats);
        }
        let clock = DriftClock::draw(&mut chance);
        let host = |node: SimNode| {
            let process = Process::new(node.index, Chance::new(seed, 300 + node.index as u64));
            Host { process, next_replica: node.index % count, node }
        };
        let checkers = Checkers {
            leases: lease::checkers::Checkers::new(&[LeaseClass::Fast]),
            beat: beat::checkers::Checkers::new(nodes.len(), false),
            ..Checkers::default()
        };
        Self {
            network: Network::default(),
            hosts: nodes.into_iter().map(host).collect(),
            replicas,
            primary,
            primary_up: true,
            origin: clock.show(Moment::default()),
            ahead: Duration::ZERO,
            clock,
            shown,
            clients: Clients::new(seed, tenants, places.clone()),
            places,
            read: 0,
            chain: Vec::new(),
            losses: Losses::default(),
            revoked: BTreeMap::new(),
            grants: 0,
            stage: Stage::new(mutation, chance, mix, checkers, MAX_EVENTS)
                .declare(FAULTS, FAULT_KINDS)
                .declare("grantors", lease::coverage::GRANTS),
        }
    }

    /// Founds the cluster, and schedules what comes first.
    pub(super) fn come_first(&mut self) {
        let now = self.stage.now();
        self.show_clock();
        self.replicas[0].control.found(now);
        self.replicas[0].control.found_connection(now);
        if self.stage.mix.beats {
            let count = self.replicas.len();
            self.replicas[0].control.make_beats(now, count);
            self.stage.within_secs(4, 5, Event::Look);
        }
        if let Some(outage) = self.stage.mix.outage {
            self.stage.within_secs(15, 40, Event::Outage(outage));
        }
        let seconds = Duration::from_secs;
        for index in 0..self.replicas.len() {
            self.stage.after(Duration::from_millis(index as u64), Event::BootReplica(index));
            self.stage.within(TAIL_EVERY, 2 * TAIL_EVERY, Event::Tail(index));
        }
        for index in 0..self.hosts.len() {
            self.stage.within_secs(0, 3, Event::BootNode(index));
        }
        for (event, delay) in
            [(Event::Act, seconds(15)), (Event::Ask, seconds(6)), (Event::Carry, seconds(5))]
        {
            self.stage.after(delay, event);
        }
        if self.stage.mix.unsynced {
            self.stage.after(seconds(5), Event::Sync);
        }
        if self.stage.mix.revocation {
            let latest = if self.stage.mix.aim == Aim::Revocation { 30 } else { 60 };
            self.stage.within_secs(20, latest, Event::Revoke);
        }
        for trouble in Trouble::ALL {
            if let Some(every) = trouble.every(&self.stage.mix) {
                self.stage.within(seconds(5), every + seconds(5), Event::Trouble(*trouble));
            }
        }
    }
}
