//! Level 2, sessions: clients reach a resource through whole agents, over the same simulated network.
//!
//! An entry reaches an egress through one of two relays alone. Clients ask control for access, show their
//! token to the entry, and count on an interactive channel, while datagrams are lost and late, relays and
//! replicas of control crash, the network is cut between a relay and an end, and the clients' addresses
//! change. Whatever was said on a channel arrives once and in order, and comes back; no channel ends before
//! its client is done; and of each session that was closed, control's log says that it ended. One seed is one
//! history.
//!
//! How a token gets from control to its client is not simulated, nor are workers.

mod client;

use std::{cell::RefCell, rc::Rc, time::Duration};

use rap_simulations::{
    cast,
    kit::{Chance, Coverage, Report, Violation, caught, coverage::FAULTS},
    level2::{Mutation, SESSIONS},
};

use self::client::{Client, Orders};
use crate::{
    daemons::{
        desk::WHOLE,
        fabric::{CONTROLS, Fabric, latency},
        ground::LOSS_PERMILLE,
    },
    level2::{self, Options},
    meshes::record::Record,
};

/// How many seeds run.
const SEEDS: u64 = 2;
/// By their place in `cast::relayed`.
const ENTRY: usize = 0;
const RELAYS: [&str; 2] = ["relay-1", "relay-2"];
const ENDS: [&str; 2] = ["entry", "egress-0"];
const CLIENTS: [&str; 2] = ["client-0", "client-1"];

/// Everybody is there, and a lane has a second path.
const STARTED: Duration = Duration::from_secs(15);
/// Each kind of trouble comes so often, and when one is over everything has so long to come right.
const ROUNDS: usize = 2;
const SETTLES: Duration = Duration::from_secs(8);
/// How long what clients are at may take in the end, and the log to hear of it.
const ENDING: Duration = Duration::from_secs(30);
/// No run takes longer.
const LASTS: Duration = Duration::from_secs(300);

/// The log knows of each session that it is over.
const ENDED: &str = "ended";
/// The headings of what clients did, and of what their lanes did.
const CHANNELS: &str = "channels";
const LANES: &str = "lanes";

/// What happens to the fabric, one thing after another.
#[derive(Debug, Clone, Copy)]
enum Trouble {
    RelayCrashes,
    RelayIsCut,
    ClientsMove,
    ControlCrashes,
}

const TROUBLES: [Trouble; 4] =
    [Trouble::RelayCrashes, Trouble::RelayIsCut, Trouble::ClientsMove, Trouble::ControlCrashes];

struct World {
    fabric: Fabric,
    orders: Vec<Rc<Orders>>,
}

impl World {
    fn new(options: Options, record: &Record) -> Self {
        let mut fabric = Fabric::found(options, cast::relayed(), record, (LASTS, LASTS));
        fabric.sim.partition(ENDS[0], ENDS[1]);
        let orders: Vec<Rc<Orders>> = CLIENTS.iter().map(|_| Rc::default()).collect();
        for (index, name) in CLIENTS.into_iter().enumerate() {
            let client = Client {
                cluster: fabric.cluster.clone(),
                plane: fabric.plane.clone(),
                desk: fabric.desk.clone(),
                record: record.clone(),
                orders: orders[index].clone(),
                chance: Rc::new(RefCell::new(Chance::new(options.seed, 90 + index as u64))),
                closes: options.plant != Some(Mutation::SessionNotClosed),
            };
            fabric.sim.host(name, move || client::run(client.clone()));
        }
        Self { fabric, orders }
    }

    fn play(mut self) -> Result<Coverage, Violation> {
        self.pass(STARTED)?;
        self.orders.iter().for_each(|orders| orders.begins.set(true));
        self.pass(SETTLES)?;
        for _ in 0..ROUNDS {
            // Each kind, in an order of this seed's.
            let mut left = TROUBLES.to_vec();
            while !left.is_empty() {
                let which = self.fabric.chance.below(left.len() as u64);
                let trouble = left.remove(usize::try_from(which).unwrap());
                self.strike(trouble);
                while !self.fabric.is_whole() {
                    self.fabric.step()?;
                }
                self.pass(SETTLES)?;
            }
        }
        self.orders.iter().for_each(|orders| orders.ends.set(true));
        self.pass(ENDING)?;
        self.judge_end()
    }

    fn pass(&mut self, time: Duration) -> Result<(), Violation> {
        let until = self.fabric.now() + time;
        while self.fabric.now() < until {
            self.fabric.step()?;
        }
        Ok(())
    }

    fn strike(&mut self, trouble: Trouble) {
        let fabric = &mut self.fabric;
        let lasts = fabric.between(2_000, 5_000);
        match trouble {
            Trouble::RelayCrashes => {
                let relay = carrying(fabric);
                fabric.crash(relay, lasts);
            }
            Trouble::RelayIsCut => {
                let (relay, end) = (carrying(fabric), *fabric.chance.pick(&ENDS).unwrap());
                fabric.cut(relay, &[end], false, lasts);
            }
            Trouble::ClientsMove => {
                fabric.coverage.fault("a client that moves");
                self.orders.iter().for_each(|orders| orders.moves.set(true));
            }
            Trouble::ControlCrashes => {
                let replica = *fabric.chance.pick(&CONTROLS).unwrap();
                fabric.crash(replica, lasts);
            }
        }
    }

    fn judge_end(mut self) -> Result<Coverage, Violation> {
        self.fabric.judge_end()?;
        let mut closed = Vec::new();
        for (name, orders) in CLIENTS.iter().zip(&self.orders) {
            if orders.is_busy.get() {
                return Err(Violation::new(WHOLE, format!("{name} is not done with its channel")));
            }
            closed.extend(orders.closed.borrow().iter().copied());
        }
        let open = self.fabric.plane.borrow().open_sessions(&closed);
        if !open.is_empty() {
            return Err(Violation::new(ENDED, format!("open, as the log says: {open:?}")));
        }
        let lanes = self.fabric.status(ENTRY).map(|status| status.mesh.lanes).unwrap_or_default();
        let switches = lanes.iter().map(|lane| lane.switches).sum();
        let said = self.orders.iter().map(|orders| orders.said.get()).sum();
        let coverage = &mut self.fabric.coverage;
        coverage.count_many(CHANNELS, "whole", closed.len() as u64);
        coverage.count_many(CHANNELS, "numbers", said);
        coverage.count_many(LANES, "switches", switches);
        Ok(self.fabric.coverage)
    }
}

/// The relay that carries a lane of the entry; the first one where none does.
fn carrying(fabric: &Fabric) -> &'static str {
    let lanes = fabric.status(ENTRY).map(|status| status.mesh.lanes).unwrap_or_default();
    let relay = lanes.first().and_then(|lane| lane.relay);
    let second = fabric.cluster.node(2);
    if relay == Some(second) { RELAYS[1] } else { RELAYS[0] }
}

pub(crate) fn report(options: Options) -> Report {
    let record = Record::default();
    let outcome = caught(|| World::new(options, &record).play()).flatten();
    let latency = latency(options.seed);
    let mix =
        format!("messages take up to {latency:?}, {LOSS_PERMILLE} of 1,000 datagrams are lost");
    level2::report(SESSIONS, options, &record, outcome, mix)
}

#[test]
fn sessions_through_whole_agents_lose_nothing_while_relays_crash_and_clients_move() {
    if let Some(coverage) = level2::expect_nothing(SESSIONS, SEEDS, report) {
        let kinds = ["a crash of control", "a crash of a node", "a cut", "a client that moves"];
        coverage.expect(FAULTS, &kinds);
        coverage.expect_many(CHANNELS, "whole", 8 * SEEDS);
        coverage.expect_many(CHANNELS, "numbers", 600 * SEEDS);
        coverage.expect_many(LANES, "switches", SEEDS);
    }
}

#[test]
fn one_seed_of_sessions_is_one_history() {
    let [one, other] = [(); 2].map(|()| report(level2::seed(2)));
    assert_eq!((one.digest, one.events), (other.digest, other.events));
    assert_ne!(one.digest, report(level2::seed(4)).digest);
}

#[test]
fn a_number_that_is_taken_in_twice_is_found() {
    level2::expect_bug(Mutation::TakenInTwice, &[WHOLE], SEEDS, report);
}

#[test]
fn a_session_that_is_not_closed_is_found() {
    level2::expect_bug(Mutation::SessionNotClosed, &[ENDED], SEEDS, report);
}
